"""`prune`: a model, a method and an amount in; a cut out, the model changed in place."""

from dataclasses import replace
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from resprout.data.calibration import Calibration, as_windows, read_calibration
from resprout.data.windows import WINDOW_TOKENS
from resprout.models.positions import position_limit
from resprout.models.spread import refuse_spread
from resprout.pruning.adapters import adapter_for
from resprout.pruning.amounts import plural
from resprout.pruning.cut import Cut, check_cut
from resprout.pruning.cutting import cut_units, cut_weights
from resprout.pruning.masks import not_empty
from resprout.pruning.options import HeadUnit
from resprout.pruning.request import Request, read_request
from resprout.pruning.statistics import Progress, shortest
from resprout.pruning.surgery import remove_units
from resprout.refusals import check_callable, check_model


def _quiet(done: int, total: int) -> None:
    pass


def prune(
    model: PreTrainedModel,
    method: str,
    amount: float | None = None,
    *,
    cut: str = "mask",
    scope: str | None = None,
    expansion_rate: float | None = None,
    round_to: int | None = None,
    head_unit: str = "group",
    calibration: Any = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    seed: int = 0,
    protocol: str = "fair",
    dead_threshold: float | None = None,
    dead_unit: str | None = None,
    sequential: bool = False,
    previous: Cut | None = None,
    progress: Progress = _quiet,
) -> Cut:
    """Cut a model in place.

    Args:
        model: a causal model of transformers. Single weights go in any family, larger units in
            those that have an adapter (`resprout.pruning.adapters.FAMILIES`).
        method: a name of `resprout methods`. For weights a pattern may stand behind it
            (`wanda-2:4`) or alone (`2:4`, magnitude).
        amount: fraction of the prunable units to cut, 0 to 1. With a pattern it follows from it.
        cut: `mask` holds weights at zero; `remove` makes tensors really smaller (larger units
            only). Both give the same outputs.
        scope: among which units the lowest scores go: `global`, `per_layer`, `per_row`, or a
            pattern `n:m` (n of every m consecutive inputs stay). Default: the method's own. In a
            layer (and a cell of BioGPT) at least one unit stays.
        expansion_rate: instead of an amount: neurons of an MLP that stay, in per cent of the
            model's width (Martra 2025).
        round_to: the number of neurons that stays is rounded down to a multiple of this.
        head_unit: where query heads share keys and values: `group` = a key-value group with all
            its query heads is one unit; `query` = single query heads, as many from each group.
        calibration: text for methods that need it: token ids (N, T), a `Calibration`, a prepared
            folder, a `TokenSet`; or, with `tokenizer`, texts or a source such as `stdlib`.
        tokenizer: the subject's.
        seed: of random scores, and of windows drawn from a source.
        protocol: `fair` (default) or `paper`: decides the prunable set of weights.
        dead_threshold: a unit with more than this fraction of its weights at zero goes whole,
            biases and norms too. None = none dies.
        dead_unit: which unit can die; default BioGPT's neuron, in other families none.
        sequential: for `wanda`: norms are taken on what the blocks already cut put out, as in the
            authors' program, rather than in one pass through the uncut model. `sparsegpt` always
            does so.
        previous: a mask that the model already has: what it cut goes first and counts.
        progress: called with steps done and steps in all.

    Returns:
        The cut; `cut.achieved` may lie below `cut.requested` (whole units, one of which stays) or
        above it (units that died, rounding).

    Raises:
        ValueError: an option that is not allowed, a model without such units, weights that are
            NaN, calibration that is missing or of another vocabulary. The model is unchanged then.
    """
    check_model(model)
    check_cut(previous, "previous")
    check_callable("progress", progress)
    request = read_request(
        model,
        method,
        amount,
        cut=cut,
        scope=scope,
        expansion_rate=expansion_rate,
        round_to=round_to,
        head_unit=head_unit,
        seed=seed,
        protocol=protocol,
        dead_threshold=dead_threshold,
        dead_unit=dead_unit,
        sequential=sequential,
    )
    refuse_spread(model, "cutting")
    check_previous(model, previous)
    windows = windows_for(model, request, calibration, tokenizer)
    adapter = adapter_for(model)
    if request.method.unit == "weight":
        found = cut_weights(model, adapter, request, windows, previous, progress)
        if request.cut == "remove" and found.dead_units:
            found = remove(model, found)
    else:
        found = cut_units(model, adapter, request, windows, previous, progress)
    if windows is not None:
        N, T = windows.ids.shape
        found.calibration = {
            "source": windows.source,
            "digest": windows.digest,
            "windows": N,
            "tokens_per_window": T,
        }
    if previous is not None:
        found.earlier = previous.history()
    return found


def remove(model: PreTrainedModel, cut: Cut) -> Cut:
    """Turn a mask of whole units into a removal: the same outputs from smaller tensors.

    What died in a cut of single weights is taken out too, and the other masks become smaller with
    their tensors.

    Args:
        model: the model that was cut; changed in place.
        cut: what `prune` returned with `cut="mask"`, after recovery or not.

    Returns:
        The cut as a removal, with the masks that are still to be held.

    Raises:
        ValueError: the cut is a removal already, cut no whole unit, or is another model's.
    """
    check_model(model)
    check_cut(cut, "cut", needed=True)
    if cut.cut == "remove":
        raise ValueError("cut: its units are removed already")
    if cut.group_kind is None:
        raise ValueError(
            f"cut: {cut.method} cut single weights, which leave no smaller tensor; allowed is a "
            "cut of larger units, or one with dead units"
        )
    check_previous(model, cut, "cut")
    adapter = adapter_for(model)
    groups = adapter.groups(cut.group_kind, "query" if cut.head_unit == "query" else "group")
    if [(g.name, g.count) for g in groups] != [(u.name, u.count) for u in cut.groups]:
        raise ValueError(f"cut: its units are not those of this {type(model).__name__}")
    # Where all units of a layer died one stays, whole and zero.
    kept = [u.kept if len(u.kept) else torch.zeros(1, dtype=torch.long) for u in cut.groups]
    masks = remove_units(model, adapter, groups, kept, cut.masks)
    kept_weights = cut.kept if cut.unit == "weight" else None
    return replace(cut, cut="remove", masks=not_empty(masks), kept_weights=kept_weights)


def windows_for(
    model: PreTrainedModel,
    request: Request,
    calibration: Any,
    tokenizer: PreTrainedTokenizerBase | None,
) -> Calibration | None:
    """The calibration windows that a request needs; None where it needs none.

    Raises:
        ValueError: they are missing, too long or short, or of another vocabulary.
    """
    if not request.method.calibrated:
        return None
    if calibration is None:
        raise ValueError(
            f"calibration: missing, {request.name} needs text to score on: token ids (N, T), a "
            "prepared folder, or a source of text"
        )
    rows = int(model.get_input_embeddings().weight.shape[0])
    limit = position_limit(model.config)
    if isinstance(calibration, str) and tokenizer is not None:
        length = min(WINDOW_TOKENS, limit or WINDOW_TOKENS)
        found = read_calibration(
            calibration, tokenizer, length=length, seed=request.seed, vocabulary=rows
        )
    else:
        found = as_windows(calibration, tokenizer, limit, rows)
    shortest(found.ids)
    return found


def check_previous(model: PreTrainedModel, previous: Cut | None, option: str = "previous") -> None:
    """Refuse an earlier cut that is another model's.

    Args:
        model: on any device; on the meta device its weights are not looked at.
        previous: the cut that it is said to have.
        option: what the user calls that.

    Raises:
        ValueError: it does not fit (`check_fits`), or the model's weights do not keep to a mask.
    """
    if previous is None:
        return
    check_fits(model, previous, option)
    parameters = dict(model.named_parameters())
    for name, mask in previous.masks.items():
        if not parameters[name].is_meta and bool(parameters[name].detach()[~mask].any()):
            raise ValueError(f"{option}: weights of {name!r} that it cut are not zero")


def check_fits(model: PreTrainedModel, cut: Cut, option: str) -> None:
    """Refuse a cut that can be no cut of this model, by shapes alone.

    Args:
        model: on any device.
        cut: that it is said to have.
        option: what the user calls the cut.

    Raises:
        ValueError: a mask that fits no parameter; a removal that left other units than the model
            has.
    """
    if cut.cut == "remove" and cut.group_kind is not None:
        head_unit: HeadUnit = "query" if cut.head_unit == "query" else "group"
        has = [g.count for g in adapter_for(model).groups(cut.group_kind, head_unit)]
        left = [max(1, len(units.kept)) for units in cut.groups]
        if has != left:
            raise ValueError(
                f"{option}: the manifest of another model: it left {sum(left)} "
                f"{plural(cut.group_kind)} in {len(left)} groups, this "
                f"{type(model).__name__} has {sum(has)} in {len(has)}"
            )
    parameters = dict(model.named_parameters())
    for name, mask in cut.masks.items():
        if name not in parameters or parameters[name].shape != mask.shape:
            raise ValueError(f"{option}: its mask of {name!r} does not fit this model")
