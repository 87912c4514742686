"""Which single weights go: a method's scores over a model's prunable weights, in a scope."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from resprout.pruning import scores
from resprout.pruning.adapters import Adapter
from resprout.pruning.amounts import count_to_cut, parse_pattern
from resprout.pruning.masks import Masks
from resprout.pruning.matrices import (
    from_matrices,
    input_columns,
    owner_of,
    reads_inputs,
    to_matrices,
)
from resprout.pruning.request import Request
from resprout.pruning.selection import (
    PlacedScore,
    RandomScore,
    Score,
    WandaScore,
    keep_highest,
    keep_n_of_m,
    keep_per_layer,
    keep_per_row,
)
from resprout.pruning.sequential import each_block
from resprout.pruning.sparsegpt import sparsegpt
from resprout.pruning.statistics import InputNorms, Progress, input_norms


def check_readable(model: nn.Module, names: Sequence[str]) -> None:
    """Refuse weights whose inputs no hook can see.

    Raises:
        ValueError: naming the first.
    """
    for name in names:
        if not reads_inputs(owner_of(model, name)):
            raise ValueError(
                f"method: calibrated scores know linear layers and convolutions, {name} is part of "
                f"a {type(owner_of(model, name)).__name__}"
            )


@torch.no_grad()
def weight_masks(
    model: PreTrainedModel,
    adapter: Adapter,
    request: Request,
    prunable: dict[str, nn.Parameter],
    ids: Tensor | None,
    held: Masks,
    progress: Progress,
) -> Masks:
    """Masks of the prunable weights, True = kept, by parameter name.

    The model is not changed, but by `sparsegpt`, whose weights make up for those that go.

    Args:
        model: with numbers in it.
        adapter: of its family.
        request: what to cut.
        prunable: name -> parameter.
        ids: (N, T) calibration windows, where the method needs them.
        held: masks of an earlier cut.
        progress: told of steps done.

    Raises:
        ValueError: a score is NaN; a prunable weight that the forward pass never uses.
    """
    if request.method.score == "sparsegpt":
        assert ids is not None
        return _sparsegpt(model, adapter, request, prunable, ids, held, progress)
    if request.method.score == "wanda":
        assert ids is not None
        check_readable(model, list(prunable))
        if request.sequential:
            return _wanda_in_order(model, adapter, request, prunable, ids, held, progress)
        modules = {name: owner_of(model, name) for name in prunable}
        norms = input_norms(model, list(dict.fromkeys(modules.values())), ids, progress)
        if request.scope == "global":
            return _globally(prunable, _global_wanda(modules, norms, prunable), request, held)
        return {
            name: _by_matrix(
                modules[name],
                parameter,
                scores.wanda(to_matrices(modules[name], parameter), norms[modules[name]]),
                request,
                held.get(name),
            )
            for name, parameter in prunable.items()
        }
    if request.scope == "global":
        score = RandomScore(request.seed) if request.method.score == "random" else scores.magnitude
        return _globally(prunable, score, request, held)
    masks = {}
    for place, (name, parameter) in enumerate(prunable.items()):
        module = owner_of(model, name)
        if request.method.score == "random":
            found = scores.uniform(parameter.numel(), request.seed, place).view(parameter.shape)
        else:
            found = scores.magnitude(parameter.detach())
        masks[name] = _by_matrix(
            module, parameter, to_matrices(module, found), request, held.get(name)
        )
        progress(place + 1, len(prunable))
    return masks


def _globally(
    prunable: dict[str, nn.Parameter], score: Score | PlacedScore, request: Request, held: Masks
) -> Masks:
    weights = [parameter.detach() for parameter in prunable.values()]
    assert request.amount is not None
    cut = count_to_cut(sum(weight.numel() for weight in weights), request.amount)
    kept = keep_highest(weights, score, cut, held=[held.get(name) for name in prunable])
    return dict(zip(prunable, kept, strict=True))


def _global_wanda(
    modules: dict[str, nn.Module],
    norms: dict[nn.Module, Tensor],
    prunable: dict[str, nn.Parameter],
) -> WandaScore:
    """The norms laid over each weight in its own shape, as views where the layout allows it."""
    laid = []
    for name, parameter in prunable.items():
        module = modules[name]
        matrices = to_matrices(module, parameter)
        wide = norms[module][:, None].expand(matrices.shape)  # (g, r, c)
        laid.append(wide[0].T if matrices.stride(-1) != 1 else wide.reshape(parameter.shape))
    return WandaScore(laid)


def _by_matrix(
    module: nn.Module,
    parameter: nn.Parameter,
    matrices: Tensor,
    request: Request,
    held: Tensor | None,
) -> Tensor:
    """The mask of one parameter, in its own shape, from the scores of its matrices (g, r, c)."""
    earlier = None if held is None else to_matrices(module, held.to(matrices.device))
    kept = _kept(matrices, request, earlier)
    return from_matrices(module, kept, parameter.shape).to(parameter.device)


def _kept(matrices: Tensor, request: Request, held: Tensor | None) -> Tensor:
    if request.scope == "per_layer":
        assert request.amount is not None
        return keep_per_layer(matrices.contiguous(), request.amount, held)
    if request.scope == "per_row":
        assert request.amount is not None
        return keep_per_row(matrices, request.amount, held)
    return keep_n_of_m(matrices, *parse_pattern(request.scope), held)


def _inside(block: nn.Module, prunable: dict[str, nn.Parameter]) -> dict[str, nn.Module]:
    """Name of each prunable parameter of a block -> the module that holds it."""
    names = {id(parameter): name for name, parameter in prunable.items()}
    return {
        names[id(parameter)]: module
        for module in block.modules()
        for parameter in module.parameters(recurse=False)
        if id(parameter) in names
    }


def _wanda_in_order(
    model: PreTrainedModel,
    adapter: Adapter,
    request: Request,
    prunable: dict[str, nn.Parameter],
    ids: Tensor,
    held: Masks,
    progress: Progress,
) -> Masks:
    """Each block's norms on what the blocks already cut put out, as in the authors' program.

    The weights cut on the way are put back, so that the model changes only when all is known.
    """
    masks: Masks = {}
    saved: dict[str, Tensor] = {}
    try:
        blocks = list(adapter.blocks())
        for layer, forward in each_block(model, blocks, ids, progress):
            own = _inside(blocks[layer], prunable)
            hooks = InputNorms(list(dict.fromkeys(own.values())))
            try:
                forward()
            finally:
                hooks.remove()
            for name, module in own.items():
                weight = prunable[name]
                found = scores.wanda(to_matrices(module, weight.detach()), hooks.norms(module))
                mask = _by_matrix(module, weight, found, request, held.get(name))
                saved[name] = weight.detach()[~mask]
                masks[name] = mask
                weight.masked_fill_(~mask, 0)
    finally:
        for name, values in saved.items():
            prunable[name].detach()[~masks[name]] = values
    return {name: masks[name] for name in prunable}


class _Hessians:
    """Hooks that add up X X^T of what modules read, (g, c, c) fp32."""

    def __init__(self, modules: Sequence[nn.Module]):
        self.sums: dict[nn.Module, Tensor] = {}
        self.handles = [module.register_forward_pre_hook(self._add) for module in modules]

    def _add(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = input_columns(module, inputs[0].detach()).float()  # (g, n, c)
        if module not in self.sums:
            self.sums[module] = x.new_zeros(x.shape[0], x.shape[2], x.shape[2])
        self.sums[module].baddbmm_(x.transpose(1, 2), x)

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()


def _sparsegpt(
    model: PreTrainedModel,
    adapter: Adapter,
    request: Request,
    prunable: dict[str, nn.Parameter],
    ids: Tensor,
    held: Masks,
    progress: Progress,
) -> Masks:
    check_readable(model, list(prunable))
    if any(not parameter.isfinite().all() for parameter in prunable.values()):
        raise ValueError("score: some weights are NaN or infinite, which has no place in an order")
    blocks = list(adapter.blocks())
    inside = [_inside(block, prunable) for block in blocks]
    if outside := prunable.keys() - {name for own in inside for name in own}:
        raise ValueError(
            f"protocol: {request.rules.name!r} also cuts weights outside the blocks "
            f"({len(outside)} matrices), which sparsegpt does not reach; allowed is 'fair'"
        )
    pattern = parse_pattern(request.scope) if ":" in request.scope else None
    amount = None if pattern else request.amount
    masks: Masks = {}
    for layer, forward in each_block(model, blocks, ids, progress):
        hessians = _Hessians(list(dict.fromkeys(inside[layer].values())))
        try:
            forward()
        finally:
            hessians.remove()
        for name, module in inside[layer].items():
            weight = prunable[name]
            matrices = to_matrices(module, weight.detach())
            own = held.get(name)
            earlier: Any = [None] * len(matrices)
            if own is not None:
                earlier = to_matrices(module, own.to(weight.device))
            found = [
                sparsegpt(matrix, hessian, amount=amount, pattern=pattern, held=before)
                for matrix, hessian, before in zip(
                    matrices, hessians.sums[module], earlier, strict=True
                )
            ]
            new, kept = (torch.stack(parts) for parts in zip(*found, strict=True))
            weight.copy_(from_matrices(module, new, weight.shape))
            masks[name] = from_matrices(module, kept, weight.shape)
    return {name: masks[name] for name in prunable}
