"""Selection of whole units: which neurons, heads or layers stay. Pure functions of tensors.

A layer's scores are one tensor (count,), higher = keep. The lowest go, and of equal scores the
first in order. A layer may be divided into strata, equal consecutive parts that must all lose the
same number (the query heads that share a key-value head).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from resprout.pruning.amounts import check_amount

Held = Sequence[Tensor | None] | None


def keep_units(
    scores: Sequence[Tensor],
    amount: float,
    *,
    scope: Literal["per_layer", "global"] = "per_layer",
    strata: Sequence[int] | None = None,
    round_to: int | None = None,
    held: Held = None,
    may_empty: bool = False,
) -> list[Tensor]:
    """Indices of the units that stay, per layer.

    Args:
        scores: per layer (count,).
        amount: fraction of the units that go, 0 to 1.
        scope: `per_layer`: each layer (each stratum) loses its lowest int(amount * count), but
            keeps one, as OptiPFair counts; `global`: the lowest int(amount * total) of all go, but
            the highest of each layer stays.
        strata: per layer the number of its strata; None = one each. Not with `global`.
        round_to: the number that stays in a layer is rounded down to a multiple of this, at least
            one multiple (all, where the layer has fewer), by cutting further lowest. Layers that
            lose nothing stay as they are.
        held: per layer a boolean mask (count,) of an earlier cut, True = kept, or None. What went
            then goes first and counts; nothing comes back.
        may_empty: a layer may lose all its units; only one of the whole list must stay.

    Returns:
        Per layer the kept indices, ascending, int64, on the device of its scores.

    Raises:
        ValueError: a bad amount, scope or rounding; a count that its strata do not divide; strata
            with `global` or `may_empty`; a score that is NaN; a mask of another shape.
    """
    check_amount(amount)
    if scope not in ("per_layer", "global"):
        raise ValueError(f"scope: got {scope!r}, allowed are per_layer, global")
    if round_to is not None and (type(round_to) is not int or round_to < 1):
        raise ValueError(f"round_to: got {round_to!r}, allowed is a whole number from 1")
    layers = _layers(scores, strata, held)
    most = max((layer.strata for layer in layers), default=1)
    if most > 1 and (scope == "global" or may_empty):
        option = "scope global" if scope == "global" else "may_empty"
        raise ValueError(f"strata: got {most} with {option}, allowed is 1: strata must lose alike")
    if scope == "global":
        kept = _kept_globally(layers, float(amount), may_empty)
    else:
        kept = _kept_per_layer(layers, float(amount), may_empty)
    if round_to is not None:
        kept = [_rounded(layer, k, round_to) for layer, k in zip(layers, kept, strict=True)]
    return [layer.highest(k) for layer, k in zip(layers, kept, strict=True)]


def keep_counts(
    scores: Sequence[Tensor],
    counts: Sequence[int],
    *,
    strata: Sequence[int] | None = None,
    held: Held = None,
) -> list[Tensor]:
    """Indices of the `counts[i]` highest units of each layer; arguments as in `keep_units`.

    Layers with strata keep counts[i] / strata in each. Fewer stay where an earlier cut left fewer.

    Raises:
        ValueError: a count below 0, above the layer's units, or that the strata do not divide; a
            score that is NaN; a mask of another shape.
    """
    layers = _layers(scores, strata, held)
    kept = []
    for layer, count in zip(layers, counts, strict=True):
        if not 0 <= count <= layer.strata * layer.size or count % layer.strata:
            raise ValueError(
                f"counts: got {count}, allowed is 0 to {layer.strata * layer.size}"
                + (f" in multiples of {layer.strata}" if layer.strata > 1 else "")
            )
        kept.append(min(count // layer.strata, layer.left))
    return [layer.highest(k) for layer, k in zip(layers, kept, strict=True)]


@dataclass
class _Layer:
    """The units of one layer as (strata, size), on the CPU."""

    scores: Tensor  # fp64: exact for every precision, and layers may differ in theirs
    alive: Tensor  # False = an earlier cut took it
    device: torch.device

    @property
    def strata(self) -> int:
        return self.scores.shape[0]

    @property
    def size(self) -> int:
        return self.scores.shape[1]

    @property
    def left(self) -> int:
        """How many an earlier cut left, in the stratum where it left the fewest."""
        return int(self.alive.sum(1).min())

    def order(self) -> Tensor:
        """(strata, size) indices within the stratum: the earlier cut first, then the lowest."""
        lowest = self.scores.argsort(dim=1, stable=True)
        return lowest.gather(1, self.alive.gather(1, lowest).int().argsort(dim=1, stable=True))

    def highest(self, count: int) -> Tensor:
        """Indices within the layer of the `count` highest of each stratum, ascending."""
        kept = self.order()[:, self.size - count :].sort(1).values  # (strata, count)
        return (kept + torch.arange(self.strata).unsqueeze(1) * self.size).flatten().to(self.device)


def _layers(scores: Sequence[Tensor], strata: Sequence[int] | None, held: Held) -> list[_Layer]:
    layers = []
    parts = [1] * len(scores) if strata is None else strata
    masks = [None] * len(scores) if held is None else held
    for i, (score, part, mask) in enumerate(zip(scores, parts, masks, strict=True)):
        if score.dim() != 1:
            raise ValueError(f"scores: got shape {tuple(score.shape)}, allowed is (units,)")
        if score.isnan().any():
            raise ValueError(f"score: units of layer {i} are NaN, which has no place in an order")
        if part < 1 or len(score) % part:
            raise ValueError(
                f"strata: got {part} for {len(score)} units, allowed is a divisor of their number"
            )
        if mask is not None and (mask.shape != score.shape or mask.dtype != torch.bool):
            raise ValueError(
                f"held: got a mask of {tuple(mask.shape)} {mask.dtype}, allowed is "
                f"{tuple(score.shape)} torch.bool"
            )
        alive = torch.ones(score.shape, dtype=torch.bool) if mask is None else mask.cpu()
        size = len(score) // part
        values = score.detach().cpu().double()
        layers.append(_Layer(values.view(part, size), alive.view(part, size), score.device))
    return layers


def _kept_per_layer(layers: list[_Layer], amount: float, may_empty: bool) -> list[int]:
    """How many stay in each stratum of each layer."""
    kept = []
    for layer in layers:
        count = layer.size - int(amount * layer.size)
        kept.append(min(count if may_empty else max(count, 1), layer.left))
    if may_empty and not any(kept):
        together, owners = _together(layers)
        if together.left:
            kept[int(owners[together.order()[0, -1]])] = 1
    return kept


def _kept_globally(layers: list[_Layer], amount: float, may_empty: bool) -> list[int]:
    """How many stay in each layer when all compete."""
    together, owners = _together(layers)
    order = together.order()[0]
    safe = torch.zeros(together.size, dtype=torch.bool)
    if may_empty:
        safe[order[-1:]] = True
    else:
        for i in range(len(layers)):
            safe[order[owners[order] == i][-1:]] = True  # the highest of the layer
    safe &= together.alive[0]
    cut = max(int(amount * together.size), together.size - together.left)
    gone = order[~safe[order]][:cut]
    lost = owners[gone].bincount(minlength=len(layers)).tolist()
    return [layer.size - count for layer, count in zip(layers, lost, strict=True)]


def _together(layers: list[_Layer]) -> tuple[_Layer, Tensor]:
    """The units of layers without strata as one, and the number of each unit's layer."""
    none = torch.empty(1, 0)
    scores = torch.cat([none.double(), *(layer.scores for layer in layers)], dim=1)
    alive = torch.cat([none.bool(), *(layer.alive for layer in layers)], dim=1)
    sizes = torch.tensor([layer.size for layer in layers], dtype=torch.int64)
    owners = torch.arange(len(layers)).repeat_interleave(sizes)
    return _Layer(scores, alive, torch.device("cpu")), owners


def _rounded(layer: _Layer, kept: int, multiple: int) -> int:
    """How many stay in each stratum so that the layer keeps a multiple."""
    if kept in (0, layer.size):
        return kept
    step = multiple // math.gcd(multiple, layer.strata)  # the layer has `strata` times this
    return min(max(kept // step * step, step), layer.left)
