"""The exact selection among all tensors together: which weights lie below the k-th lowest score.

The k-th smallest of hundreds of millions of scores is found exactly without joining or sorting
them: a sample brackets it, one pass counts what lies below the bracket and gathers the little that
lies inside, and the counts prove that the k-th is there (else the bracket is widened).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resprout.pruning.placed_scores import PlacedScore

Score = Callable[[Tensor], Tensor]
_CHUNK = 1 << 18  # elements looked at together: few enough to stay in the processor's cache
_SAMPLE = 1 << 20
_NAN = "score: some weights are NaN, which has no place in an order"


def keep_highest(
    weights: Sequence[Tensor],
    score: Score | PlacedScore,
    cut: int,
    *,
    held: Sequence[Tensor | None] | None = None,
) -> list[Tensor]:
    """Masks that cut the `cut` lowest-scored elements of all tensors together.

    Args:
        weights: tensors of any shapes, on any devices.
        score: elementwise, tensor -> tensor of the same shape, called on flat chunks; or a
            `PlacedScore`.
        cut: how many elements go, of all tensors together.
        held: per tensor the boolean mask of an earlier cut, True = kept, or None. What went then
            goes first, whatever its score, and counts towards `cut`; nothing comes back, so an
            earlier cut of more than `cut` is returned as it is.

    Returns:
        One boolean mask per tensor, True = kept; exactly `cut` elements are False (or as many as
        were before). Of equal scores at the threshold the first in order go first.

    Raises:
        ValueError: a score is NaN (it has no place in an order), or a mask or a placed score does
            not fit its tensor.
    """
    total = sum(weight.numel() for weight in weights)
    assert 0 <= cut <= total
    if isinstance(score, PlacedScore):
        score.check(weights)
    earlier = _checked(weights, held)
    gone = sum(mask.numel() - int(mask.count_nonzero()) for mask in earlier if mask is not None)
    if cut <= gone:
        return [
            torch.ones_like(weight, dtype=torch.bool) if mask is None else mask.clone()
            for weight, mask in zip(weights, earlier, strict=True)
        ]
    scores = _Scores(weights, score, earlier)
    sample = scores.sample().numpy()
    masks = _in_one_pass(scores, sample, cut - gone, total - gone)
    if masks is None:
        masks = _in_two_passes(scores, sample, cut - gone, total - gone)
    if sum(map(_count, masks)) != total - cut:  # NaN is neither above the threshold nor below it
        raise ValueError(_NAN)
    return masks


def _checked(
    weights: Sequence[Tensor], held: Sequence[Tensor | None] | None
) -> list[Tensor | None]:
    """The earlier masks, each on its tensor's device."""
    if held is None:
        return [None] * len(weights)
    assert len(held) == len(weights)
    masks = []
    for weight, mask in zip(weights, held, strict=True):
        if mask is not None and (mask.shape != weight.shape or mask.dtype != torch.bool):
            raise ValueError(
                f"held: got a mask of {tuple(mask.shape)} {mask.dtype}, allowed is "
                f"{tuple(weight.shape)} torch.bool"
            )
        masks.append(None if mask is None else mask.to(weight.device))
    return masks


class _Scores:
    """The scores of all tensors, computed anew a chunk at a time."""

    def __init__(
        self,
        weights: Sequence[Tensor],
        score: Score | PlacedScore,
        earlier: Sequence[Tensor | None],
    ) -> None:
        self.weights, self.score, self.earlier = weights, score, earlier
        double = any(weight.dtype == torch.float64 for weight in weights)
        self.exact = torch.float64 if double else torch.float32

    def _scored(self, values: Tensor, tensor: int, start: int) -> Tensor:
        if isinstance(self.score, PlacedScore):
            scores = self.score(values, tensor, start)
        else:
            scores = self.score(values)
        return scores.to(self.exact)  # a low precision would round the threshold

    def chunks(self, tensor: int) -> Iterator[tuple[int, Tensor, Tensor | None]]:
        """Chunk by chunk: its start, its scores (n,), and which may still go (n,); None = all."""
        values = self.weights[tensor].detach().flatten()
        mask = self.earlier[tensor]
        candidates = None if mask is None else mask.flatten()
        for start in range(0, len(values), _CHUNK):
            place = slice(start, start + _CHUNK)
            scores = self._scored(values[place], tensor, start)
            yield start, scores, None if candidates is None else candidates[place]

    def sample(self) -> Tensor:
        """Every so many-th score of what may still go, on the CPU, in no order."""
        step = max(1, sum(weight.numel() for weight in self.weights) // _SAMPLE)
        while step > 1 and math.gcd(step, 210) > 1:
            step += 1  # a factor in common with the rows' length would always see the same columns
        samples = []
        for tensor, weight in enumerate(self.weights):
            if weight.numel() == 0:
                continue
            scores = self._scored(weight.detach().flatten()[::step], tensor, -step)
            mask = self.earlier[tensor]
            samples.append((scores if mask is None else scores[mask.flatten()[::step]]).cpu())
        return torch.cat(samples)


def _in_one_pass(
    scores: _Scores, sample: NDArray[Any], cut: int, candidates: int
) -> list[Tensor] | None:
    """Masks made against the bracket's lower end; then what lay in the bracket is put right.

    None where the bracket missed the `cut`-th lowest score, or where it held too much (many tie).
    """
    low, high = _ends(sample, cut * len(sample) // candidates, 2.5)
    room = candidates // 16 + _CHUNK
    masks, near, places = [], [], []
    first = inside = below = 0  # `first`: place of the tensor's first element among all
    for tensor, weight in enumerate(scores.weights):
        mask = torch.empty(weight.shape, dtype=torch.bool, device=weight.device)
        flat = mask.view(-1)
        for start, chunk, alive in scores.chunks(tensor):
            if chunk.sum().isnan() and chunk.isnan().any():  # the sum tells first, and cheaply
                raise ValueError(_NAN)
            kept = torch.ge(chunk, low, out=flat[start : start + len(chunk)])
            if alive is not None:
                kept &= alive
            where = _nonzero(kept & (chunk <= high))
            inside += len(where)
            if inside > room:
                return None
            near.append(chunk[where].cpu())
            places.append((where + (first + start)).cpu())
        below += _count(mask)
        first += weight.numel()
        masks.append(mask)
    values, where = torch.cat(near), torch.cat(places)
    place = cut - (candidates - below)
    if not 0 < place <= len(values):
        return None
    threshold = values.kthvalue(place).values
    lower = values < threshold
    ties = (values == threshold).nonzero().squeeze(1)[: place - int(lower.sum())]
    lower[ties] = True  # of those that tie the first in order
    going, first = where[lower], 0
    for mask in masks:
        start, end = torch.searchsorted(going, torch.tensor([first, first + mask.numel()])).tolist()
        mask.view(-1)[(going[start:end] - first).to(mask.device)] = False
        first += mask.numel()
    return masks


def _in_two_passes(
    scores: _Scores, sample: NDArray[Any], cut: int, candidates: int
) -> list[Tensor]:
    """The threshold first, then the masks; holds no places, however many scores tie."""
    threshold, ties_to_cut = _threshold(scores, sample, cut, candidates)
    masks = []
    for tensor, weight in enumerate(scores.weights):
        mask = torch.empty(weight.shape, dtype=torch.bool, device=weight.device)
        flat = mask.view(-1)
        for start, chunk, alive in scores.chunks(tensor):
            kept = torch.ge(chunk, threshold, out=flat[start : start + len(chunk)])
            if alive is not None:
                kept &= alive
            if ties_to_cut:
                tied = chunk == threshold
                if alive is not None:
                    tied &= alive
                if (ties := _count(tied)) > 0:
                    # Ties beyond the number still to cut are kept, from the last in order.
                    kept &= ~tied | (tied.cumsum(0) > ties_to_cut)
                    ties_to_cut -= min(ties, ties_to_cut)
        masks.append(mask)
    return masks


def _ends(sample: NDArray[Any], rank: int, width: float) -> tuple[float, float]:
    """The scores `width` square roots of the sample below and above a rank of it.

    A rank's standard deviation is at most half a square root. Beyond the sample's ends: infinity.
    """
    margin = int(width * math.isqrt(len(sample))) + 1
    bottom, top = rank - margin, rank + margin
    ranks = [place for place in (bottom, top) if 0 <= place < len(sample)]
    ordered = np.partition(sample, ranks) if ranks else sample
    low = float(ordered[bottom]) if bottom >= 0 else -math.inf
    high = float(ordered[top]) if top < len(sample) else math.inf
    if math.isnan(low) or math.isnan(high):
        raise ValueError(_NAN)
    return low, high


def _threshold(
    scores: _Scores, sample: NDArray[Any], cut: int, candidates: int
) -> tuple[float, int]:
    """The `cut`-th lowest score, and how many of just that score go.

    Raises:
        ValueError: so many scores are NaN that there is no such score.
    """
    width = 4.0
    while True:
        low, high = _ends(sample, cut * len(sample) // candidates, width)
        below, at_low, inside, at_high = _bracket(scores, low, high)
        place = cut - below - at_low
        if below < cut <= below + at_low:
            return low, cut - below
        if 0 < place <= len(inside):
            threshold = float(inside.kthvalue(place).values)
            return threshold, place - int((inside < threshold).sum())
        if 0 < place <= len(inside) + at_high:
            return high, place - len(inside)
        if low == -math.inf and high == math.inf:
            raise ValueError(_NAN)  # the bracket is all numbers, and still holds too few
        width *= 8


def _bracket(scores: _Scores, low: float, high: float) -> tuple[int, int, Tensor, int]:
    """How many scores lie below and at `low`, those strictly between, and how many at `high`."""
    below = at_low = at_high = 0
    inside = []
    for tensor in range(len(scores.weights)):
        for _, chunk, alive in scores.chunks(tensor):
            if alive is not None:
                chunk = chunk[alive]
            below += _count(chunk < low)
            at_low += _count(chunk == low)
            at_high += _count(chunk == high) if high > low else 0
            inside.append(chunk[(chunk > low) & (chunk < high)].cpu())
    return below, at_low, torch.cat(inside), at_high


def _nonzero(flags: Tensor) -> Tensor:
    """The places of the few that are True: (n,) -> (k,)."""
    if flags.device.type == "cpu":  # numpy skips what is False many times as fast
        return torch.from_numpy(np.flatnonzero(flags.numpy()))
    return flags.nonzero().squeeze(1)


def _count(flags: Tensor) -> int:
    """How many are True."""
    if flags.device.type == "cpu":
        return int(np.count_nonzero(flags.numpy()))
    return int(flags.count_nonzero())
