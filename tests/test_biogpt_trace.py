"""The NMDA trace: the recurrence, whatever the length and the decay."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resprout.models.biogpt.trace import enrich


def step_by_step(v, decay):
    """m_t = tau (m_{t-1} + v_{t-1}), in double precision."""
    v, tau = v.double(), torch.sigmoid(decay.double())
    trace = torch.zeros_like(v[:, :, :1])
    steps = []
    for t in range(v.shape[2]):
        steps.append(v[:, :, t : t + 1] + trace)
        trace = tau * steps[-1]
    return torch.cat(steps, dim=2)


@settings(max_examples=25)
@given(T=st.integers(1, 70), center=st.sampled_from([-3.0, 0.0, 0.9, 4.0]))
def test_equals_the_recurrence(T, center):
    v, decay = torch.randn(2, 3, T, 4), center + torch.randn(1, 3, 1, 4)
    got = enrich(v, decay)
    torch.testing.assert_close(got.double(), step_by_step(v, decay), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("decay", [-1e4, -20.0, 0.0, 0.9, 8.0, 20.0, 1e4])
def test_safe_over_4096_positions_at_any_decay(decay):
    v = torch.randn(1, 2, 4096, 3).requires_grad_()
    decays = torch.full((1, 2, 1, 3), decay, requires_grad=True)
    got = enrich(v, decays)
    expected = step_by_step(v.detach(), decays.detach())
    # Without decay the sum of all values is in the hundreds: 1e-5 of the largest.
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(got.double() / scale, expected / scale, atol=1e-5, rtol=0)
    got.sum().backward()
    assert v.grad.isfinite().all()
    assert decays.grad.isfinite().all()


def test_gradients_are_those_of_the_recurrence():
    v = torch.randn(2, 2, 9, 3, dtype=torch.float64, requires_grad=True)
    decay = torch.randn(1, 2, 1, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 2, 9, 3, dtype=torch.float64)
    got = torch.autograd.grad((enrich(v, decay) * weights).sum(), [v, decay])
    expected = torch.autograd.grad((step_by_step(v, decay) * weights).sum(), [v, decay])
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)
    previous = torch.randn(2, 2, 1, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(enrich, (v, decay, previous))


def test_strictly_causal():
    v, decay = torch.randn(1, 1, 8, 2), torch.zeros(1, 1, 1, 2)
    before = enrich(v, decay) - v
    v[:, :, 5] += 1
    after = enrich(v, decay) - v
    torch.testing.assert_close(after[:, :, :6], before[:, :, :6])
    torch.testing.assert_close(after[:, :, 6] - before[:, :, 6], torch.full((1, 1, 2), 0.5))
    torch.testing.assert_close(after[:, :, 7] - before[:, :, 7], torch.full((1, 1, 2), 0.25))


def test_continues_from_the_last_value():
    v, decay = torch.randn(2, 2, 20, 3), torch.randn(1, 2, 1, 3)
    whole = enrich(v, decay)
    first = enrich(v[:, :, :13], decay)
    rest = enrich(v[:, :, 13:], decay, previous=first[:, :, -1:])
    torch.testing.assert_close(torch.cat([first, rest], dim=2), whole)


def test_bf16_values_are_summed_in_fp32():
    v, decay = torch.randn(1, 1, 500, 2).bfloat16(), torch.full((1, 1, 1, 2), 5.0)
    got = enrich(v, decay)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.double(), step_by_step(v, decay), atol=0.02, rtol=0.01)
