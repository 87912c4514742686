"""Selection: from scores and an amount to which units go. Pure functions of tensors.

The k-th smallest of hundreds of millions of scores is found exactly without sorting or joining
them: a float's bits, read as an integer, are ordered as the floats are, so two histograms (of the
high and then of the low 16 bits) give the threshold to the last bit, a chunk at a time.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Score = Callable[[Tensor], Tensor]
_CHUNK = 1 << 22  # elements looked at together: 16 MiB of scores
_BUCKETS = 1 << 16


def count_to_cut(units: int, amount: float) -> int:
    """How many of `units` an amount asks for: the nearest whole number, as in torch's pruning.

    Raises:
        ValueError: the amount is not a fraction from 0 to 1.
    """
    check_amount(amount)
    return round(amount * units)


def check_amount(amount: float) -> None:
    """Refuse what is not a fraction from 0 to 1, and guess at a percentage."""
    if isinstance(amount, bool) or not isinstance(amount, int | float):
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
    threshold, ties_to_cut = _threshold(weights, score, cut)
    masks = []
    for weight in weights:
        pieces = []
        for piece in _pieces(weight):
            keys = _ordered_keys(score(piece))
            kept = keys > threshold
            tied = keys == threshold
            if ties_to_cut and (ties := int(tied.sum())):
                # Ties beyond the number still to cut are kept, from the last in order.
                kept |= tied & (tied.cumsum(0) > ties_to_cut)
                ties_to_cut -= min(ties, ties_to_cut)
            else:
                kept |= tied
            pieces.append(kept)
        masks.append(torch.cat(pieces).view(weight.shape) if pieces else weight.bool())
    return masks


def _threshold(weights: Sequence[Tensor], score: Score, cut: int) -> tuple[int, int]:
    """The key of the `cut`-th lowest score, and how many elements with that key go."""

    def histogram(prefix: int | None) -> Tensor:
        counts = torch.zeros(_BUCKETS, dtype=torch.int64)
        for weight in weights:
            for piece in _pieces(weight):
                scores = score(piece)
                if prefix is None and bool(scores.isnan().any()):
                    raise ValueError("score: some weights are NaN, which has no place in an order")
                keys = _ordered_keys(scores)
                high = (keys >> 16) + _BUCKETS // 2
                bucket = high if prefix is None else (keys & 0xFFFF)[high == prefix]
                counts += torch.bincount(bucket, minlength=_BUCKETS).cpu()
        return counts

    def locate(counts: Tensor, rank: int) -> tuple[int, int]:
        """The bucket in which the `rank`-th element lies, and its rank within the bucket."""
        below = counts.cumsum(0)
        bucket = int(torch.searchsorted(below, rank))
        return bucket, rank - (int(below[bucket - 1]) if bucket else 0)

    high, rank = locate(histogram(None), cut)
    low, rank = locate(histogram(high), rank)
    return ((high - _BUCKETS // 2) << 16) | low, rank


def _pieces(weight: Tensor) -> Sequence[Tensor]:
    return weight.detach().flatten().split(_CHUNK) if weight.numel() else ()


def _ordered_keys(scores: Tensor) -> Tensor:
    """int32 keys in the order of the scores; -0 and 0 are equal."""
    bits = (scores.float() + 0.0).view(torch.int32)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)
