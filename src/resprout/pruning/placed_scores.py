"""Scores that depend on a weight's place, for the selection among all tensors together.

They are asked for a chunk at a time, twice, and hold no score in between.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from resprout.pruning.scores import uniform


class PlacedScore(ABC):
    """A score of flat chunks that knows which tensor they are of, and where in it."""

    @abstractmethod
    def __call__(self, values: Tensor, tensor: int, start: int) -> Tensor:
        """The scores of some elements of one tensor.

        Args:
            values: (n,) consecutive elements of the flattened tensor.
            tensor: which of the tensors, by its place in their list.
            start: place of the first value in the flattened tensor. Negative for the sample that
                guesses the threshold: then `values` are every `-start`-th element from the first
                on, and any scores of the same distribution serve.

        Returns:
            (n,) scores on the device of `values`; for the same chunk always the same.
        """

    def check(self, weights: Sequence[Tensor]) -> None:  # noqa: B027 - most have nothing to check
        """Raise ValueError where the score does not fit these tensors; called before any work."""


class RandomScore(PlacedScore):
    """Uniform random scores, the same for the same seed, on every device."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, values: Tensor, tensor: int, start: int) -> Tensor:
        """Uniform in [0, 1): see `PlacedScore`."""
        return uniform(values.numel(), self.seed, tensor, start).to(values.device)


class WandaScore(PlacedScore):
    """|w| times the norm of its input (Sun et al. 2023, eq. 1), among all tensors.

    Args:
        norms: per tensor either (c,), the norm of each input column, where the tensor is (..., c):
            element k of it flattened has norm k modulo c; or a view in the tensor's own shape, such
            as `norm[:, None].expand_as(weight)` where inputs are rows, or
            `norms[:, None, :].expand_as(weight)` for (g, c) norms of a (g, r, c) tensor. An
            expanded view costs no memory, and only a chunk of it is ever laid out.
    """

    def __init__(self, norms: Sequence[Tensor]) -> None:
        self.norms = list(norms)

    def check(self, weights: Sequence[Tensor]) -> None:
        """Refuse norms that do not fit their tensor."""
        if len(weights) != len(self.norms):
            raise ValueError(f"norms: got {len(self.norms)}, allowed is {len(weights)}, one each")
        for weight, norm in zip(weights, self.norms, strict=True):
            row = norm.dim() == 1 and weight.dim() > 0 and weight.shape[-1] == len(norm)
            if not row and norm.shape != weight.shape:
                raise ValueError(
                    f"norms: got shape {tuple(norm.shape)} for a tensor of {tuple(weight.shape)}, "
                    "allowed is the last dimension's, or the tensor's own"
                )

    def __call__(self, values: Tensor, tensor: int, start: int) -> Tensor:
        """|w| * norm in fp32 (float64 where the weights are): see `PlacedScore`."""
        norms = self.norms[tensor].to(values.device)
        if start < 0:
            places = torch.arange(len(values), device=values.device) * -start
            if norms.dim() == 1:
                return values.abs() * norms[places % len(norms)].float()
            return values.abs() * norms[torch.unravel_index(places, norms.shape)].float()
        columns = norms.shape[-1]
        first, last = start // columns, -((start + len(values)) // -columns)
        if norms.dim() == 1:
            rows = norms.expand(last - first, columns)
        else:
            numbers = torch.arange(first, last, device=norms.device)
            rows = norms[torch.unravel_index(numbers, norms.shape[:-1])]  # (rows, columns)
        offset = start - first * columns
        return values.abs() * rows.float().flatten()[offset : offset + len(values)]
