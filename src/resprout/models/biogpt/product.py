"""Large fp32 products of training on CPUs where torch's usual library leaves half of the speed.

torch multiplies fp32 matrices by MKL, which keeps to AVX2 on AMD's processors. oneDNN, which torch
carries too, uses their AVX-512 and is twice as fast where that is as wide as its registers
(docs/RESULTS.md, Speed). In training alone: measured speeds of models are to compare designs, not
which of the two libraries a design's code calls.
"""

import functools
import platform
import re
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

# Multiplications of a product up to which the copies to oneDNN and back eat what it gains.
LARGE = 2**26
# AMD's family of processors (Zen 5) from which on AVX-512 is not two halves in turn.
FULL_WIDTH = 26


def is_faster(input: Tensor, weight: Tensor) -> bool:
    """Whether `multiply` is the faster way here: `input` (..., D), `weight` (D', D)."""
    return (
        torch.is_grad_enabled()
        and input.dtype == weight.dtype == torch.float32
        and input.device.type == weight.device.type == "cpu"
        and input.numel() * weight.shape[0] > LARGE
        and mkl_leaves_avx512()
        and bool(torch.backends.mkldnn.enabled)
        and not torch.is_autocast_enabled("cpu")
    )


@functools.cache
def mkl_leaves_avx512() -> bool:
    """Whether torch's fp32 products run in MKL, on a CPU whose AVX-512 it does not use.

    Reads the processor's name by itself: this folder's files travel with saved models, alone.
    """
    if not torch.backends.mkl.is_available() or not torch.backends.mkldnn.is_available():
        return False
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    try:
        about = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        about = platform.processor()
    return leaves_avx512(about)


def leaves_avx512(about: str) -> bool:
    """The same of a CPU with AVX-512, by what the system says of it."""
    family = re.search(r"family\s*:?\s*(\d+)", about, re.IGNORECASE)
    return "AuthenticAMD" in about and family is not None and int(family[1]) >= FULL_WIDTH


def multiply(input: Tensor, weight: Tensor) -> Tensor:
    """`F.linear(input, weight)` up to rounding, (..., D) times (D', D) to (..., D')."""
    result = _Product.apply(input.reshape(-1, input.shape[-1]), weight)
    assert isinstance(result, Tensor)
    return result.view(*input.shape[:-1], -1)


def _by_onednn(rows: Tensor, weight: Tensor) -> Tensor:
    return F.linear(rows.to_mkldnn(), weight).to_dense()


class _Product(torch.autograd.Function):
    """Keeps the rows themselves for the way back: layers with one input share them, where torch's
    own derivative of oneDNN's product keeps a copy for each.
    """

    @staticmethod
    def forward(rows: Tensor, weight: Tensor) -> Tensor:
        return _by_onednn(rows, weight)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        rows, weight = ctx.saved_tensors
        # With a graph of the way back asked for, by what torch can derive again.
        by = F.linear if torch.is_grad_enabled() else _by_onednn
        return (
            by(grad, weight.T) if ctx.needs_input_grad[0] else None,
            by(grad.T, rows.T) if ctx.needs_input_grad[1] else None,
        )

    @staticmethod
    def jvp(ctx: Any, rows_tangent: Tensor, weight_tangent: Tensor) -> Tensor:
        rows, weight = ctx.saved_tensors
        return F.linear(rows_tangent, weight) + F.linear(rows, weight_tangent)

    @staticmethod
    def vmap(info: Any, in_dims: Any, rows: Tensor, weight: Tensor) -> tuple[Tensor, int]:
        return torch.vmap(F.linear, in_dims)(rows, weight), 0
