"""The two ways of cutting: single weights by masks, whole units by masks or out of the tensors."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from resprout.data.calibration import Calibration
from resprout.pruning.adapters import Adapter
from resprout.pruning.cut import Cut, CutUnits
from resprout.pruning.masks import Masks, apply_masks, both, not_empty, zeros
from resprout.pruning.request import Request, parameter_names, rates
from resprout.pruning.statistics import Progress
from resprout.pruning.surgery import remove_units
from resprout.pruning.unit_scores import unit_scores
from resprout.pruning.units import Group, unit_masks
from resprout.pruning.units_selection import keep_counts, keep_units
from resprout.pruning.weights import weight_masks


def cut_weights(
    model: PreTrainedModel,
    adapter: Adapter,
    request: Request,
    windows: Calibration | None,
    previous: Cut | None,
    progress: Progress,
) -> Cut:
    """Hold single weights at zero, and whole units that have died of it; see `prune`."""
    prunable = adapter.prunable(request.rules)
    held = previous.masks if previous is not None else {}
    ids = None if windows is None else windows.ids
    masks = weight_masks(model, adapter, request, prunable, ids, held, progress)
    units: list[CutUnits] = []
    dead: list[str] = []
    groups: list[Group] = []
    if request.dead_unit is not None and request.dead_threshold is not None:
        groups = adapter.groups(request.dead_unit, request.head_unit)
        units, dead = dying(model, groups, masks, request.dead_threshold)
        names = parameter_names(model)
        gone = unit_masks(groups, [group.kept for group in units])
        masks = both(masks, {names[key]: mask for key, mask in gone.items()})
    masks = both(held, masks)
    apply_masks(model, masks)
    return Cut(
        method=request.name,
        unit="weight",
        scope=request.scope,
        protocol=request.rules.name,
        requested=request.amount or 0.0,
        masks=masks,
        prunable_names=list(prunable),
        prunable_parameters=sum(parameter.numel() for parameter in prunable.values()),
        removed=sum(map(zeros, masks.values())),
        dead_units=dead,
        groups=units,
        group_kind=request.dead_unit,
        head_unit=request.head_unit if any(group.shared for group in groups) else None,
        seed=request.seed,
    )


def cut_units(
    model: PreTrainedModel,
    adapter: Adapter,
    request: Request,
    windows: Calibration | None,
    previous: Cut | None,
    progress: Progress,
) -> Cut:
    """Mask or take out whole units; see `prune`."""
    groups = request.groups(adapter)
    names = parameter_names(model)
    earlier = previous.masks if previous is not None else {}
    before = held_units(groups, {key: earlier.get(name) for key, name in names.items()})
    ids = None if windows is None else windows.ids
    scores = unit_scores(model, adapter, groups, request.method.score, ids, request.seed, progress)
    kept = _kept(adapter, request, groups, scores, before)
    requested = request.amount
    if requested is None:
        assert request.expansion_rate is not None
        wanted = sum(rates(adapter, groups, request.expansion_rate))
        requested = 1 - wanted / sum(group.count for group in groups)
    sizes = [group.sizes() for group in groups]
    if request.cut == "remove":
        before_removal = _parameters(model)
        masks = not_empty(remove_units(model, adapter, groups, kept, earlier))
        removed = before_removal - _parameters(model)
    else:
        gone = unit_masks(groups, kept)
        masks = both(earlier, {names[key]: mask for key, mask in gone.items()})
        apply_masks(model, masks)
        removed = sum(map(zeros, masks.values()))
    return Cut(
        method=request.name,
        unit=request.method.unit,
        scope=request.scope,
        protocol=request.rules.name,
        requested=requested,
        masks=masks,
        prunable_parameters=sum(int(size.sum()) for size in sizes),
        removed=removed,
        cut="remove" if request.cut == "remove" else "mask",
        groups=[
            CutUnits(group.name, group.count, stays)
            for group, stays in zip(groups, kept, strict=True)
        ],
        group_kind=groups[0].kind,
        head_unit=request.head_unit if any(group.shared for group in groups) else None,
        seed=request.seed,
    )


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _kept(
    adapter: Adapter,
    request: Request,
    groups: Sequence[Group],
    scores: Sequence[Tensor],
    before: Sequence[Tensor | None],
) -> list[Tensor]:
    """The units that stay, per group."""
    if request.expansion_rate is not None:
        counts = rates(adapter, list(groups), request.expansion_rate)
        if request.round_to is not None:
            m = request.round_to
            counts = [
                count // m * m or min(m, group.count)
                for count, group in zip(counts, groups, strict=True)
            ]
        return keep_counts(scores, counts, held=before)
    assert request.amount is not None
    fixed = [torch.tensor(sorted(group.fixed), dtype=torch.long) for group in groups]
    kept = keep_units(
        [score.index_fill(0, f, torch.inf) for score, f in zip(scores, fixed, strict=True)],
        request.amount,
        scope="global" if request.scope == "global" else "per_layer",
        strata=[group.strata for group in groups],
        round_to=request.round_to,
        held=before,
    )
    return [torch.cat(pair).unique() for pair in zip(kept, fixed, strict=True)]


def dying(
    model: nn.Module, groups: Sequence[Group], masks: Masks, threshold: float
) -> tuple[list[CutUnits], list[str]]:
    """The units that have more than `threshold` of their prunable weights cut.

    Args:
        model: whose parameters the masks name.
        groups: of one kind.
        masks: of the prunable weights, True = kept.

    Returns:
        Per group which units stay, and the names of those that do not.
    """
    held = {key: masks.get(name) for key, name in parameter_names(model).items()}
    units, dead = [], []
    for group in groups:
        total, gone = torch.zeros(group.count), torch.zeros(group.count)
        for of, rows in mask_rows(group, held):
            if rows is not None:
                total[of] += rows.shape[1]
                gone[of] += (~rows).sum(1)
        stays = ~((total > 0) & (gone > threshold * total))
        units.append(CutUnits(group.name, group.count, stays.nonzero().flatten()))
        kind = group.kind.replace("_", " ")
        dead += [f"{group.name} {kind} {unit}" for unit in (~stays).nonzero().flatten().tolist()]
    return units, dead


def held_units(groups: Sequence[Group], held: dict[int, Tensor | None]) -> list[Tensor | None]:
    """Per group which units an earlier mask left, (units,); None where it touched none.

    A unit is gone where every parameter that it has masks for is zero in all of it.
    """
    found: list[Tensor | None] = []
    for group in groups:
        alive = torch.zeros(group.count, dtype=torch.bool)
        seen = False
        for of, rows in mask_rows(group, held):
            seen = seen or rows is not None
            alive[of] |= rows is None or rows.any(1)
        found.append(alive if seen and not alive.all() else None)
    return found


def mask_rows(
    group: Group, held: Mapping[int, Tensor | None]
) -> Iterator[tuple[slice, Tensor | None]]:
    """What masks say of a group, parameter by parameter.

    Yields:
        Which units, and per unit its weights there, (units, weights), True = kept; None where the
        parameter has no mask.
    """
    for part in group.parts:
        if part.masked:
            mask = held.get(id(part.parameter))
            if mask is not None:
                mask = mask.cpu().movedim(part.dim, 0)[part.index.flatten()]
                mask = mask.reshape(group.count, -1)
            yield slice(None), mask
    for unit, modules in enumerate(group.whole):
        for parameter in (p for module in modules for p in module.parameters()):
            mask = held.get(id(parameter))
            yield slice(unit, unit + 1), None if mask is None else mask.cpu().reshape(1, -1)
