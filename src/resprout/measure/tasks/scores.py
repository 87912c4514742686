"""A task's scores: what one item counts, the score of all, its interval. Pure functions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resprout.measure.statistics import mean_interval, share_interval

# What lm-eval makes of the mean over items: perplexities are exp of nats per item, word or byte.
_EXPONENTIAL = ("perplexity", "word_perplexity", "byte_perplexity")
_BITS = "bits_per_byte"

Count = tuple[float, float]  # what an item adds to the numerator and to the denominator


@dataclass(frozen=True)
class Score:
    """One metric of one task.

    Attributes:
        value: lm-eval's own; None where it is not finite.
        stderr: lm-eval's own standard error; None where it has none.
        items: how many there were.
        unit: of the value and of `ci95`.
        ci95: 95 % interval.
        interval: how that was made.
        reason: why there is no value or no interval.
    """

    value: float | None
    stderr: float | None
    items: int
    unit: str
    ci95: tuple[float, float] | None
    interval: str | None
    reason: str | None


def is_perplexity(metric: str) -> bool:
    """Whether a metric's label names a perplexity."""
    return metric.partition(",")[0] in _EXPONENTIAL


def per(metric: str) -> str:
    """What a perplexity is per: `word`, `byte`, or `item` where lm-eval counts whole answers."""
    kind, _, rest = metric.partition(",")[0].partition("_")
    return kind if rest else "item"


def unit(metric: str) -> str:
    """The unit of a metric."""
    if is_perplexity(metric):
        return "perplexity"
    return "bits per byte" if metric.startswith(_BITS) else "share"


def count(metric: str, value: Any) -> Count | None:
    """What one item adds to a metric, from what lm-eval keeps of the item; None if not a mean.

    A number or a truth value counts as one; a list as so many; of perplexities lm-eval keeps the
    log-likelihood in nats, alone or with the number of words or bytes.
    """
    name = metric.partition(",")[0]
    if name in _EXPONENTIAL or name == _BITS:
        pair = value if isinstance(value, (list, tuple)) else (value, 1)
        return (-float(pair[0]), float(pair[1])) if len(pair) == 2 else None
    if isinstance(value, (bool, int, float)):
        return float(value), 1.0
    if isinstance(value, list) and all(isinstance(part, (bool, int, float)) for part in value):
        return float(sum(value)), float(len(value))
    return None


def of_mean(metric: str, mean: float) -> float:
    """The metric at a mean over items; infinite beyond what a float holds."""
    name = metric.partition(",")[0]
    if name in _EXPONENTIAL:
        return math.exp(mean) if mean < 709 else math.inf
    return mean / math.log(2) if name == _BITS else mean


def score(
    metric: str,
    value: float,
    stderr: float | None,
    groups: Sequence[Sequence[Any]],
    pooled: bool = True,
) -> Score:
    """A metric with its interval.

    Shares of right answers have Wilson's interval, other means and perplexities the percentile
    bootstrap over items.

    Args:
        metric: its label.
        value: what lm-eval reports.
        stderr: what lm-eval reports, None for nothing.
        groups: per task of a group (one for a task by itself) what lm-eval kept of each item.
        pooled: whether tasks count by their items, as lm-eval weights most groups, or equally.
    """
    items = sum(len(group) for group in groups)
    measure = unit(metric)

    def without(reason: str) -> Score:
        kept = value if math.isfinite(value) else None
        return Score(kept, stderr, items, measure, None, None, reason)

    if not math.isfinite(value):
        return without(f"lm-eval's value is {value}")
    if not pooled and len(groups) > 1:
        return without("no interval: the group's tasks count equally, whatever their size")
    counts = [count(metric, item) for group in groups for item in group]
    known = [one for one in counts if one is not None]
    if len(known) < len(counts) or sum(size for _, size in known) <= 0:
        return without(f"no interval: {metric} is not a mean over items")
    totals, sizes = np.array(known).T
    mean = float(totals.sum() / sizes.sum())
    if not math.isclose(of_mean(metric, mean), value, rel_tol=1e-9, abs_tol=1e-12):
        return without(f"no interval: lm-eval does not make {metric} as the mean over all items")
    if measure == "share" and (sizes == 1).all() and np.isin(totals, (0, 1)).all():
        interval = share_interval(int(totals.sum()), items)
        return Score(value, stderr, items, measure, interval, "Wilson", None)
    if items < 2:
        return without("no interval: there is one item only")
    if np.ptp(totals / np.maximum(sizes, 1)) == 0:
        return without("no interval: all items score alike")
    low, high = mean_interval(totals, sizes)
    if measure == "share":  # of few items the widened bootstrap may reach beyond what there can be
        low, high = max(0.0, low), min(1.0, high)
    ends = (of_mean(metric, low), of_mean(metric, high))
    if not math.isfinite(ends[1]):
        return without("no interval: its upper end is beyond what a float holds")
    return Score(value, stderr, items, measure, ends, "bootstrap over items", None)


def chance(samples: Sequence[dict[str, Any]], binary: bool) -> float | None:
    """What guessing gets: the mean over items of 1 / choices; None where that is not known.

    Where several answers are true (TruthfulQA's mc2) it is the share of them.

    Args:
        samples: lm-eval's, of a task of choices.
        binary: whether each item is right or wrong.
    """
    levels = []
    for sample in samples:
        targets = sample["doc"].get("mc2_targets") if isinstance(sample["doc"], dict) else None
        if binary:
            levels.append(1 / len(sample["arguments"]))
        elif targets:
            levels.append(sum(targets["labels"]) / len(targets["labels"]))
        else:
            return None
    return sum(levels) / len(levels) if levels else None
