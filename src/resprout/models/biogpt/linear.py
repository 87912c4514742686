"""A linear layer that decodes on a CPU at the speed of memory, and trains there as fast as it can.

Decoding multiplies every matrix with a row or a few (one per sequence or beam), so it can be as
fast as memory brings the weights. torch's own ways stay at half of that or less on the machines
measured (docs/RESULTS.md, Speed): in fp32 the product with one row runs on one core and that with a
few is slower still, in bf16 oneDNN rearranges the matrix first. For training in fp32 see `product`.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .product import is_faster, multiply

FEW = 6
PARTS = (16, 8, 4, 2)


class Linear(nn.Linear):
    """`nn.Linear`, the same numbers up to rounding; few rows on a CPU go a faster way."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        weight, rows = self.weight, input.numel() // self.in_features
        if torch.compiler.is_compiling() or type(weight) is not nn.Parameter:
            return super().forward(input)  # a quantised weight knows its own product
        if is_faster(input, weight):
            result = multiply(input, weight)
            return result if self.bias is None else result + self.bias
        if (
            not 1 <= rows <= FEW
            or input.device.type != "cpu"
            or torch.is_grad_enabled()
            or input.dtype != weight.dtype
            or not weight.is_contiguous()
            or torch.is_autocast_enabled("cpu")
        ):
            return super().forward(input)
        if weight.dtype != torch.float32:
            with as_it_lies(input):
                return F.linear(input, weight, self.bias)
        flat = input.reshape(rows, self.in_features)
        product = self._in_parts(flat) if rows == 1 else (weight @ flat.T).T.contiguous()
        product = product.view(*input.shape[:-1], self.out_features)
        return product if self.bias is None else product + self.bias

    def _in_parts(self, row: Tensor) -> Tensor:
        """The matrix as a batch of parts of its rows: each core takes its own."""
        parts = next((count for count in PARTS if self.out_features % count == 0), 1)
        matrices = self.weight.view(parts, -1, self.in_features).transpose(1, 2)
        return torch.bmm(row.expand(parts, 1, -1), matrices)


@contextlib.contextmanager
def as_it_lies(x: Tensor) -> Iterator[None]:
    """Where `x` (..., D) is a single row on a CPU, outside of training: have torch's own kernels
    run in place of oneDNN's, which rearrange each bf16 matrix before they read it.
    """
    if x.numel() != x.shape[-1] or x.device.type != "cpu" or torch.is_grad_enabled():
        yield
        return
    settings: Any = torch.backends.mkldnn
    before, settings.enabled = settings.enabled, False
    try:
        yield
    finally:
        settings.enabled = before
