"""Intervals and p-values of sums of readings, against scipy, closed forms and measure's own."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from resprout.measure.significance import paired_difference, resampled_p
from resprout.report.agency.contrasts import (
    Reading,
    contrast,
    student_p,
)
from resprout.report.agency.readings import logarithm

VALUES = st.lists(st.floats(-10, 10), min_size=2, max_size=6, unique=True)


@given(VALUES, VALUES)
@settings(max_examples=50)
def test_over_seeds_it_is_the_paired_t_test(a, b):
    n = min(len(a), len(b))
    a, b = np.array(a[:n]), np.array(b[:n])
    if np.ptp(a - b) < 1e-6:
        return
    found = contrast([(1.0, [Reading(x) for x in a]), (-1.0, [Reading(x) for x in b])])
    test = stats.ttest_rel(a, b)
    interval = test.confidence_interval(0.95)
    assert found.p == pytest.approx(test.pvalue, rel=1e-6, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-6)
    assert (found.seeds, found.over) == (n, "seeds")


def test_over_windows_it_is_the_paired_bootstrap():
    generator = np.random.default_rng(0)
    sizes = generator.integers(5, 20, 30).astype(float)
    a, b = generator.normal(50, 5, (2, 3, 30))
    found = contrast(
        [
            (1.0, [Reading(0, nats=row, sizes=sizes) for row in a]),
            (-1.0, [Reading(0, nats=row, sizes=sizes) for row in b]),
        ]
    )
    own = paired_difference(a, b, sizes)
    assert (found.value, found.low, found.high) == pytest.approx((own.value, own.low, own.high))
    assert found.over == "seeds and held-out text"


def test_other_windows_are_refused():
    a = [Reading(0, nats=np.ones(3), sizes=np.ones(3))]
    b = [Reading(0, nats=np.ones(4), sizes=np.ones(4))]
    with pytest.raises(ValueError, match="windows"):
        contrast([(1.0, a), (-1.0, b)])
    with pytest.raises(ValueError, match="windows"):
        contrast([(1.0, [*a, *b])])


def test_one_seed_adds_the_records_reaches_in_squares():
    found = contrast([(1.0, [Reading(5, 4, 6)]), (-2.0, [Reading(1, 0.5, 1.5)])])
    reach = math.hypot(1, 1)
    assert (found.value, found.low, found.high) == pytest.approx((3, 3 - reach, 3 + reach))
    assert found.p == pytest.approx(2 * stats.norm.sf(3 / reach * stats.norm.ppf(0.975)))
    assert "not seeds" in found.over


def test_a_single_reading_keeps_its_own_interval():
    found = contrast([(-1.0, [Reading(5, 4.5, 9)])])
    assert (found.value, found.low, found.high) == (-5, -9, -4.5)


def test_without_any_interval_nothing_is_tested():
    found = contrast([(1.0, [Reading(5)]), (-1.0, [Reading(4, 3, 5)])])
    assert (found.value, found.low, found.p) == (1, None, None)
    assert not found.excludes_zero


def test_seeds_that_agree_by_chance_prove_nothing():
    """Coarse shares of two seeds agree often; Student's t would then be endlessly sure."""
    ours = [Reading(0.0, 0.0, 0.0)] * 2
    theirs = [Reading(0.0119, 0.0, 0.0631)] * 2
    found = contrast([(1.0, ours), (-1.0, theirs)])
    assert not found.excludes_zero
    assert found.p > 0.05
    bare = contrast([(1.0, [Reading(2.0)] * 3), (-1.0, [Reading(1.0)] * 3)])
    assert (bare.low, bare.p) == (None, None)


def test_student_p_at_its_ends():
    assert student_p([0.0, 0.0]) == 1
    assert student_p([1.0, 1.0]) == 0
    assert student_p([1.0, 2.0, 4.0]) == pytest.approx(stats.ttest_1samp([1, 2, 4], 0).pvalue)


@given(st.floats(-4, 4), st.integers(0, 50))
@settings(max_examples=40)
def test_p_of_resamples_agrees_with_their_interval(shift, seed):
    drawn = np.random.default_rng(seed).normal(shift, 1, 2001)
    low, high = np.quantile(drawn[1:], [0.025, 0.975])
    p = resampled_p(drawn)
    assert 0 < p <= 1
    if abs(p - 0.05) > 0.004:  # the interval's ends lie between two resamples
        assert (p < 0.05) == (low > 0 or high < 0)


def test_p_of_nothing_is_one():
    assert resampled_p(np.zeros(2001)) == 1
    assert resampled_p(np.ones(2001)) == pytest.approx(2 / 2001)


def test_logarithms():
    found = logarithm(Reading(math.e, 1.0, math.e**2))
    assert (found.value, found.low, found.high) == pytest.approx((1, 0, 2))
    found = logarithm(Reading(0.2, 0.1, 0.4), complement=True)
    expected = math.log(0.8), math.log(0.6), math.log(0.9)
    assert (found.value, found.low, found.high) == pytest.approx(expected)
    assert logarithm(Reading(0.0)) == "a value of 0 has no ratio"
    assert logarithm(Reading(1.0), complement=True) == "a value of 0 has no ratio"
    assert logarithm(Reading(0.5, -0.1, 1.0)).low is None
    assert logarithm(Reading(0.0), complement=True).value == 0
    loss = Reading(3.0, nats=np.ones(2), sizes=np.ones(2))
    assert logarithm(loss) is loss
