"""Measures against closed forms and slow loops."""

import math
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from resprout.measure.loss import window_losses
from resprout.measure.stage import stage
from resprout.models.sizes import build, configuration


@pytest.fixture(scope="module")
def model():
    return build(configuration("gpt-neox-nano", vocab_size=300), seed=0).eval()


def test_loss_equals_a_slow_loop(model, tokens):
    got = window_losses(model, tokens.val, window=32, batch_windows=3)
    ids = torch.from_numpy(tokens.val.tokens.astype("int64"))
    expected = []
    with torch.inference_mode():
        for start in range(0, len(ids) - 1, 32):
            inputs, targets = ids[start : start + 32], ids[start + 1 : start + 33]
            logits = model(inputs[None, : len(targets)]).logits[0]
            expected.append(F.cross_entropy(logits, targets, reduction="sum").item())
    np.testing.assert_allclose(got.nats, expected, rtol=1e-5)
    assert got.tokens.sum() == len(ids) - 1


def test_batch_size_changes_nothing(model, tokens):
    one = window_losses(model, tokens.val, window=32, batch_windows=1)
    many = window_losses(model, tokens.val, window=32, batch_windows=50)
    np.testing.assert_allclose(one.nats, many.nats, rtol=1e-5)


def test_units_of_the_loss(model, tokens):
    losses = window_losses(model, tokens.val, window=32)
    found = losses.summary(seed=0)
    nats = losses.nats.sum() / losses.tokens.sum()
    assert found["nats_per_token"] == pytest.approx(nats)
    assert found["perplexity"] == pytest.approx(math.exp(nats))
    per_byte = len(tokens.val.tokens) / tokens.val.text_bytes
    assert found["bits_per_byte"] == pytest.approx(nats / math.log(2) * per_byte)
    low, high = found["ci95"]
    assert low < nats < high
    assert found["bits_per_byte_ci95"][0] == pytest.approx(low / math.log(2) * per_byte)
    assert found["windows"] == len(found["window_nats"]) == len(found["window_tokens"])


def test_a_uniform_model_has_the_loss_of_a_uniform_guess(model, tokens):
    uniform = build(configuration("gpt-neox-nano", vocab_size=300), seed=0)
    with torch.no_grad():
        uniform.lm_head.weight.zero_()
    found = window_losses(uniform, tokens.val, window=32).summary(seed=0)
    assert found["nats_per_token"] == pytest.approx(math.log(300), rel=1e-6)
    assert found["ci95"] == pytest.approx([math.log(300)] * 2, rel=1e-6)


def test_a_loss_that_is_not_finite_is_a_failure_not_a_figure(tokens):
    broken = build(configuration("gpt-neox-nano", vocab_size=300), seed=0)
    with torch.no_grad():
        broken.lm_head.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="not finite"):
        window_losses(broken, tokens.val, window=32)


def test_a_stage_knows_its_own_peak():
    stages = {}
    with stage(stages, "big", torch.device("cpu")):
        block = np.ones(40_000_000)  # 320 MB, touched
        del block
    with stage(stages, "small", torch.device("cpu")):
        time.sleep(0.01)
    assert stages["small"]["seconds"] >= 0.01
    if stages["small"]["memory"] == "process":  # else this system cannot reset the mark
        assert stages["big"]["peak_bytes"] - stages["small"]["peak_bytes"] > 200_000_000
