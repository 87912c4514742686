"""The adapter of any family: finds the blocks and the prunable weights by role, never by name."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from resprout.models.modeling_head_agency import HeadAgency
from resprout.pruning.amounts import Kind
from resprout.pruning.families import check_kind
from resprout.pruning.options import HeadUnit
from resprout.pruning.protocols import Protocol
from resprout.pruning.units import Group, Part

# Fields of configurations that hold one entry per layer.
_PER_LAYER = ("layer_types", "no_rope_layers")


class Adapter:
    """Roles of a model's modules. Families override what the structure alone does not tell.

    Attributes:
        kinds: the units above the weight that the family has.
        dying: the kind that dead-unit removal looks at unless told otherwise.
    """

    kinds: tuple[Kind, ...] = ()
    dying: Kind | None = None

    def __init__(self, model: PreTrainedModel):
        self.model = model
        self.config: Any = model.config.get_text_config(decoder=True)

    def blocks(self) -> nn.ModuleList:
        """The list of blocks: the outermost ModuleList with one entry per hidden layer.

        Raises:
            ValueError: the model has no such list, so what lies inside its blocks is unknown.
        """
        layers = getattr(self.config, "num_hidden_layers", None)
        for module in self.model.modules():
            if isinstance(module, nn.ModuleList) and len(module) == layers:
                return module
        raise ValueError(
            f"model: {type(self.model).__name__} has no list of {layers} blocks, "
            "so its prunable weights are unknown"
        )

    def each_block(self) -> list[Any]:
        """The blocks, of whatever class the family has."""
        return list(self.blocks())

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

    def groups(self, kind: Kind, head_unit: HeadUnit = "group") -> list[Group]:
        """All units of a kind, a group per layer (or per cell, or one of all layers).

        Args:
            kind: what a unit is.
            head_unit: where several query heads share keys and values: `group` = they go together,
                keys and values with them; `query` = single query heads, as many from each group.

        Raises:
            ValueError: the family has no such units.
        """
        check_kind(kind, self.model.config.model_type)
        if kind == "layer":
            return [self.layer_group()]
        found = [
            group
            for layer, block in enumerate(self.blocks())
            for group in self.groups_of(block, layer, kind, head_unit)
        ]
        return [self._with_agency(group) for group in found] if kind == "head" else found

    def groups_of(
        self, block: nn.Module, layer: int, kind: Kind, head_unit: HeadUnit
    ) -> list[Group]:
        """A block's units of a kind that the family has; not `layer`."""
        raise NotImplementedError

    def layer_group(self) -> Group:
        """The blocks themselves as units."""
        blocks = self.blocks()
        whole = tuple((block,) for block in blocks)
        return Group("layer", None, "all layers", len(blocks), whole=whole)

    def gates(self, group: Group) -> Tensor | None:
        """(units,) gates of a group's heads, where the model has agency; 0 of withdrawn ones."""
        agency = self._agency_of(group)
        if agency is None:
            return None
        gates = agency.gate_values().detach() * (agency.state_factor > 0)
        return gates.view(group.count, -1).mean(1)  # of a key-value group: of its query heads

    def _agency_of(self, group: Group) -> HeadAgency | None:
        modules = [module for module, _ in group.outputs]
        for parent in self.model.modules():
            agency = getattr(parent, "agency", None)
            if isinstance(agency, HeadAgency) and any(m in modules for m in parent.children()):
                return agency
        return None

    def _with_agency(self, group: Group) -> Group:
        """Heads with their gates and states, which go with them but are no weights."""
        agency = self._agency_of(group)
        if agency is None:
            return group
        index = torch.arange(len(agency.gates)).view(group.count, -1)
        tensors = [(name, 0) for name, t in agency.named_parameters() if t.ndim == 1]
        tensors += [(name, t.ndim - 1) for name, t in agency.named_buffers() if t.ndim]
        parts = [Part(agency, name, dim, index, masked=False) for name, dim in tensors]
        return replace(group, parts=(*group.parts, *parts))

    def drop_whole(self, group: Group, kept: Tensor) -> None:
        """Take out the modules of units that are whole modules."""
        assert group.kind == "layer"
        blocks = self.blocks()
        stays = [int(unit) for unit in kept]
        survivors = [blocks[unit] for unit in stays]
        del blocks[:]
        blocks.extend(survivors)
        for name in _PER_LAYER:
            if (value := getattr(self.config, name, None)) is not None:
                setattr(self.config, name, [value[unit] for unit in stays])
        self.config.num_hidden_layers = len(stays)
        for layer, block in enumerate(survivors):
            for module in block.modules():
                if hasattr(module, "layer_idx"):  # their place in the cache
                    setattr(module, "layer_idx", layer)  # noqa: B010 (not a tensor or module)

    def fit_block(self, block: nn.Module) -> None:
        """Bring a block's own numbers (how many heads) in line with its tensors."""

    def uniform(self) -> list[dict[str, Any]]:
        """Fields by which the family's configuration would say the present sizes, if it can.

        One dictionary per question (heads, MLP width); a size that differs between layers has
        none.
        """
        return []


def same(sizes: list[int]) -> int | None:
    """The one size of all layers, if there is one."""
    return sizes[0] if len(set(sizes)) == 1 else None


def stride_of(heads: int, width: int, count: int, first: int = 0) -> Tensor:
    """(heads, count * width): the places of each head in `count` stacked parts (Q, K, V)."""
    one = torch.arange(heads * width).view(heads, width)
    return torch.cat([one + first + part * heads * width for part in range(count)], dim=1)
