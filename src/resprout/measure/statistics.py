"""Statistics of comparison. Pure functions of arrays; every interval is 95 % unless said.

Losses come per window, (S, W): S seeds (training runs), W held-out windows. A bootstrap
(Efron 1979) resamples windows and, where there are several, seeds, and recomputes the figure.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 2000
LEVEL = 0.95

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval."""
        return self.low > 0 or self.high < 0


def percentile_interval(resampled: Floats, level: float = LEVEL) -> tuple[float, float]:
    """The percentile interval of a bootstrap's figures, (R,)."""
    tail = (1 - level) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(low), float(high)


def resampling_weights(seeds: int, windows: int, resamples: int, seed: int) -> Floats:
    """How often each (seed, window) cell counts in each resample, (R, S, W).

    Windows are drawn with replacement, and seeds too where there are several (the two-level
    bootstrap; Davison and Hinkley 1997, section 3.8). Subjects that are given the same weights
    are compared in pairs.
    """
    generator = np.random.default_rng(seed)
    window_counts = generator.multinomial(windows, np.full(windows, 1 / windows), size=resamples)
    seed_counts = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    return np.multiply(seed_counts[:, :, None], window_counts[:, None, :], dtype=np.float64)


def weighted_mean(totals: ArrayLike, sizes: ArrayLike, weights: ArrayLike) -> Floats:
    """Ratio of sums: loss per token from per-window totals.

    Args:
        totals: (S, W) summed loss per window, or (W,).
        sizes: (W,) tokens per window.
        weights: (R, S, W) from `resampling_weights`.

    Returns:
        (R,) one figure per resample.
    """
    matrix = np.atleast_2d(np.asarray(totals, dtype=np.float64))
    counts = np.broadcast_to(np.asarray(sizes, dtype=np.float64), matrix.shape)
    repeats = np.asarray(weights)
    return np.einsum("rsw,sw->r", repeats, matrix) / np.einsum("rsw,sw->r", repeats, counts)


def mean_interval(
    totals: ArrayLike, sizes: ArrayLike, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """95 % interval of the mean loss per token, over windows (and seeds, if `totals` has rows)."""
    matrix = np.atleast_2d(np.asarray(totals, dtype=np.float64))
    weights = resampling_weights(matrix.shape[0], matrix.shape[1], resamples, seed)
    return percentile_interval(weighted_mean(matrix, sizes, weights))


def estimate(figure: Callable[[Floats], Floats], weights: Floats) -> Estimate:
    """A figure of resampling weights, (R, S, W) -> (R,), at the data itself and its interval."""
    plain = np.ones((1, *weights.shape[1:]))
    low, high = percentile_interval(figure(weights))
    return Estimate(float(figure(plain)[0]), low, high)


def interpolate(at: ArrayLike, x: ArrayLike, y: ArrayLike) -> Floats:
    """Piecewise linear curves, without extrapolation.

    Args:
        at: (P,) where to read the curves.
        x: (L,) the levels, increasing.
        y: (R, L) one curve per resample.

    Returns:
        (R, P).

    Raises:
        ValueError: a place outside the curve, or levels not increasing.
    """
    places, levels = np.asarray(at, dtype=np.float64), np.asarray(x, dtype=np.float64)
    if len(levels) > 1 and (np.diff(levels) <= 0).any():
        raise ValueError(f"x: got {levels.tolist()}, needs increasing levels")
    if (places < levels[0]).any() or (places > levels[-1]).any():
        raise ValueError(f"at: got {places.tolist()}, allowed is {levels[0]:g} to {levels[-1]:g}")
    curves = np.atleast_2d(np.asarray(y, dtype=np.float64))
    if len(levels) == 1:
        return np.repeat(curves, len(places), axis=1)
    right = np.clip(np.searchsorted(levels, places), 1, len(levels) - 1)
    share = (places - levels[right - 1]) / (levels[right] - levels[right - 1])
    return curves[:, right - 1] * (1 - share) + curves[:, right] * share


def mean_over_range(low: float, high: float, x: ArrayLike, y: ArrayLike) -> Floats:
    """The mean height of piecewise linear curves between two places: exact, by trapezoids.

    `x`: (L,) increasing, `y`: (R, L); returns (R,). With low = high, the height there.
    """
    levels = np.asarray(x, dtype=np.float64)
    if high == low:
        return interpolate([low], levels, y)[:, 0]
    inner = levels[(levels > low) & (levels < high)]
    places = np.concatenate([[low], inner, [high]])
    return np.trapezoid(interpolate(places, levels, y), places, axis=1) / (high - low)


def largest_within(limit: float, x: ArrayLike, y: ArrayLike) -> Floats:
    """The largest x up to which a curve has stayed at or below `limit`, on its linear pieces.

    `x`: (L,) increasing, `y`: (R, L) with the first level at or below the limit; returns (R,).
    A curve that starts above the limit gives the first x.
    """
    levels = np.asarray(x, dtype=np.float64)
    curves = np.atleast_2d(np.asarray(y, dtype=np.float64))
    found = np.full(len(curves), levels[-1])
    for row, curve in enumerate(curves):
        over = np.flatnonzero(curve > limit)
        if over.size:
            first = over[0]
            if first == 0:
                found[row] = levels[0]
                continue
            share = (limit - curve[first - 1]) / (curve[first] - curve[first - 1])
            found[row] = levels[first - 1] + share * (levels[first] - levels[first - 1])
    return found
