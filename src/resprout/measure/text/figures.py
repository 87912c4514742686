"""Figures over texts, with their intervals.

Texts of one prompt are alike, so prompts are what an interval is over; where there is one prompt
only, its texts. They are few, five or twelve: a bootstrap of five values covers 84 % where 95 % is
named. Leaving one out at a time (the jackknife) with Student's factor is exact for a normal mean,
and serves ratios and distinct-n too, whose n-grams a bootstrap's copies of a text would repeat.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from resprout.measure.figure import Figure
from resprout.measure.statistics import share_interval
from resprout.measure.text.repetition import distinct_n, distinct_without_each

_ALONE = "one text, which has no spread"


def jackknife_interval(
    value: float, left_out: ArrayLike, low: float = 0.0, high: float = math.inf
) -> tuple[float, float]:
    """95 % interval of a figure from its values without each of m groups in turn.

    Standard error sqrt((m - 1) / m * sum of squares about the mean) (Efron and Tibshirani 1993,
    section 11.5), times Student's t with m - 1 degrees of freedom; cut to what is possible.

    Args:
        value: of all groups together.
        left_out: (m,), m two or more.
        low: the least possible.
        high: the greatest possible.
    """
    from scipy.special import stdtrit

    left = np.asarray(left_out, dtype=np.float64)
    m = len(left)
    error = math.sqrt((m - 1) / m * float(((left - left.mean()) ** 2).sum()))
    reach = float(stdtrit(m - 1, 0.975)) * error
    return max(low, value - reach), min(high, value + reach)


def mean_figure(
    values: Sequence[float | None],
    prompts: Sequence[str],
    unit: str,
    protocol: str,
    seconds: float,
    absent: str,
) -> Figure:
    """The mean over texts.

    Args:
        values: one for each text, not below 0; None where the text has none.
        prompts: the name of each text's prompt.
        unit: of the values; a `share` is not above 1.
        protocol: how they were made.
        seconds: what that took.
        absent: the reason where no text has a value.
    """
    there = [
        (value, name) for value, name in zip(values, prompts, strict=True) if value is not None
    ]
    return ratio_figure(
        [value for value, _ in there],
        [1] * len(there),
        [name for _, name in there],
        unit,
        protocol,
        seconds,
        absent,
        high=1.0 if unit == "share" else math.inf,
    )


def count_figure(
    hits: Sequence[bool | None],
    prompts: Sequence[str],
    protocol: str,
    seconds: float,
    absent: str,
) -> Figure:
    """The share of texts of which something is true; None where it cannot be asked.

    Its interval is Wilson's, which knows that none of twelve is not none at all; texts of one
    prompt count as one, or each for itself where there is one prompt only. Where prompts have
    several texts and these differ, it is as `mean_figure`'s.
    """
    there = [name for hit, name in zip(hits, prompts, strict=True) if hit is not None]
    found = mean_figure(
        [None if hit is None else float(hit) for hit in hits],
        prompts,
        "share",
        protocol,
        seconds,
        absent,
    )
    several = len(set(there)) > 1
    independent = len(set(there)) if several else len(there)
    mixed = several and independent < len(there) and found.value not in (0, 1)
    if found.value is None or independent < 2 or mixed:
        return found
    interval = share_interval(round(found.value * independent), independent)
    return Figure(found.value, "share", len(there), protocol, seconds, interval)


def ratio_figure(
    totals: Sequence[float],
    sizes: Sequence[float],
    groups: Sequence[str],
    unit: str,
    protocol: str,
    seconds: float,
    absent: str,
    through: Callable[[float], float] = float,
    alone: str = _ALONE,
    high: float = math.inf,
) -> Figure:
    """Sum of totals over sum of sizes, `through` an increasing function.

    `groups` names what belongs together, `alone` says why a single one has no interval.
    """
    if not totals:
        return Figure(None, unit, 0, protocol, seconds, reason=absent)
    keys: Sequence[object] = groups if len(set(groups)) > 1 else range(len(totals))
    sums: dict[object, list[float]] = {}
    for key, total, size in zip(keys, totals, sizes, strict=True):
        own = sums.setdefault(key, [0.0, 0.0])
        own[0] += total
        own[1] += size
    each = np.array(list(sums.values()))  # (groups, 2)
    whole = each.sum(axis=0)
    plain = float(whole[0] / whole[1])
    try:
        value = through(plain)
        interval = None
        if len(each) > 1:
            left = (whole[0] - each[:, 0]) / (whole[1] - each[:, 1])
            ends = jackknife_interval(plain, left, high=high)
            interval = (through(ends[0]), through(ends[1]))
    except OverflowError:
        return Figure(None, unit, len(totals), protocol, seconds, reason="beyond a float")
    reason = None if interval else alone
    return Figure(value, unit, len(totals), protocol, seconds, interval, reason)


def distinct_figure(
    texts: Sequence[Sequence[int]], prompts: Sequence[str], n: int, protocol: str, seconds: float
) -> Figure:
    """distinct-n of all texts together."""
    value = distinct_n(texts, n)
    if value is None:
        return Figure(None, "share", 0, protocol, seconds, reason=f"no text has {n} tokens")
    keys: Sequence[object] = prompts if len(set(prompts)) > 1 else range(len(texts))
    groups: dict[object, list[Sequence[int]]] = {}
    for key, ids in zip(keys, texts, strict=True):
        groups.setdefault(key, []).append(ids)
    left = distinct_without_each(list(groups.values()), n)
    if len(left) < 2:
        return Figure(value, "share", len(texts), protocol, seconds, reason=_ALONE)
    interval = jackknife_interval(value, left, high=1.0)
    return Figure(value, "share", len(texts), protocol, seconds, interval)
