"""SparseGPT: which weights of a matrix go, and what the rest become to make up for it.

Frantar and Alistarh 2023, "SparseGPT: Massive Language Models Can Be Accurately Pruned in
One-Shot", algorithm 1, as in the authors' program. Pure functions of tensors.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from resprout.pruning.amounts import check_amount
from resprout.pruning.selection import without_lowest

_INNER = 16  # columns whose errors are spread one by one; the block's others get them together
_ATTEMPTS = 4


def sparsegpt(
    weight: Tensor,
    hessian: Tensor,
    amount: float | None = None,
    pattern: tuple[int, int] | None = None,
    block: int = 128,
    damp: float = 0.01,
    held: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Cut a matrix column by column, each time correcting the columns that follow.

    A weight's score is w^2 / d^2 with d the diagonal of the upper Cholesky factor of the inverse
    Hessian: what cutting it costs in output error when the columns after it make up for it. Inputs
    that are always zero (a zero on the Hessian's diagonal) have their weights set to zero, as in
    the authors' program, which need not show in the mask.

    Args:
        weight: (r, c) output rows, input columns.
        hessian: (c, c) X X^T of the layer's inputs, at any scale.
        amount: of each block of columns the lowest int(amount * weights) go, as the correction of
            the blocks before left them. Either this or `pattern`.
        pattern: (n, m): of every m consecutive columns n stay (as in `keep_n_of_m`).
        block: columns chosen together; with a pattern a whole number of its groups.
        damp: this times the mean of the Hessian's diagonal is added to it; ten times more, up to
            three times, while it is not positive definite.
        held: (r, c) mask of an earlier cut, True = kept; what went then goes first and counts.

    Returns:
        The new weight (r, c), of the given one's dtype and zero wherever it was cut, and the mask
        (r, c), True = kept. Computed in fp32, or in float64 where the weight is.

    Raises:
        ValueError: a bad option, shapes that do not fit, values that are not finite, or a Hessian
            that damping does not make positive definite.
    """
    _check(weight, hessian, amount, pattern, block, damp, held)
    exact = torch.float64 if weight.dtype == torch.float64 else torch.float32
    columns = weight.shape[1]
    if weight.numel() == 0:
        return weight.detach().clone(), torch.ones_like(weight, dtype=torch.bool)
    # (c, r): a column is one run of memory. Always a copy, which `contiguous` of one row is not.
    moving = weight.detach().t().to(exact, copy=True).contiguous()
    moving[hessian.diagonal().to(weight.device) == 0] = 0
    factor = _inverse_factor(hessian.detach().to(weight.device, exact, copy=True), damp)  # (c, c)
    choice = _Choice(amount, pattern)
    if pattern is not None:
        block = max(1, block // pattern[1]) * pattern[1]
    kept = torch.empty_like(moving, dtype=torch.bool)  # (c, r)
    earlier = None if held is None else held.to(weight.device).t()
    for start in range(0, columns, block):
        place = slice(start, start + block)
        errors = _prune_block(
            moving[place],
            factor[place, place],
            kept[place],
            choice,
            None if earlier is None else earlier[place],
        )
        moving[start + block :] -= factor[place, start + block :].t() @ errors
    return moving.t().to(weight.dtype).contiguous(), kept.t().contiguous()


@dataclass(frozen=True)
class _Choice:
    """Which of some columns' weights go."""

    amount: float | None
    pattern: tuple[int, int] | None

    def of_block(self, columns: Tensor, diagonal: Tensor, held: Tensor | None) -> Tensor:
        """(b, r) columns, (b,) diagonal -> mask (b, r): the lowest of all together."""
        assert self.amount is not None
        # Rows first, so that of equal scores the first in the matrix's own order go.
        scores = (columns / diagonal.unsqueeze(1)).square().t().reshape(1, -1)
        before = None if held is None else held.t().reshape(1, -1)
        cut = int(float(self.amount) * scores.numel())
        return without_lowest(scores, cut, before).view(columns.t().shape).t()

    def of_group(self, columns: Tensor, diagonal: Tensor, held: Tensor | None) -> Tensor:
        """(m, r) columns, (m,) diagonal -> mask (m, r): the lowest of each row."""
        assert self.pattern is not None
        n, m = self.pattern
        scores = (columns / diagonal.unsqueeze(1)).square().t()  # (r, m), or fewer at the end
        before = None if held is None else held.t()
        return without_lowest(scores, len(columns) * (m - n) // m, before).t()


def _prune_block(
    columns: Tensor, factor: Tensor, kept: Tensor, choice: _Choice, held: Tensor | None
) -> Tensor:
    """Prune (b, r) columns in place and fill in their mask; the errors (b, r) for later blocks."""
    diagonal = factor.diagonal()  # (b,)
    inner = _INNER if choice.pattern is None else choice.pattern[1]
    if choice.pattern is None:
        kept.copy_(choice.of_block(columns, diagonal, held))
    errors = torch.zeros_like(columns)
    for start in range(0, len(columns), inner):
        stop = min(start + inner, len(columns))
        # The errors of all columns of the block before this group, in one product.
        columns[start:stop] -= factor[:start, start:stop].t() @ errors[:start]
        if choice.pattern is not None:
            before = None if held is None else held[start:stop]
            kept[start:stop] = choice.of_group(columns[start:stop], diagonal[start:stop], before)
        for i in range(start, stop):
            torch.div(columns[i].masked_fill(kept[i], 0), diagonal[i], out=errors[i])  # (r,)
            columns[i].masked_fill_(~kept[i], 0)
            columns[i + 1 : stop].addr_(factor[i, i + 1 : stop], errors[i], alpha=-1)
    return errors


def _inverse_factor(hessian: Tensor, damp: float) -> Tensor:
    """Upper Cholesky factor U of the damped Hessian's inverse = U^T U; overwrites `hessian`."""
    diagonal = hessian.diagonal()
    diagonal[diagonal == 0] = 1
    shift, added = damp * float(diagonal.mean()), 0.0
    for attempt in range(_ATTEMPTS):
        diagonal += shift * 10**attempt - added
        added = shift * 10**attempt
        lower, failed = torch.linalg.cholesky_ex(hessian)
        if int(failed) == 0:
            upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
            if int(failed) == 0 and bool(upper.isfinite().all()):
                return upper
    raise ValueError(
        f"hessian: not positive definite with damp {damp:g} or {10 ** (_ATTEMPTS - 1)} times that; "
        "allowed is X X^T of a layer's inputs"
    )


def _check(
    weight: Tensor,
    hessian: Tensor,
    amount: float | None,
    pattern: tuple[int, int] | None,
    block: int,
    damp: float,
    held: Tensor | None,
) -> None:
    if (amount is None) == (pattern is None):
        raise ValueError(
            f"amount, pattern: got {amount!r} and {pattern!r}, allowed is exactly one of them"
        )
    if amount is not None:
        check_amount(amount)
    if pattern is not None and not 1 <= pattern[0] < pattern[1]:
        raise ValueError(f"pattern: got {pattern!r}, allowed is (n, m) with 1 <= n < m")
    if type(block) is not int or block < 1:
        raise ValueError(f"block: got {block!r}, allowed is a whole number from 1")
    if not 0 <= damp < float("inf"):
        raise ValueError(f"damp: got {damp!r}, allowed is a number from 0")
    if weight.dim() != 2 or hessian.shape != (weight.shape[1], weight.shape[1]):
        raise ValueError(
            f"hessian: got shape {tuple(hessian.shape)} for a weight of {tuple(weight.shape)}, "
            "allowed is (columns, columns) for (rows, columns)"
        )
    if held is not None and (held.shape != weight.shape or held.dtype != torch.bool):
        raise ValueError(
            f"held: got a mask of {tuple(held.shape)} {held.dtype}, allowed is "
            f"{tuple(weight.shape)} torch.bool"
        )
    for name, tensor in (("weight", weight), ("hessian", hessian)):
        if not tensor.isfinite().all():
            raise ValueError(f"{name}: got values that are not finite, allowed are finite ones")
