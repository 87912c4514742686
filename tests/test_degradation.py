"""Curves over levels against scipy, numpy, closed forms and simulated truth."""

import numpy as np
import pytest
import scipy.integrate
import scipy.interpolate
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from resprout.measure import degradation as deg
from resprout.measure.interpolation import ascending, interpolate, mean_over_range
from resprout.measure.statistics import from_resamples, resampling_weights, weighted_mean

X = np.array([0.0, 0.2, 0.45, 0.7, 0.9])
RISING = np.array([[2.0, 2.05, 2.2, 2.9, 5.0], [3.0, 3.0, 3.15, 3.15, 4.0]])
# Six decimals, as losses have: slopes of 1e-300 overflow in SciPy.
HEIGHTS = st.lists(st.floats(-5, 5).map(lambda height: round(height, 6)), min_size=5, max_size=5)


def pchip(row, x=X):
    return scipy.interpolate.PchipInterpolator(x, row)


def test_linear_interpolation_is_numpys():
    x, y = np.array([0.0, 1.0, 4.0]), np.array([[1.0, 3.0, 0.0], [5.0, 5.0, 6.0]])
    at = np.array([0.0, 0.25, 1.0, 2.5, 4.0])
    expected = [np.interp(at, x, row) for row in y]
    np.testing.assert_allclose(interpolate(at, x, y, "linear"), expected)


def test_monotone_interpolation_is_scipys():
    at = np.linspace(0, 0.9, 37)
    np.testing.assert_allclose(interpolate(at, X, RISING), [pchip(row)(at) for row in RISING])
    np.testing.assert_allclose(interpolate(X, X, RISING), RISING)


@given(HEIGHTS)
@settings(max_examples=60)
def test_it_stays_between_neighbouring_levels(heights):
    at = np.linspace(0, 0.9, 91)
    y = interpolate(at, X, [heights])[0]
    piece = np.clip(np.searchsorted(X, at, side="right") - 1, 0, 3)
    ends = np.array(heights)[np.stack([piece, piece + 1])]
    assert (y >= ends.min(0) - 1e-9).all()
    assert (y <= ends.max(0) + 1e-9).all()


@pytest.mark.parametrize("kind", ["monotone", "linear"])
def test_a_straight_line_stays_one(kind):
    at = np.linspace(0, 0.9, 11)
    np.testing.assert_allclose(interpolate(at, X, 3 - 2 * X, kind)[0], 3 - 2 * at)
    assert mean_over_range(0.1, 0.6, X, 3 - 2 * X, kind)[0] == pytest.approx(3 - 2 * 0.35)
    assert interpolate([7.0], [7.0], [[1.5]], kind).tolist() == [[1.5]]


def test_close_to_a_parabola():
    x = np.linspace(0, 1, 21)
    at = np.linspace(0, 1, 200)
    assert interpolate(at, x, x**2)[0] == pytest.approx(at**2, abs=5e-4)
    assert mean_over_range(0, 1, x, x**2)[0] == pytest.approx(1 / 3, abs=1e-4)


def test_mean_over_a_range_is_the_integral():
    x, y = np.array([0.0, 1.0, 4.0]), np.array([[1.0, 3.0, 0.0]])
    fine = np.linspace(0.5, 3.0, 100_001)
    expected = np.interp(fine, x, y[0]).mean()
    assert mean_over_range(0.5, 3.0, x, y, "linear")[0] == pytest.approx(expected, rel=1e-4)
    assert mean_over_range(2.5, 2.5, x, y, "linear")[0] == pytest.approx(1.5)
    for low, high in ((0.0, 0.9), (0.1, 0.3), (0.33, 0.34)):
        expected = [
            scipy.integrate.quad(pchip(row), low, high, points=X, epsabs=1e-12)[0] for row in RISING
        ]
        got = mean_over_range(low, high, X, RISING)
        assert got == pytest.approx(np.array(expected) / (high - low))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: interpolate([-0.1], X, RISING), "at: got -0.1, allowed is 0 to 0.9"),
        (lambda: interpolate([0.5, 1.0], X, RISING), "at: got 0.5 to 1, allowed is 0 to 0.9"),
        (lambda: interpolate([0.5], [0, 0, 1], [[1, 2, 3]]), "x: got .* increasing"),
        (lambda: interpolate([0.5], X, [[1, 2]]), r"y: got shape \(1, 2\)"),
        (lambda: interpolate([0.5], X, [[1, 2, 3, 4, np.nan]]), "y: got a value that is not"),
        (lambda: interpolate([0.5], X, RISING, "cubic"), "kind: got 'cubic'"),
        (lambda: mean_over_range(0.5, 1.5, X, RISING), "range: got 0.5 to 1.5"),
        (lambda: mean_over_range(0.5, 0.1, X, RISING), "low: got 0.5"),
        (lambda: deg.mean_rise(0.9, X + 0.05, RISING), r"amounts: got \[0.05\] first"),
        (lambda: deg.mean_rise(0.95, X, RISING), "allowed is 0 to 0.9"),
        (lambda: ascending([3, 3], [[1, 2]]), "x: got several levels at 3"),
        (lambda: ascending([3], [[1, 2]]), r"y: got shape \(1, 2\)"),
        (lambda: deg.loss_at_equal([1, 2], RISING[:, :2], [3, 4], RISING[:, :2]),
         "x: got 1 to 2 and 3 to 4, allowed are ranges that meet"),
        (lambda: deg.loss_at_equal([1, 3], RISING[:, :2], [2, 4], RISING[:, :2], [3.5]),
         "places: got 3.5, allowed is 2 to 3"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(call, says):
    with pytest.raises(ValueError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_levels_in_any_order_and_the_same_cut_twice():
    x, y = ascending([3.0, 1.0, 3.0, 2.0], [[5.0, 7.0, 5.0, 6.0]])
    assert x.tolist() == [1, 2, 3]
    assert y.tolist() == [[7, 6, 5]]


def test_the_area_under_the_curve():
    assert deg.mean_rise(0.9, X, 2 + X)[0] == pytest.approx(0.45)
    quadratic = np.linspace(0, 1, 41)
    assert deg.mean_rise(1.0, quadratic, 2 + quadratic**2)[0] == pytest.approx(1 / 3, abs=1e-4)
    expected = [scipy.integrate.quad(pchip(row), 0, 0.7, points=X)[0] / 0.7 for row in RISING]
    assert deg.mean_rise(0.7, X, RISING) == pytest.approx(np.array(expected) - RISING[:, 0])


def test_largest_within_on_linear_pieces():
    x = [0.0, 0.5, 0.9]
    curves = [[0.0, 0.05, 0.25], [0.0, 0.2, 0.1], [0.0, 0.0, 0.1], [0.2, 0.0, 0.0]]
    got = deg.largest_within(0.1, x, curves, "linear")
    assert got == pytest.approx([0.6, 0.25, 0.9, 0.0])


def test_the_largest_tolerated_amount_is_a_root():
    got = deg.largest_tolerated(0.1, X, RISING)
    for amount, row in zip(got, RISING, strict=True):
        curve = pchip(row)
        assert curve(amount) == pytest.approx(row[0] + 0.1, abs=1e-12)
        assert curve(amount + 1e-6) > row[0] + 0.1
    first = scipy.optimize.brentq(lambda t: pchip(RISING[0])(t) - 2.1, 0.2, 0.45, xtol=1e-14)
    assert got[0] == pytest.approx(first, abs=1e-12)
    # One that comes back below the limit had left it all the same.
    assert deg.largest_tolerated(0.1, X, [[1, 1, 2, 1, 1]])[0] < 0.45
    assert deg.largest_tolerated(9, X, RISING).tolist() == [0.9, 0.9]


@pytest.mark.parametrize("kind", ["monotone", "linear"])
def test_a_knee_is_farthest_below_the_chord(kind):
    got = deg.knee(X, RISING, kind)
    fine = np.linspace(0, 0.9, 90_001)
    for row, found in zip(RISING, got, strict=True):
        chord = row[0] + (row[-1] - row[0]) * fine / 0.9
        below = chord - interpolate(fine, X, row, kind)[0]
        assert found == pytest.approx(fine[below.argmax()], abs=2e-5)


def test_knees_of_closed_forms():
    x = np.linspace(0, 1, 101)
    assert deg.knee(x, x**2)[0] == pytest.approx(0.5, abs=0.01)
    assert deg.knee(x, x**4)[0] == pytest.approx((1 / 4) ** (1 / 3), abs=0.01)
    corner = [[1.0, 1.0, 1.0, 2.0, 3.0]]
    assert deg.knee([0, 1, 2, 3, 4], corner, "linear")[0] == 2
    # Scales and shifts of either axis change nothing.
    assert deg.knee(5 + 3 * x, 7 + 9 * x**2)[0] == pytest.approx(5 + 3 * deg.knee(x, x**2)[0])


def test_curves_without_a_knee():
    none = [1 + X, 1 - X, np.ones(5), np.sqrt(X), 1 - X**2]  # straight, falling, flat, concave
    assert np.isnan(deg.knee(X, none)).all()
    assert np.isnan(deg.knee([0.5], [[1.0]])).all()
    mixed = deg.knee(X, [RISING[0], 1 - X, RISING[1]])
    assert np.isnan(mixed).tolist() == [False, True, False]


def test_the_interval_of_a_knee():
    assert deg.knee_estimate([np.nan, 0.5, 0.5]) is None
    assert deg.knee_estimate([0.5, *[0.5] * 90, *[np.nan] * 10]) is None
    found = deg.knee_estimate([0.5, *np.linspace(0.4, 0.6, 100), np.nan])
    assert found.value == 0.5
    assert found.low == pytest.approx(0.405)
    assert found.high == pytest.approx(0.595)


def test_losses_at_equal_size_by_hand():
    # Straight lines: A falls from 4 to 2 over 0 to 10, B from 6 to 3 over 5 to 20.
    a, b = np.array([[4.0, 2.0]] * 3), np.array([[3.0, 6.0]] * 3)
    found = deg.loss_at_equal([0, 10], a, [20, 5], b, places=[5, 8])
    assert (found.low, found.high) == (5, 10)
    assert found.at[5.0].value == pytest.approx(3 - 6)
    assert found.at[8.0].value == pytest.approx(2.4 - 5.4)
    assert found.mean.value == pytest.approx((3 - 6 + 2 - 5) / 2)
    touching = deg.loss_at_equal([0, 10], a, [10, 20], b)
    assert touching.mean.value == pytest.approx(2 - 3)
    assert deg.common_range([3, 1], [2, 9]) == (2, 3)
    assert deg.common_range([3, 1], [4, 9]) is None


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_difference_at_equal_size_covers(seeds):
    """Two subjects whose true curves are known, on shared windows, with noise of every kind."""
    generator = np.random.default_rng(seeds)
    W, trials = 60, 250
    sizes_a, sizes_b = np.array([1.0, 2.0, 3.5, 5.0]), np.array([1.5, 2.5, 4.0, 6.0])
    true_a, true_b = 3 + 1 / sizes_a, 3.1 + 1 / sizes_b
    low, high = 1.5, 5.0
    truth = (
        pchip(true_a, sizes_a).integrate(low, high) - pchip(true_b, sizes_b).integrate(low, high)
    ) / (high - low)
    tokens = generator.integers(10, 20, W)
    hits = 0
    for trial in range(trials):
        hard = generator.normal(0, 0.5, W)
        weights = resampling_weights(seeds, W, 300, trial)
        weights = np.concatenate([np.ones((1, seeds, W)), weights])
        resampled = []
        for true in (true_a, true_b):
            run = generator.normal(0, 0.05, (seeds, 1)) if seeds > 1 else 0.0
            own = generator.normal(0, 0.1, W)
            levels = [
                weighted_mean(
                    tokens * (t + hard + own + run + generator.normal(0, 0.1, (seeds, W))),
                    tokens,
                    weights,
                )
                for t in true
            ]
            resampled.append(np.stack(levels, axis=1))
        found = deg.loss_at_equal(sizes_a, resampled[0], sizes_b, resampled[1])
        hits += found.mean.low <= truth <= found.mean.high
    assert 0.91 < hits / trials <= (0.98 if seeds == 1 else 1.0)


def test_the_largest_tolerated_amount_covers():
    generator = np.random.default_rng(0)
    W, trials = 80, 250
    true = np.array([2.0, 2.02, 2.15, 2.9, 5.0])
    truth = deg.largest_tolerated(0.1, X, true)[0]
    hits = 0
    for trial in range(trials):
        hard = generator.normal(0, 0.5, W)
        losses = true[:, None] + hard + generator.normal(0, 0.2, (5, W)) * (X > 0)[:, None]
        weights = np.concatenate([np.ones((1, 1, W)), resampling_weights(1, W, 300, trial)])
        resampled = np.stack([weighted_mean(row, np.ones(W), weights) for row in losses], axis=1)
        found = from_resamples(deg.largest_tolerated(0.1, X, resampled))
        hits += found.low <= truth <= found.high
    assert 0.90 < hits / trials < 0.985
