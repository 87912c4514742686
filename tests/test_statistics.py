"""Intervals and tests against scipy, closed forms, slow definitions and simulated truth."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from resprout.measure import significance
from resprout.measure import statistics as stats
from resprout.measure.drawn import by_document, owners

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


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


def coverage(S, W, between, windows, within, drawn=False, trials=500):
    """How often the interval of (S, W) losses with mean 3 holds 3; effects of each are normal."""
    generator = np.random.default_rng(S * 1000 + W)
    hits = 0
    for trial in range(trials):
        losses = 3 + between * generator.standard_normal((S, 1))
        losses = losses + windows * generator.standard_normal(W)
        losses = losses + within * generator.standard_normal((S, W))
        if drawn:  # seeds with replacement, as windows: what this program does not do
            other = np.random.default_rng(trial)
            seed_counts = other.multinomial(S, np.full(S, 1 / S), size=400)
            window_counts = other.multinomial(W, np.full(W, 1 / W), size=400)
            weights = seed_counts[:, :, None] * window_counts[:, None, :]
            figures = stats.weighted_mean(losses, np.ones(W), weights)
            low, high = stats.percentile_interval(figures)
        else:
            low, high = stats.mean_interval(losses, np.ones(W), seed=trial, resamples=400)
        hits += low <= 3 <= high
    return hits / trials


@pytest.mark.parametrize("S", [2, 3, 5, 10])
def test_an_interval_over_seeds_covers_where_seeds_differ(S):
    assert 0.92 < coverage(S, 30, between=1, windows=0.1, within=0.1) < 0.975


@pytest.mark.parametrize("S", [2, 3, 5])
def test_an_interval_over_seeds_is_on_the_safe_side_where_windows_rule(S):
    assert coverage(S, 30, between=0.1, windows=1, within=0.1) > 0.92
    assert coverage(S, 30, between=0.1, windows=1, within=1) > 0.95


@pytest.mark.parametrize(("S", "at_most"), [(2, 0.56), (3, 0.80), (5, 0.89)])
def test_drawing_few_seeds_would_cover_far_less(S, at_most):
    assert coverage(S, 30, between=1, windows=0.1, within=0.1, drawn=True) < at_most


def test_the_mean_over_seeds_alone_has_students_interval():
    seeds = np.array([3.1, 3.4, 2.9, 3.0])
    weights = stats.resampling_weights(4, 1, 200_000, seed=0)
    got = stats.percentile_interval(stats.weighted_mean(seeds[:, None], np.ones(1), weights))
    assert got == pytest.approx(stats.plain_mean_interval(seeds), abs=0.01)


def test_weights_of_every_resample_sum_to_what_there_is():
    weights = stats.resampling_weights(3, 20, 50, seed=1)
    assert weights.shape == (50, 3, 20)
    assert weights.sum(axis=(1, 2)) == pytest.approx(np.full(50, 60))
    one = stats.resampling_weights(1, 20, 50, seed=1)
    counts = 1 + (one - 1) / stats._widening(20)  # one seed: counts of windows, drawn apart
    assert counts == pytest.approx(counts.round(), abs=1e-9)
    assert (counts > -1e-9).all()


@pytest.mark.parametrize("D", [3, 5, 10, 30])
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_documents_that_differ_are_covered_few_and_of_any_size(D, spread):
    """Drawn one by one their windows give intervals that hold the truth in half of all cases."""
    generator = np.random.default_rng(D)
    hits, alone, trials = 0, 0, 300
    for trial in range(trials):
        sizes = np.maximum(2, np.exp(generator.normal(3.5, spread, D)).round()).astype(int)
        documents = np.repeat(np.arange(D), sizes)
        losses = 3 + generator.normal(0, 0.3, D)[documents]
        nats = 128 * (losses + generator.normal(0, 0.3, len(documents)))
        tokens = np.full(len(documents), 128)
        sums = (by_document(nats, documents), by_document(tokens, documents))
        low, high = stats.mean_interval(*sums, seed=trial, resamples=400)
        hits += low <= 3 <= high
        low, high = stats.mean_interval(nats, tokens, seed=trial, resamples=400)
        alone += low <= 3 <= high
    assert hits / trials > 0.89
    assert alone / trials < 0.6


def test_a_ratio_is_expanded_about_the_datas_own():
    """Exact for equal sizes and for the data's own weights, close where weights move little."""
    generator = np.random.default_rng(0)
    totals, sizes = generator.normal(300, 30, (2, 50)), generator.integers(80, 120, 50)
    weights = stats.resampling_weights(1, 50, 200, seed=0) * np.ones((1, 2, 1))
    plain = np.ones((1, 2, 50))
    whole = totals.sum() / (2 * sizes.sum())
    assert stats.weighted_mean(totals, sizes, plain) == pytest.approx([whole])
    ratio = (weights * totals).sum((1, 2)) / (weights * sizes).sum((1, 2))
    moved = stats.weighted_mean(totals, sizes, weights)
    assert moved == pytest.approx(ratio, abs=0.25 * ratio.std())
    alike = (weights * totals).sum((1, 2)) / 100
    assert stats.weighted_mean(totals, np.ones(50), weights) == pytest.approx(alike)
    one = np.zeros((1, 2, 50))
    one[0, 1] = 1  # the second row alone, whatever the scale of its weights
    assert stats.weighted_mean(totals, np.ones(50), one) == pytest.approx([totals[1].mean()])


def test_windows_of_a_document_are_added_up():
    values = np.arange(12).reshape(2, 6)
    assert by_document(values, [7, 7, 3, 3, 3, 9]).tolist() == [[9, 1, 5], [27, 13, 11]]
    assert by_document(values, [7] * 6) is not None
    assert by_document(values, [7] * 6).shape == by_document(values, None).shape == (2, 6)
    ends = np.array([5, 12, 20])
    windows = [(0, 4, 4), (4, 4, 4), (8, 4, 4), (12, 4, 2), (16, 3, 3)]
    # Middle predicted tokens 3, 7, 11, 16, 18.
    assert owners(windows, ends).tolist() == [0, 1, 1, 2, 2]


def test_fewer_of_unequal_size_count():
    assert stats.effective_number([4, 4, 4]) == pytest.approx(3)
    assert stats.effective_number([100, 1, 1]) == pytest.approx(1.04, abs=0.01)


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
    same = significance.paired_difference(a, b, ones, seed=0, resamples=1000)
    assert (same.value, same.low, same.high) == pytest.approx((found.value, found.low, found.high))


def test_a_paired_difference_weighs_windows_by_their_tokens():
    a, b, sizes = [10.0, 40.0], [8.0, 30.0], [5, 15]
    found = significance.paired_difference(a, b, sizes)
    assert found.value == pytest.approx((50 - 38) / 20)
    several = significance.paired_difference([a, a], [b, b], sizes)
    assert several.value == pytest.approx(found.value)
    with pytest.raises(ValueError, match=r"b: got losses of shape \(1, 3\)"):
        significance.paired_difference(a, [1, 2, 3], sizes)
    with pytest.raises(ValueError, match="sizes: got 3"):
        significance.paired_difference(a, b, [1, 2, 3])


def test_a_plain_mean_has_scipys_interval():
    values = np.random.default_rng(0).gamma(2, 1, 7)
    result = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert stats.plain_mean_interval(values) == pytest.approx((result.low, result.high))


def test_a_median_has_the_bootstraps_interval():
    values = np.random.default_rng(0).gamma(2, 1, 31)
    got = stats.median_interval(values, seed=1, resamples=20_000)
    expected = scipy.stats.bootstrap(
        (values,), np.median, method="percentile", n_resamples=20_000, rng=np.random.default_rng(2)
    ).confidence_interval
    assert got == pytest.approx((expected.low, expected.high), abs=0.05)
    assert stats.median_interval([3, 1, 2, 5, 4]) == (1, 5)  # of five, their range


@pytest.mark.parametrize(
    ("repeats", "low", "high"), [(3, 0.70, 0.80), (5, 0.91, 0.965), (9, 0.92, 0.98)]
)
def test_a_medians_interval_covers_what_its_docstring_says(repeats, low, high):
    generator = np.random.default_rng(repeats)
    true = math.log(2)  # of the exponential distribution: timings are skewed
    hits = 0
    for trial in range(600):
        ends = stats.median_interval(generator.exponential(1, repeats), trial, resamples=500)
        hits += ends[0] <= true <= ends[1]
    assert low < hits / 600 < high


def test_a_ratio_of_medians_cancels_what_slowed_both():
    generator = np.random.default_rng(0)
    slow = generator.gamma(5, 1, 21)  # the machine, repeat by repeat
    low, high = stats.ratio_of_medians_interval(2 * slow, slow)
    assert low == high == pytest.approx(2)
    shuffled = generator.permutation(slow)
    low, high = stats.ratio_of_medians_interval(2 * slow, shuffled)
    assert low < 2 < high


def test_a_ratio_of_medians_covers():
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(500):
        drift = generator.gamma(20, 0.05, 9)
        a, b = (scale * drift * generator.lognormal(0, 0.1, 9) for scale in (1.5, 1.0))
        low, high = stats.ratio_of_medians_interval(a, b, trial, resamples=400)
        hits += low <= 1.5 <= high
    assert 0.93 < hits / 500 <= 1


@pytest.mark.parametrize(("k", "n"), [(0, 5), (5, 5), (1, 1), (3, 10), (437, 1000), (0, 1)])
def test_a_share_has_wilsons_interval(k, n):
    expected = scipy.stats.binomtest(k, n).proportion_ci(method="wilson")
    assert stats.share_interval(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: stats.median_interval([1.0]), "values: got 1 values, allowed is a list of 2"),
        (lambda: stats.median_interval([1.0, math.nan]), "not finite"),
        (lambda: stats.plain_mean_interval([]), "values: got 0 values"),
        (lambda: stats.ratio_of_medians_interval([1, 2], [1, 2, 3]), "b: got 3 repeats"),
        (lambda: stats.ratio_of_medians_interval([1, 2], [1, 0]), "b: got 0, allowed is above 0"),
        (lambda: stats.share_interval(0, 0), "items: got 0"),
        (lambda: stats.share_interval(3, 2), "successes: got 3, allowed is 0 to 2"),
        (lambda: significance.sign_flip_p([]), "differences: got shape"),
        (lambda: significance.sign_flip_p([1, math.inf]), "not finite"),
        (lambda: significance.sign_flip_p([1, 2], flips=0), "flips: got 0"),
        (lambda: significance.mcnemar([], []), "first: got shape"),
        (lambda: significance.mcnemar([1, 0], [1]), "second: got 1 items"),
        (lambda: significance.mcnemar([1, 0.5], [1, 0]), "other than right and wrong"),
        (lambda: significance.holm([0.5, 1.5]), "p_values: got"),
    ],
)
def test_bad_input_is_one_line(call, says):
    with pytest.raises(ValueError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pairs", [1, 2, 5, 10])
def test_few_signs_are_all_gone_through(pairs):
    differences = np.random.default_rng(pairs).normal(0.4, 1, pairs)
    seen = abs(differences.sum())
    patterns = itertools.product((1, -1), repeat=pairs)
    slow = np.mean([abs(np.dot(signs, differences)) >= seen - 1e-12 for signs in patterns])
    assert significance.sign_flip_p(differences) == pytest.approx(slow)
    if pairs > 1:
        expected = scipy.stats.permutation_test(
            (differences, np.zeros(pairs)),
            lambda a, b, axis=-1: (a - b).mean(axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=2**pairs,
        )
        assert significance.sign_flip_p(differences) == pytest.approx(expected.pvalue)


def test_many_signs_are_drawn():
    differences = np.random.default_rng(1).normal(0.25, 1, 60)
    expected = scipy.stats.permutation_test(
        (differences, np.zeros(60)),
        lambda a, b, axis=-1: (a - b).mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=20_000,
        rng=np.random.default_rng(3),
    )
    got = significance.sign_flip_p(differences, flips=20_000)
    assert got == pytest.approx(expected.pvalue, abs=0.006)
    assert significance.sign_flip_p(differences + 10, flips=99) == pytest.approx(0.01)
    rows = np.stack([differences, -differences, 2 * differences, np.zeros(60)])
    many = significance.sign_flip_ps(rows, flips=2000)
    assert many[0] == many[1] == many[2]
    assert many[3] == 1


@pytest.mark.parametrize("pairs", [10, 40])
def test_sign_flip_raises_false_alarms_as_often_as_it_says(pairs):
    differences = np.random.default_rng(pairs).standard_t(3, (2000, pairs))
    p = significance.sign_flip_ps(differences, flips=399)
    for level in (0.01, 0.05, 0.2):
        spread = 3.5 * math.sqrt(level * (1 - level) / 2000)
        assert (p <= level).mean() == pytest.approx(level, abs=spread)


def outcomes(both, only_first, only_second, neither):
    first = [1] * both + [1] * only_first + [0] * only_second + [0] * neither
    second = [1] * both + [0] * only_first + [1] * only_second + [0] * neither
    return first, second


@pytest.mark.parametrize("table", [(5, 3, 9, 2), (0, 0, 0, 4), (7, 1, 0, 0), (2, 6, 6, 1),
                                   (100, 40, 71, 300)])  # fmt: skip
def test_mcnemar_is_the_binomial_test_of_what_differs(table):
    found = significance.mcnemar(*outcomes(*table))
    _, b, c, _ = table
    assert (found.both, found.only_first, found.only_second, found.neither) == table
    assert found.items == sum(table)
    assert found.difference == pytest.approx((b - c) / sum(table))
    expected = scipy.stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert found.p == pytest.approx(expected)
    mid = significance.mcnemar(*outcomes(*table), mid_p=True).p
    point = math.comb(b + c, b) / 2 ** (b + c)
    assert mid == pytest.approx(min(1, expected - point) if b != c else 1)


def test_mcnemar_by_hand():
    # 1 against 5: 2 * (1 + 6) / 64.
    assert significance.mcnemar(*outcomes(0, 1, 5, 0)).p == pytest.approx(14 / 64)
    assert significance.mcnemar(*outcomes(0, 5, 1, 0), mid_p=True).p == pytest.approx(8 / 64)


def test_mcnemar_raises_no_more_false_alarms_than_it_says():
    generator = np.random.default_rng(0)
    exact, mid = [], []
    for _ in range(1500):
        hard = generator.random(120)  # how hard each item is, for both
        first, second = generator.random((2, 120)) > hard
        exact.append(significance.mcnemar(first, second).p)
        mid.append(significance.mcnemar(first, second, mid_p=True).p)
    assert 0.02 < np.mean(np.array(exact) <= 0.05) <= 0.05  # conservative, as its docstring says
    assert 0.035 < np.mean(np.array(mid) <= 0.05) < 0.065


def test_holm_by_hand():
    assert significance.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert significance.holm([0.4, 0.9]).tolist() == [0.8, 0.9]
    assert significance.holm([]).tolist() == []


@given(P_VALUES)
@settings(max_examples=100)
def test_holm_is_its_slow_definition(p):
    got = significance.holm(p)
    order = sorted(range(len(p)), key=lambda i: p[i])
    for rank, i in enumerate(order):
        steps = [(len(p) - k) * p[order[k]] for k in range(rank + 1)]
        assert got[i] == pytest.approx(min(1, max(steps)))
    assert (got >= np.array(p)).all()
    assert (np.diff(got[order]) >= 0).all()
    # The procedure as Holm states it: reject step by step while p <= level / (those left).
    for level in (0.01, 0.05, 0.3):
        rejected = 0
        while rejected < len(p) and (len(p) - rejected) * p[order[rejected]] <= level:
            rejected += 1
        assert (got <= level).sum() == rejected


def test_holm_keeps_the_risk_of_a_family():
    generator = np.random.default_rng(0)
    alarms = [(significance.holm(generator.random(10)) <= 0.05).any() for _ in range(2000)]
    assert np.mean(alarms) < 0.065
