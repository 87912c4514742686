"""bf16 autocast of a GPU, on the meta device: which types tensors would have, nothing computed.

torch has no autocast for the meta device, and its attention there is the plain one, which keeps
whole T x T squares. Here operations take the types that torch documents for CUDA ("CUDA Ops that
can autocast to float16 / to float32"), and attention is the fused one.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_IN_BF16: set[Any] = {
    F.linear, F.conv1d, torch.conv1d, torch.matmul, torch.mm, torch.bmm, torch.addmm,
    torch.baddbmm, Tensor.matmul, Tensor.__matmul__, Tensor.mm, Tensor.bmm,
    Tensor.addmm, Tensor.baddbmm,
}  # fmt: skip
_IN_FP32: set[Any] = {
    F.layer_norm, torch.layer_norm, F.group_norm, torch.group_norm, F.rms_norm, torch.rms_norm,
    F.softmax, torch.softmax, Tensor.softmax, F.log_softmax, torch.log_softmax,
    Tensor.log_softmax, F.softplus, F.cross_entropy, torch.rsqrt, Tensor.rsqrt, torch.exp,
    Tensor.exp, torch.log, Tensor.log, torch.pow, Tensor.pow, torch.sum, Tensor.sum,
    torch.cumsum, Tensor.cumsum,
}  # fmt: skip


class Bf16Autocast(TorchFunctionMode):
    """Within it, operations on meta tensors have autocast's types.

    `weight_copies` holds the bf16 copy of each parameter that was used in bf16: like autocast, it
    is made once and kept.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight_copies: dict[Tensor, Tensor] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self._attention(*args, **kwargs)
        if func in _IN_BF16:
            args, kwargs = _each(self._to_bf16, args, kwargs)
        elif func in _IN_FP32:
            args, kwargs = _each(_to_fp32, args, kwargs)
        return func(*args, **kwargs)

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """The fused kernel's: of (B, H, T, K) it keeps only its inputs, output and one figure per
        row. A mask stands for causality here, which the kernel needs no mask for.
        """
        q, k, v = (self._to_bf16(tensor) for tensor in (query, key, value))
        outputs = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, dropout_p, True)
        assert isinstance(outputs[0], Tensor)
        return outputs[0]

    def _to_bf16(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or value.dtype != torch.float32:
            return value
        if not value.is_leaf or not value.requires_grad:
            return value.to(torch.bfloat16)
        if value not in self.weight_copies:
            self.weight_copies[value] = value.to(torch.bfloat16)
        return self.weight_copies[value]


def _each(
    cast: Callable[[Any], Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return tuple(map(cast, args)), {name: cast(value) for name, value in kwargs.items()}


def _to_fp32(value: Any) -> Any:
    reduced = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if reduced else value
