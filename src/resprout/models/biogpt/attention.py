"""Causal attention of one neuron's branches."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Queries of one block. Smaller blocks skip more of the masked half, larger ones make better
# products; 128 was the fastest of 64, 128 and all at T = 512 on two CPU cores, in fp32 and bf16.
BLOCK = 128
# From so many keys on, a CPU attends from one position faster in fp32 than in bf16, casts included.
LONG = 64


def causal_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Scaled dot-product attention, scale 1/sqrt(d), no position bias.

    Args:
        q: (B, n, T, d).
        k: (B, n, S, d), S >= T where earlier keys are cached.
        v: (B, n, S, d).
        mask: (B or 1, 1, T, S), boolean (True = may attend) or additive; None = plain causal,
            which needs T = S or T = 1.

    Returns:
        (B, n, T, d).
    """
    dtype = q.dtype
    if mask is None and q.device.type == "cpu" and q.requires_grad and q.shape[2] == k.shape[2]:
        return _in_blocks(q, k, v)
    if (
        q.device.type == "cpu"
        and q.dtype != torch.float32
        and q.shape[2] == 1
        and k.shape[2] >= LONG
        and not torch.is_grad_enabled()
    ):
        q, k, v = q.float(), k.float(), v.float()
        if mask is not None and mask.is_floating_point():
            mask = mask.float()
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).to(dtype)
    causal = mask is None and q.shape[2] > 1
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)


def _in_blocks(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same for training on a CPU, where the fused kernel's backward is slow (in bf16 half as
    fast): a block of queries attends to the keys up to its end by plain batched products.
    """
    B, n, T, d = q.shape
    q, k, v = (x.reshape(B * n, T, d) for x in (q, k, v))
    outputs = []
    for start in range(0, T, BLOCK):
        end = min(start + BLOCK, T)
        later = torch.full((end - start, end), -torch.inf, dtype=q.dtype).triu(start + 1)
        scores = torch.baddbmm(later, q[:, start:end], k[:, :end].transpose(1, 2), alpha=d**-0.5)
        outputs.append(scores.softmax(dim=-1) @ v[:, :end])
    return torch.cat(outputs, dim=1).view(B, n, T, d)
