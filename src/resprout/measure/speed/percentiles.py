"""Percentiles over the steps of several runs. Pure functions of arrays."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from resprout.measure.statistics import RESAMPLES, percentile_interval


def step_percentiles(steps: ArrayLike, percents: Sequence[float]) -> list[float]:
    """Percentiles of all steps of all runs, (R, S), interpolated linearly between neighbours."""
    found = np.percentile(np.asarray(steps, dtype=np.float64), percents)
    return [float(value) for value in found]


def step_percentile_intervals(
    steps: ArrayLike, percents: Sequence[float], seed: int, resamples: int = RESAMPLES
) -> list[tuple[float, float]]:
    """Their 95 % intervals: a bootstrap that draws whole runs of (R, S).

    Steps of one run are not independent (a busy moment slows neighbours), so a bootstrap of single
    steps would give too narrow an interval (Davison and Hinkley 1997, section 3.8).
    """
    matrix = np.asarray(steps, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(len(matrix), size=(resamples, len(matrix)))
    # Few runs have few different resamples: of five, 126.
    rows, places = np.unique(np.sort(drawn, axis=1), axis=0, return_inverse=True)
    found = np.array([np.percentile(matrix[row], percents) for row in rows])[places.ravel()]
    return [percentile_interval(column) for column in found.T]
