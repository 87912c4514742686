"""Scores: a number per unit, higher = keep. Pure functions of tensors."""

from torch import Tensor


def magnitude(weight: Tensor) -> Tensor:
    """|w|, the oldest score (Han et al. 2015). Same shape as `weight`."""
    return weight.abs()
