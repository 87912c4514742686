"""Selection: from scores and an amount to which weights go. Pure functions of tensors.

`keep_highest` (threshold.py) chooses among all tensors together; here each matrix is by itself.
Weights are seen as matrices (g, r, c): g groups, r output rows, c input columns. Everywhere the
lowest scores go, and of equal scores the first in order. `held` is the mask of an earlier cut,
True = kept: what went then goes first, counts, and never comes back.
"""

import torch
from torch import Tensor

from resprout.pruning.amounts import check_amount, check_pattern, count_to_cut
from resprout.pruning.placed_scores import PlacedScore, RandomScore, WandaScore
from resprout.pruning.threshold import Score, keep_highest

__all__ = [
    "PlacedScore",
    "RandomScore",
    "Score",
    "WandaScore",
    "keep_highest",
    "keep_n_of_m",
    "keep_per_layer",
    "keep_per_row",
    "without_lowest",
]

_CHUNK = 1 << 18  # elements looked at together


def keep_per_layer(scores: Tensor, amount: float, held: Tensor | None = None) -> Tensor:
    """Of one tensor the lowest round(amount * elements) go.

    Args:
        scores: (g, r, c), or any shape.
        amount: fraction, 0 to 1.
        held: mask of an earlier cut, same shape.

    Returns:
        Mask of the same shape, True = kept.

    Raises:
        ValueError: a bad amount, or a score that is NaN.
    """
    cut = count_to_cut(scores.numel(), amount)
    return keep_highest([scores], lambda values: values, cut, held=[held])[0]


def keep_per_row(scores: Tensor, amount: float, held: Tensor | None = None) -> Tensor:
    """Of each output row the lowest int(amount * c) go: the comparison group of Wanda.

    The count is that of the authors' program (Sun et al. 2023, section 3; github locuslab/wanda).

    Args:
        scores: (g, r, c); rows are the last dimension.
        amount: fraction, 0 to 1.
        held: mask of an earlier cut, same shape.

    Returns:
        Mask of the same shape, True = kept.

    Raises:
        ValueError: a bad amount, or a score that is NaN.
    """
    check_amount(amount)
    return without_lowest(scores, int(float(amount) * scores.shape[-1]), held)


def keep_n_of_m(scores: Tensor, n: int, m: int, held: Tensor | None = None) -> Tensor:
    """Of every m consecutive input columns the n highest stay.

    A last, shorter group of k columns loses floor(k * (m - n) / m).

    Args:
        scores: (g, r, c); columns are the last dimension.
        n: how many stay, 1 <= n < m.
        m: how many columns stand together.
        held: mask of an earlier cut, same shape.

    Returns:
        Mask of the same shape, True = kept.

    Raises:
        ValueError: n and m are not as above, or a score is NaN.
    """
    check_pattern(n, m, f"{n}:{m}")
    columns = scores.shape[-1]
    whole = columns // m * m

    def grouped(tensor: Tensor, start: int, stop: int, size: int) -> Tensor:
        return tensor[..., start:stop].unflatten(-1, (-1, size))  # (..., groups, size)

    kept = torch.empty(scores.shape, dtype=torch.bool, device=scores.device)
    for start, stop, size in ((0, whole, m), (whole, columns, columns - whole)):
        if start < stop:
            earlier = None if held is None else grouped(held, start, stop, size)
            cut = size * (m - n) // m
            part = without_lowest(grouped(scores, start, stop, size), cut, earlier)
            kept[..., start:stop] = part.flatten(-2)
    return kept


def without_lowest(scores: Tensor, cut: int, held: Tensor | None = None) -> Tensor:
    """Of each row the `cut` lowest go.

    Args:
        scores: (..., c).
        cut: how many of each row, 0 to c.
        held: mask of an earlier cut, same shape.

    Returns:
        Mask of the same shape, True = kept.

    Raises:
        ValueError: a score is NaN.
    """
    columns = scores.shape[-1]
    assert 0 <= cut <= columns
    if scores.isnan().any():
        raise ValueError("score: some weights are NaN, which has no place in an order")
    if cut == 0 or scores.numel() == 0:
        return torch.ones_like(scores, dtype=torch.bool) if held is None else held.clone()
    rows = max(1, _CHUNK // columns)
    flat = scores.reshape(-1, columns).split(rows)
    masks = [None] * len(flat) if held is None else held.reshape(-1, columns).split(rows)
    kept = [_rows_without(part, cut, mask) for part, mask in zip(flat, masks, strict=True)]
    return torch.cat(kept).view(scores.shape)


def _rows_without(scores: Tensor, cut: int, held: Tensor | None) -> Tensor:
    """The same of some rows, (n, c)."""
    if held is not None:
        scores = scores.masked_fill(~held, -torch.inf)
    threshold = scores.kthvalue(cut, dim=-1, keepdim=True).values  # (n, 1)
    kept = scores > threshold
    if int(kept.count_nonzero()) == len(kept) * (kept.shape[1] - cut):
        return kept  # all that tie with a threshold go: no tie to break
    tied = scores == threshold
    if held is not None:
        tied &= held  # what went before is no tie, though its score may be -inf as well
    ties_to_cut = cut - (~(kept | tied)).sum(-1, keepdim=True)  # (n, 1)
    return kept | (tied & (tied.cumsum(-1) > ties_to_cut))
