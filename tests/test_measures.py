"""Measures against closed forms, slow loops and scipy."""

import math
import time

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F

from resprout.measure import statistics as stats
from resprout.measure.loss import window_losses
from resprout.measure.stage import stage
from resprout.measure.text import distinct_n, generate_texts, repetition_n
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


def test_bootstrap_interval_agrees_with_scipy():
    generator = np.random.default_rng(0)
    sizes = generator.integers(5, 40, 300)
    totals = sizes * generator.gamma(4, 1, 300)
    got = stats.mean_interval(totals, sizes, seed=1, resamples=20_000)
    expected = scipy.stats.bootstrap(
        (totals, sizes),
        lambda t, s, axis=-1: t.sum(axis) / s.sum(axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=20_000,
        rng=np.random.default_rng(2),
    ).confidence_interval
    width = expected.high - expected.low
    assert got == pytest.approx((expected.low, expected.high), abs=0.03 * width)


def test_interval_covers_as_often_as_it_says():
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(400):
        sample = generator.exponential(2.0, 120)
        low, high = stats.mean_interval(sample, np.ones(120), seed=trial, resamples=400)
        hits += low <= 2.0 <= high
    assert 0.90 < hits / 400 < 0.98  # 95 % nominal; percentile runs a little under


def test_interval_over_seeds_is_wider_where_seeds_differ():
    windows = np.random.default_rng(0).normal(3, 0.1, 50)
    alike = np.stack([windows, windows, windows])
    apart = np.stack([windows - 0.5, windows, windows + 0.5])
    narrow = np.diff(stats.mean_interval(alike, np.ones(50)))
    wide = np.diff(stats.mean_interval(apart, np.ones(50)))
    assert wide > 5 * narrow


def test_paired_weights_cancel_what_subjects_share():
    generator = np.random.default_rng(0)
    hard = generator.normal(0, 5, 200)  # how hard each window is, for both
    a, b = 3 + hard, 3.2 + hard + generator.normal(0, 0.01, 200)
    weights = stats.resampling_weights(1, 200, 1000, seed=0)
    ones = np.ones(200)
    found = stats.estimate(
        lambda w: stats.weighted_mean(a, ones, w) - stats.weighted_mean(b, ones, w), weights
    )
    assert found.value == pytest.approx(-0.2, abs=0.01)
    assert found.high - found.low < 0.01
    assert found.excludes_zero


def test_interpolation_is_numpys():
    x, y = np.array([0.0, 1.0, 4.0]), np.array([[1.0, 3.0, 0.0], [5.0, 5.0, 6.0]])
    at = np.array([0.0, 0.25, 1.0, 2.5, 4.0])
    expected = [np.interp(at, x, row) for row in y]
    np.testing.assert_allclose(stats.interpolate(at, x, y), expected)
    for outside in (-0.1, 4.1):
        with pytest.raises(ValueError, match="allowed is 0 to 4"):
            stats.interpolate([outside], x, y)
    with pytest.raises(ValueError, match="increasing"):
        stats.interpolate([0.5], [0.0, 0.0, 1.0], y)


def test_mean_over_a_range_is_the_integral():
    x, y = np.array([0.0, 1.0, 4.0]), np.array([[1.0, 3.0, 0.0]])
    fine = np.linspace(0.5, 3.0, 100_001)
    expected = np.interp(fine, x, y[0]).mean()
    assert stats.mean_over_range(0.5, 3.0, x, y)[0] == pytest.approx(expected, rel=1e-4)
    assert stats.mean_over_range(2.5, 2.5, x, y)[0] == pytest.approx(1.5)


def test_largest_within():
    x = [0.0, 0.5, 0.9]
    curves = [[0.0, 0.05, 0.25], [0.0, 0.2, 0.1], [0.0, 0.0, 0.1], [0.2, 0.0, 0.0]]
    got = stats.largest_within(0.1, x, curves)
    assert got == pytest.approx([0.6, 0.25, 0.9, 0.0])


def test_distinct_and_repetition_by_hand():
    loop, plain = [7, 8, 7, 8, 7, 8], [1, 2, 3, 4, 5, 6]
    assert distinct_n([loop], 1) == pytest.approx(2 / 6)
    assert distinct_n([loop], 2) == pytest.approx(2 / 5)
    assert distinct_n([loop, plain], 2) == pytest.approx(7 / 10)
    assert repetition_n([loop], 3) == pytest.approx(1 - 2 / 4)
    assert repetition_n([plain], 3) == 0
    assert repetition_n([loop, plain], 3) == pytest.approx(0.25)
    assert distinct_n([[1]], 2) is None
    assert repetition_n([[1, 2]], 3) is None


def test_texts_are_reproducible_and_leave_the_random_state(model, tokens):
    from resprout.data.tokenizer import for_transformers

    words = for_transformers(tokens.tokenizer())
    prompts = {"a": "def function", "b": "return"}
    before = torch.get_rng_state()
    first = generate_texts(model, words, prompts, 6, 0.7, 40, seed=3)
    assert torch.equal(before, torch.get_rng_state())
    assert first == generate_texts(model, words, prompts, 6, 0.7, 40, seed=3)
    other = generate_texts(model, words, prompts, 6, 0.7, 40, seed=4)
    assert first["samples"] != other["samples"]
    greedy = generate_texts(model, words, prompts, 6, 0.0, 40, seed=3)
    assert greedy["samples"] == generate_texts(model, words, prompts, 6, 0.0, 0, 9)["samples"]
    assert [sample["prompt"] for sample in first["samples"]] == list(prompts.values())


def test_a_prompt_beyond_the_context_is_refused(model, tokens):
    from resprout.data.tokenizer import for_transformers

    words = for_transformers(tokens.tokenizer())
    with pytest.raises(ValueError, match=r"'long' needs .* up to the model's 128"):
        generate_texts(model, words, {"long": "x = 1\n" * 100}, 5, 0, 0, 0)


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
