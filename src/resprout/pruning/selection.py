"""Selection: from scores and an amount to which units go. Pure functions of tensors.

The k-th smallest of hundreds of millions of scores is found exactly without joining or sorting
them: a sorted sample brackets it, one pass counts what lies below the bracket and gathers the
little that lies inside, and the counts prove that the k-th is there (else it is widened).
"""

import math
from collections.abc import Callable, Sequence
from numbers import Real

import torch
from torch import Tensor

Score = Callable[[Tensor], Tensor]
_CHUNK = 1 << 20  # elements looked at together: few enough to stay in the processor's cache
_SAMPLE = 1 << 20


def count_to_cut(units: int, amount: float) -> int:
    """How many of `units` an amount asks for: the nearest whole number, as in torch's pruning.

    Raises:
        ValueError: the amount is not a fraction from 0 to 1.
    """
    check_amount(amount)
    return round(float(amount) * units)


def check_amount(amount: float) -> None:
    """Refuse what is not a fraction from 0 to 1, and guess at a percentage."""
    if isinstance(amount, bool) or not isinstance(amount, Real):  # numpy's numbers are Real too
        raise ValueError(f"amount: got {amount!r}, allowed is a number from 0 to 1")
    if not 0 <= amount <= 1:
        hint = f"; did you mean {amount / 100:g}?" if 1 < amount <= 100 else ""
        raise ValueError(f"amount: got {amount!r}, allowed is a fraction from 0 to 1{hint}")


def keep_highest(weights: Sequence[Tensor], score: Score, cut: int) -> list[Tensor]:
    """Masks that cut the `cut` lowest-scored elements of all tensors together.

    Args:
        weights: tensors of any shapes, on any devices.
        score: elementwise, tensor -> tensor of the same shape; called on flat chunks.
        cut: how many elements go, of all tensors together.

    Returns:
        One boolean mask per tensor, True = kept; exactly `cut` elements are False. Of equal
        scores at the threshold the first in order go first.

    Raises:
        ValueError: a score is NaN (it has no place in an order).
    """
    total = sum(weight.numel() for weight in weights)
    assert 0 <= cut <= total
    if cut == 0:
        return [torch.ones_like(weight, dtype=torch.bool) for weight in weights]
    exact = torch.float64 if any(w.dtype == torch.float64 for w in weights) else torch.float32

    def scored(piece: Tensor) -> Tensor:
        return score(piece).to(exact)  # a low precision would round the threshold

    threshold, ties_to_cut = _threshold(weights, scored, cut)
    masks = []
    for weight in weights:
        pieces = []
        for piece in _pieces(weight):
            scores = scored(piece)
            kept = scores >= threshold
            if ties_to_cut:
                tied = scores == threshold
                if (ties := int(tied.count_nonzero())) > 0:
                    # Ties beyond the number still to cut are kept, from the last in order.
                    kept &= ~tied | (tied.cumsum(0) > ties_to_cut)
                    ties_to_cut -= min(ties, ties_to_cut)
            pieces.append(kept)
        masks.append(torch.cat(pieces).view(weight.shape) if pieces else weight.bool())
    return masks


def _threshold(weights: Sequence[Tensor], scored: Score, cut: int) -> tuple[float, int]:
    """The `cut`-th lowest score, and how many elements of just that score go."""
    total = sum(weight.numel() for weight in weights)
    step = max(1, total // _SAMPLE)
    samples = [scored(weight.detach().flatten()[::step]).cpu() for weight in weights]
    sample = torch.cat(samples).sort().values
    rank = cut * len(sample) // total
    margin = 4 * math.isqrt(len(sample)) + 1  # 8 standard deviations of the rank at its widest
    while True:
        low = float(sample[rank - margin]) if rank >= margin else -math.inf
        high = float(sample[rank + margin]) if rank + margin < len(sample) else math.inf
        below, at_low, inside, at_high = _bracket(weights, scored, low, high)
        if below < cut <= below + at_low:
            return low, cut - below
        place = cut - below - at_low
        if 0 < place <= len(inside):
            threshold = inside.kthvalue(place).values
            return float(threshold), place - int((inside < threshold).sum())
        if 0 < place <= len(inside) + at_high:
            return high, place - len(inside)
        margin *= 8


def _bracket(
    weights: Sequence[Tensor], scored: Score, low: float, high: float
) -> tuple[int, int, Tensor, int]:
    """How many scores lie below and at `low`, those strictly between, and how many at `high`."""
    below = at_low = at_high = 0
    inside = []
    for weight in weights:
        for piece in _pieces(weight):
            scores = scored(piece)
            if scores.sum().isnan() and scores.isnan().any():  # the sum tells first, and cheaply
                raise ValueError("score: some weights are NaN, which has no place in an order")
            below += int((scores < low).count_nonzero())
            at_low += int((scores == low).count_nonzero())
            inside.append(scores[(scores > low) & (scores < high)].cpu())
            if high > low:
                at_high += int((scores == high).count_nonzero())
    return below, at_low, torch.cat(inside), at_high


def _pieces(weight: Tensor) -> Sequence[Tensor]:
    return weight.detach().flatten().split(_CHUNK) if weight.numel() else ()
