"""A head's product and its cross-entropy together, without ever holding all logits.

For a vocabulary of 50 thousand the logits of a batch, their softmax and their gradient are the
largest tensors of a training step. Here a chunk of positions goes through at a time, and the
gradients are computed in the forward pass, while a chunk's logits are at hand; the idea is that of
Liger Kernel (Hsu et al. 2024, section 3.2) and of torch's own `linear_cross_entropy`.

Shapes: N positions, C of them in a chunk, D model width, V vocabulary.
"""

import math
from typing import Any

import torch
from torch import Tensor

# Bytes of a chunk's fp32 logits. Each chunk reads and writes the whole gradient of the weight, so
# small ones are slow; at (768 -> 50,304) this much is within 5 % of one chunk for all.
CHUNK_BYTES = 128 * 2**20
_SMALLEST_CHUNK = 64
# Rows of the weight's gradient that a reduced-precision product is added to at a time.
_ROWS = 4096


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, ignore_index: int = -100
) -> Tensor:
    """Mean cross-entropy, in nats, of the logits `hidden @ weight.T`.

    Products run in autocast's type where it is on, the softmax always in fp32.

    Args:
        hidden: (N, D).
        weight: (V, D).
        targets: (N,), class indices; `ignore_index` = not counted.
        ignore_index: a target that marks a position to leave out.

    Returns:
        A scalar; NaN where no position counts, as torch's.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    return _LinearCrossEntropy.apply(hidden, weight, targets, ignore_index, dtype)


class _LinearCrossEntropy(torch.autograd.Function):
    """Saves the gradients, not the logits."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        ignore_index: int,
        dtype: torch.dtype,
    ) -> Tensor:
        N, V = hidden.shape[0], weight.shape[0]
        counted = targets != ignore_index
        count = counted.sum()
        total = hidden.new_zeros((), dtype=torch.float32)
        h, w = hidden.to(dtype), weight.to(dtype)
        of_hidden = torch.empty_like(h) if ctx.needs_input_grad[0] else None
        # Summed over chunks, so in fp32 whatever the type of the products.
        of_weight = (
            torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        )
        largest_size = max(_SMALLEST_CHUNK, CHUNK_BYTES // (4 * V))
        size = max(1, math.ceil(N / math.ceil(N / largest_size))) if N else 1
        # Room for one chunk, used again by each: fresh memory of this size is slow to come by.
        product_room = h.new_empty(size, V)
        precise_room = product_room if dtype == torch.float32 else product_room.float()
        for start in range(0, N, size):
            part = slice(start, start + size)
            C = len(h[part])
            kept = counted[part][:, None]
            target = targets[part].masked_fill(~counted[part], 0)[:, None]
            product = torch.mm(h[part], w.T, out=product_room[:C])
            logits = product if dtype == torch.float32 else precise_room[:C].copy_(product)  # (C,V)
            of_target = logits.gather(1, target)
            largest = logits.amax(dim=1, keepdim=True)
            summed = logits.sub_(largest).exp_().sum(dim=1, keepdim=True)
            total += ((summed.log() + largest - of_target) * kept).sum()
            if of_hidden is None and of_weight is None:
                continue
            # d loss / d logits = (softmax - onehot) / count, at positions that count.
            gradient = logits.mul_(kept / (summed * count))
            gradient.scatter_add_(1, target, -(kept / count).to(gradient.dtype))
            if dtype != torch.float32:
                gradient = product.copy_(gradient)
            if of_hidden is not None:
                torch.mm(gradient, w, out=of_hidden[part])
            if of_weight is not None:
                _accumulate(of_weight, gradient, h[part])
        ctx.save_for_backward(of_hidden, of_weight)
        ctx.dtypes = hidden.dtype, weight.dtype
        return total / count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scale = gradients[0]
        scaled: list[Tensor | None] = []
        for saved, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True):
            # As a rule the loss is the end, and the scale 1: then a pass over memory is spared.
            if saved is not None and scale != 1:
                saved = saved * scale.to(saved.dtype)
            scaled.append(None if saved is None else saved.to(dtype))
        return *scaled, None, None, None


def _accumulate(total: Tensor, gradient: Tensor, h: Tensor) -> None:
    """`total` (V, D, fp32) += `gradient` (C, V) transposed @ `h` (C, D)."""
    if h.dtype == torch.float32:
        total.addmm_(gradient.T, h)
        return
    for start in range(0, len(total), _ROWS):  # the whole product would need its size twice more
        rows = slice(start, start + _ROWS)
        total[rows] += gradient[:, rows].T @ h
