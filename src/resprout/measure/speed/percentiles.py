"""Percentiles over the steps of several runs. Pure functions of arrays."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from resprout.measure.statistics import median_interval


def step_percentiles(steps: ArrayLike, percents: Sequence[float]) -> list[float]:
    """Percentiles of all steps of all runs, (R, S), interpolated linearly between neighbours."""
    found = np.percentile(np.asarray(steps, dtype=np.float64), percents)
    return [float(value) for value in found]


def median_step_interval(steps: ArrayLike, seed: int) -> tuple[float, float]:
    """95 % interval of the median step of (R, S): the median of the runs' own medians.

    Steps of one run are not independent (a busy moment slows neighbours), so runs are what is
    drawn (`median_interval`: of five runs, the range of their medians). Of high percentiles there
    is no such interval: where runs differ, those of five tell next to nothing of the slowest step
    in a hundred (a bootstrap of whole runs covers it in 23 to 85 % of cases, not in 95).
    """
    return median_interval(np.median(np.asarray(steps, dtype=np.float64), axis=1), seed)
