"""The adapter of any family: finds the blocks and the prunable weights by role, never by name."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from resprout.pruning.protocols import Protocol


@dataclass(frozen=True)
class DeadUnit:
    """A unit that can die: its prunable weights, and all that goes with it when it does."""

    name: str
    weights: list[str]
    parameters: list[str]


class Adapter:
    """Roles of a model's modules. Families override what the structure alone does not tell."""

    def __init__(self, model: PreTrainedModel):
        self.model = model

    def blocks(self) -> nn.ModuleList:
        """The list of blocks: the outermost ModuleList with one entry per hidden layer.

        Raises:
            ValueError: the model has no such list, so what lies inside its blocks is unknown.
        """
        config = self.model.config.get_text_config(decoder=True)
        layers = getattr(config, "num_hidden_layers", None)
        for module in self.model.modules():
            if isinstance(module, nn.ModuleList) and len(module) == layers:
                return module
        raise ValueError(
            f"model: {type(self.model).__name__} has no list of {layers} blocks, "
            "so its prunable weights are unknown"
        )

    def is_used(self, module: nn.Module) -> bool:
        """Whether the forward pass uses a module of the blocks."""
        return True

    def extra_paper_weights(self) -> Iterator[nn.Parameter]:
        """Weights outside the blocks that the published study of this family also cut."""
        return iter(())

    def prunable(self, protocol: Protocol) -> dict[str, nn.Parameter]:
        """The weights that may be cut: name -> parameter, in the model's order, each tensor once.

        All parameters of two or more dimensions (products and convolution kernels) inside the
        blocks that the forward pass uses; embeddings, norms, biases, gates and the head never
        (`fair`). `paper` adds what the published study of the family cut besides.

        Raises:
            ValueError: nothing in the model is prunable.
        """
        chosen: set[int] = set()
        for block in self.blocks():
            for module in block.modules():
                if not isinstance(module, nn.Embedding) and self.is_used(module):
                    own = module.parameters(recurse=False)
                    chosen.update(id(p) for p in own if p.ndim >= 2)
        if protocol.cuts_as_published:
            chosen.update(id(parameter) for parameter in self.extra_paper_weights())
        # A tied tensor is one object under several names: named_parameters gives it once. One
        # that is shared with an embedding is an embedding.
        embeddings = {
            id(parameter)
            for module in self.model.modules()
            if isinstance(module, nn.Embedding)
            for parameter in module.parameters(recurse=False)
        }
        prunable = {
            name: parameter
            for name, parameter in self.model.named_parameters()
            if id(parameter) in chosen - embeddings
        }
        if not prunable:
            raise ValueError(f"model: {type(self.model).__name__} has no prunable weights")
        return prunable

    def dead_units(self) -> list[DeadUnit]:
        """Units that dead-unit removal looks at; none where the family has none."""
        return []
