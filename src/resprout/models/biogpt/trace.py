"""The NMDA trace: each value is enriched by an exponentially decaying trace of earlier ones.

Along time, per channel, with tau = sigmoid(decay):

    m_0 = 0,   m_t = tau * (m_{t-1} + v_{t-1}) = sum_{s < t} tau^(t - s) v_s
    enriched_t = v_t + m_t

so a value k positions back counts tau^k. The enriched values obey y_t = v_t + tau * y_{t-1}: the
last enriched value is all the state that a cache needs.

Source: the published BioGPT's description ("learnable exponential decay enriching V"); its program
carries the parameter and leaves the trace empty.
"""

from typing import Any

import torch
from torch import Tensor


def enrich(v: Tensor, decay: Tensor, previous: Tensor | None = None) -> Tensor:
    """Values plus their trace, computed in parallel over time.

    Args:
        v: (B, n, T, d) values; zero where the trace shall not see them (padding).
        decay: (1, n, 1, d), the parameter before its sigmoid; any real number.
        previous: (B, n, 1, d), the enriched value before the first of `v`; None = none.

    Returns:
        (B, n, T, d) in the type of `v`; computed in fp32 or better.
    """
    x = v.to(torch.promote_types(v.dtype, torch.float32))
    # Powers up to the T-th multiply an error of tau by T; the few values cost nothing in double.
    tau = torch.sigmoid(decay.float() if v.device.type == "mps" else decay.double())
    if previous is not None:
        first = x[:, :, :1] + tau.to(x.dtype) * previous.to(x.dtype)
        x = torch.cat([first, x[:, :, 1:]], dim=2)
    return _Recurrence.apply(x, tau).to(v.dtype)


class _Recurrence(torch.autograd.Function):
    """y_t = x_t + tau * y_{t-1} along axis 2, by recursive doubling in log2(T) steps.

    Only powers tau^(2^k) <= 1 occur, so nothing overflows at any length or decay (dividing by
    tau^t, as a cumulative sum would, does). Backward is the same recurrence from the end; by hand,
    it keeps one tensor instead of log2(T).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, tau: Tensor) -> Tensor:
        y = _scan(x, tau, backwards=False)
        ctx.save_for_backward(y, tau)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        y, tau = ctx.saved_tensors
        to_x = _scan(gradients[0], tau, backwards=True)
        to_tau = (to_x[:, :, 1:] * y[:, :, :-1]).sum(dim=(0, 2), keepdim=True)
        return to_x, to_tau.to(tau.dtype)


def _scan(x: Tensor, tau: Tensor, backwards: bool) -> Tensor:
    T = x.shape[2]
    y = x.clone()
    power = tau
    step = 1
    while step < T:
        if backwards:
            y[:, :, :-step] += power.to(x.dtype) * y[:, :, step:]
        else:
            y[:, :, step:] += power.to(x.dtype) * y[:, :, :-step]
        power = power * power
        step *= 2
    return y
