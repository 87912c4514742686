"""How large a cut model is and what a token costs it, counted on its shapes and masks."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from resprout.models.cost import count_cost
from resprout.models.description import skeleton
from resprout.pruning.adapters import adapter_for
from resprout.pruning.cut import Cut
from resprout.pruning.masks import zeros
from resprout.pruning.protocols import protocol

# Modules that multiply each of their weights once per position that they put out.
_PRODUCTS = (nn.Linear, Conv1D, nn.Conv1d)


def parameter_counts(model: PreTrainedModel, cut: Cut) -> dict[str, Any]:
    """Parameters and operations of a cut model; a tied tensor counts once.

    - `total`, `prunable`, `nonzero`, and `surviving` = total - held at zero. `nonzero` may lie a
      little under `surviving`: a bias that training never moved from 0 survives, and is zero.
    - `non_embedding`: `surviving` without those of the embeddings (of tokens and positions) and of
      the output head.
    - what `operations` says.
    """
    parameters = dict(model.named_parameters())
    held = {name: zeros(mask) for name, mask in cut.masks.items()}
    outside = embedding_parameters(model)
    total = sum(parameter.numel() for parameter in parameters.values())
    return {
        "total": total,
        "prunable": cut.prunable_parameters,
        "nonzero": sum(int(torch.count_nonzero(p)) for p in parameters.values()),
        "surviving": total - cut.held,
        "non_embedding": sum(
            parameter.numel() - held.get(name, 0)
            for name, parameter in parameters.items()
            if id(parameter) not in outside
        ),
        **operations(model, held),
    }


def embedding_parameters(model: PreTrainedModel) -> set[int]:
    """The `id` of each parameter of the embeddings, of tokens or positions, and of the head."""
    modules = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    modules += [model.get_input_embeddings(), model.get_output_embeddings()]
    return {id(p) for module in modules if module is not None for p in module.parameters()}


def operations(model: PreTrainedModel, held: dict[str, int]) -> dict[str, Any]:
    """FLOPs per token of the forward pass, counted on a skeleton without weights.

    - `flops_per_token`: as `models.cost` counts, in a context of `flops_context_tokens`. Zeros
      count as any number.
    - `effective_flops_per_token`: the same less 2 for each weight held at zero and each use of it
      per token (BioGPT with two passes uses its blocks twice): what kernels that skip every zero
      would do. Attention keeps its whole cost, and so do biases, norms and the elementwise rest.

    What cannot be counted is None, and `flops_not_counted` says why.

    Args:
        model: the cut model; its configuration (and `reshaped`) says its sizes.
        held: parameter name -> how many of its weights are held at zero.
    """
    found: dict[str, Any] = {
        "flops_per_token": None,
        "effective_flops_per_token": None,
        "flops_context_tokens": None,
    }
    try:
        bare = skeleton(copy.deepcopy(model.config))
        _check_shapes(model, bare)
        uses = _Uses(bare)
        cost = count_cost(bare)
        found |= {
            "flops_per_token": cost.flops_per_token,
            "flops_context_tokens": cost.context_tokens,
        }
        skipped = uses.skipped(held, cost.context_tokens)
    except Exception as error:  # any model's own code runs here; a point must not be lost by it
        return found | {"flops_not_counted": f"{type(error).__name__}: {error}"}
    return found | {"effective_flops_per_token": cost.flops_per_token - skipped}


def _check_shapes(model: nn.Module, bare: nn.Module) -> None:
    """Refuse a skeleton that is not the model's own: its count would be another model's."""
    shapes = {name: p.shape for name, p in bare.named_parameters()}
    for name, parameter in model.named_parameters():
        if shapes.pop(name, None) != parameter.shape:
            raise ValueError(f"{name} is not of the shape that the configuration says")
    if shapes:
        raise ValueError(f"the configuration says a {next(iter(shapes))}, the model has none")


class _Uses:
    """Counts how many positions each product of a skeleton puts out in its first whole pass."""

    def __init__(self, bare: PreTrainedModel):
        self.bare = bare
        self.positions: dict[int, int] = {}  # by id of the module
        self.done = False
        bare.register_forward_pre_hook(lambda *_: self._begin())
        bare.register_forward_hook(lambda *_: self._end())
        for module in bare.modules():
            if isinstance(module, _PRODUCTS):
                module.register_forward_hook(self._note)

    def _begin(self) -> None:
        if not self.done:  # a pass before this one that broke off does not count
            self.positions = {}

    def _end(self) -> None:
        self.done = True

    def _note(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        if not self.done:
            places = output.numel() // _outputs(module)
            self.positions[id(module)] = self.positions.get(id(module), 0) + places

    def skipped(self, held: dict[str, int], tokens: int) -> float:
        """FLOPs per token of the weights held at zero, over a pass of so many tokens.

        Raises:
            ValueError: a weight that something else than a product uses.
        """
        parameters = dict(self.bare.named_parameters())
        zeros_of = {id(parameters[name]): (name, count) for name, count in held.items()}
        weights = adapter_for(self.bare).prunable(protocol("fair"))
        flops = 0.0
        for module in self.bare.modules():
            for parameter in module.parameters(recurse=False):
                name, count = zeros_of.get(id(parameter), ("", 0))
                if isinstance(module, _PRODUCTS) and parameter.ndim >= 2:
                    flops += 2 * count * self.positions.get(id(module), 0) / tokens
                elif count and name in weights:
                    kind = type(module).__name__
                    raise ValueError(f"how often a {kind} uses {name} is not known")
        return flops


def _outputs(module: nn.Module) -> int:
    """How many numbers a product puts out per position."""
    if isinstance(module, nn.Linear):
        return module.out_features
    width = module.nf if isinstance(module, Conv1D) else module.out_channels
    assert isinstance(width, int)
    return width
