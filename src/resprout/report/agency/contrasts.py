"""Weighted sums of readings (a level, a difference, a change of a difference) with their intervals.

Pure maths. What an interval is over depends on what there is: held-out documents where readings
have them (and seeds, `measure.statistics`), else seeds by Student's t, else, with a single seed or
seeds that agree exactly, the intervals of the records themselves.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from resprout.measure.significance import resampled_p
from resprout.measure.statistics import (
    LEVEL,
    RESAMPLES,
    Floats,
    effective_number,
    from_resamples,
    kept_weights,
    plain_mean_interval,
    weighted_mean,
)


@dataclass(frozen=True)
class Reading:
    """One figure of one record.

    Attributes:
        value: in the measure's unit, or its logarithm.
        low, high: 95 % interval within the record (documents, prompts, repeats); None: there is
            none.
        nats: (W,) summed loss of each held-out document or, where the record does not tell them
            apart, window (`measure.drawn`); of a loss only.
        sizes: (W,) tokens of each.
    """

    value: float
    low: float | None = None
    high: float | None = None
    nats: Floats | None = None
    sizes: Floats | None = None


@dataclass(frozen=True)
class Effect:
    """A weighted sum of readings.

    Attributes:
        value: the sum; a mean over seeds.
        low, high: 95 % interval; None where there is none (`over` says so).
        p: two-sided p-value of a sum of zero; None without an interval.
        seeds: how many training seeds.
        over: what the interval is over, in words.
    """

    value: float
    low: float | None
    high: float | None
    p: float | None
    seeds: int
    over: str

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside of the interval; False where there is none."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


NO_INTERVAL = "nothing: the record has no interval"
OF_RECORDS = "what the record's own interval is over, not seeds"
OF_EQUAL_SEEDS = "what the records' own intervals are over, since the seeds agree exactly"


def contrast(terms: Sequence[tuple[float, Sequence[Reading]]]) -> Effect:
    """The sum of factor x reading, the mean over seeds.

    Args:
        terms: (factor, one reading per seed); seeds in the same order in each.

    Raises:
        ValueError: readings of other windows, which cannot be summed window by window.
    """
    seeds = len(terms[0][1])
    assert seeds and all(len(readings) == seeds for _, readings in terms), "seeds must be paired"
    if all(r.nats is not None for _, readings in terms for r in readings):
        return _of_windows(terms, seeds)
    sums = np.array([sum(c * readings[s].value for c, readings in terms) for s in range(seeds)])
    own = [(c / seeds, reading) for c, readings in terms for reading in readings]
    if seeds > 1 and np.ptp(sums) == 0:
        # Coarse figures of few seeds agree by chance; that says nothing of how far they scatter.
        return _of_records(own, seeds)
    if seeds > 1:
        low, high = plain_mean_interval(sums)
        return Effect(float(sums.mean()), low, high, student_p(sums), seeds, "seeds")
    return _of_records(own, seeds)


def loss_matrix(readings: Sequence[Reading]) -> tuple[Floats, Floats]:
    """Summed nats, (S, W), and tokens, (W,), of each document (or window) of one level's seeds.

    Raises:
        ValueError: seeds whose windows differ.
    """
    sizes = readings[0].sizes
    assert sizes is not None
    for reading in readings:
        if reading.sizes is None or not np.array_equal(reading.sizes, sizes):
            raise ValueError("windows: got records of other held-out windows, allowed are the same")
    return np.array([reading.nats for reading in readings]), sizes


def resampled(matrix: Floats, sizes: Floats) -> Floats:
    """(1 + R,) nats per token: the data's own, then the resampled; the same weights for all."""
    seeds, windows = matrix.shape
    plain = np.ones((1, seeds, windows))
    weights = kept_weights(seeds, windows, RESAMPLES, 0, effective_number(sizes))
    return np.concatenate([weighted_mean(matrix, sizes, w) for w in (plain, weights)])


def effect_of_resamples(values: Floats, seeds: int) -> Effect:
    """From (1 + R,) figures over what is drawn: p is where the interval's end meets zero."""
    found = from_resamples(values)
    over = "held-out text" if seeds == 1 else "seeds and held-out text"
    return Effect(found.value, found.low, found.high, resampled_p(values), seeds, over)


def student_p(values: ArrayLike) -> float:
    """Two-sided p-value of Student's t (1908) for a mean of zero, of (N,) values, N two or more."""
    from scipy.special import stdtr

    array = np.asarray(values, dtype=np.float64)
    error = array.std(ddof=1) / math.sqrt(len(array))
    if error == 0:
        return 1.0 if array[0] == 0 else 0.0
    return float(2 * stdtr(len(array) - 1, -abs(array.mean()) / error))


def _of_windows(terms: Sequence[tuple[float, Sequence[Reading]]], seeds: int) -> Effect:
    parts = [(c, *loss_matrix(readings)) for c, readings in terms]
    sizes = parts[0][2]
    if any(not np.array_equal(own, sizes) for _, _, own in parts):
        raise ValueError("windows: got records of other held-out windows, allowed are the same")
    total = sum(c * matrix for c, matrix, _ in parts)
    return effect_of_resamples(resampled(np.asarray(total), sizes), seeds)


def _of_records(terms: Sequence[tuple[float, Reading]], seeds: int) -> Effect:
    """Independent intervals combined: their reaches add in squares.

    Of an interval's two reaches the longer counts for both sides: that of a share is cut at 0 and
    1, and the shorter would promise what was never measured. A single reading keeps its own.
    """
    value = sum(c * r.value for c, r in terms)
    over = OF_RECORDS if seeds == 1 else OF_EQUAL_SEEDS
    squares = 0.0
    for c, r in terms:
        if r.low is None or r.high is None:
            return Effect(value, None, None, None, seeds, NO_INTERVAL)
        squares += (c * max(r.value - r.low, r.high - r.value)) ** 2
    reach = math.sqrt(squares)
    low, high = value - reach, value + reach
    if len(terms) == 1:
        c, r = terms[0]
        assert r.low is not None and r.high is not None
        low, high = sorted((c * r.low, c * r.high))
    return Effect(value, low, high, _normal_p(value, reach), seeds, over)


def _normal_p(value: float, reach: float) -> float:
    """The p-value that belongs to a 95 % interval of that reach."""
    if value == 0:
        return 1.0
    if reach <= 0:
        return 0.0
    z = NormalDist().inv_cdf((1 + LEVEL) / 2) * abs(value) / reach
    return 2 * NormalDist().cdf(-z)
