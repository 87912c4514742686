"""From series and pairs to figures: a level's estimate, and agency against its baseline."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from resprout.report.agency.contrasts import Effect, Reading, contrast
from resprout.report.agency.pairs import Pair
from resprout.report.agency.readings import (
    PERPLEXITY,
    TOKENS_PER_SECOND,
    Measure,
    Record,
    logarithm,
    read,
    speed_ratio,
)
from resprout.report.series import Series

Reader = Callable[[Record], Reading | str]
# factor, whose, at which level, read how
Term = tuple[float, Series, float, Reader]


@dataclass(frozen=True)
class Improvement:
    """Agency over its baseline, in per cent, up = better.

    Attributes:
        percent, low, high: 100 x (ratio of agency to baseline - 1), its sign turned where lower is
            better; no interval is None.
        effect: the difference of logarithms behind it, agency minus baseline (for perplexity: the
            difference of the losses in nats per token).
    """

    percent: float
    low: float | None
    high: float | None
    effect: Effect


def combine(terms: Sequence[Term], seeds: Sequence[int]) -> Effect | str:
    """The sum of factor x reading over the seeds that have all of them; else the reason."""
    kept: list[list[Reading]] = [[] for _ in terms]
    reasons = []
    for seed in seeds:
        row = [reader(own.points[level][seed]) for _, own, level, reader in terms]
        absent = [
            f"{own.subject} at {100 * level:g} %, seed {seed}: {reading}"
            for (_, own, level, _), reading in zip(terms, row, strict=True)
            if isinstance(reading, str)
        ]
        if absent:
            reasons += absent
            continue
        for column, reading in zip(kept, row, strict=True):
            assert isinstance(reading, Reading)
            column.append(reading)
    if not kept[0]:
        return reasons[0] if reasons else "no seed that all have"
    try:
        return contrast([(term[0], own) for term, own in zip(terms, kept, strict=True)])
    except ValueError as error:
        return str(error)


def reader(measure: Measure, workload: str | None, temperature: str | None = None) -> Reader:
    """Reads a measure's plain values."""
    return lambda record: read(record, measure, workload, temperature)


def log_reader(measure: Measure, workload: str | None) -> Reader:
    """Reads a measure's logarithms, of which a difference is a ratio."""

    def of(record: Record) -> Reading | str:
        found = read(record, measure, workload)
        return found if isinstance(found, str) else logarithm(found, measure.complement)

    return of


def level_estimate(
    own: Series,
    measure: Measure,
    level: float,
    workload: str | None,
    temperature: str | None = None,
) -> Effect | str:
    """A measure at a level, mean over its seeds; perplexity is exp of the mean loss."""
    term: Term = (1.0, own, level, reader(measure, workload, temperature))
    found = combine([term], own.seeds_at(level))
    if isinstance(found, str):
        return found
    if measure is PERPLEXITY:
        value, low, high = (exponential(x) for x in (found.value, found.low, found.high))
    else:
        low = None if found.low is None else max(0.0, found.low)
        high = None if found.high is None else min(measure.high, found.high)
        value = found.value
    assert value is not None
    return Effect(value, low, high, None, found.seeds, found.over)


def gap(pair: Pair, measure: Measure, level: float, workload: str | None) -> Effect | str:
    """Logarithm of agency's value over the baseline's, seeds (and windows) paired."""
    if measure is PERPLEXITY and _tokens(pair.agency) != _tokens(pair.baseline):
        return "the tokens differ, so losses per token cannot be compared"
    read_log = log_reader(measure, workload)
    return combine(
        [(1.0, pair.agency, level, read_log), (-1.0, pair.baseline, level, read_log)], pair.seeds
    )


def gap_change(
    pair: Pair, measure: Measure, low: float, high: float, workload: str | None
) -> Effect | str:
    """How much the gap changes from the level `low` to the level `high`."""
    if measure is PERPLEXITY and _tokens(pair.agency) != _tokens(pair.baseline):
        return "the tokens differ, so losses per token cannot be compared"
    read_log = log_reader(measure, workload)
    terms: list[Term] = [
        (sign * factor, own, level, read_log)
        for factor, own in ((1.0, pair.agency), (-1.0, pair.baseline))
        for sign, level in ((1.0, high), (-1.0, low))
    ]
    return combine(terms, pair.seeds)


def improvement(
    pair: Pair, measure: Measure, level: float, workload: str | None
) -> Improvement | str:
    """Agency over its baseline at a level, in per cent."""
    found = gap(pair, measure, level, workload)
    return found if isinstance(found, str) else in_percent(found, measure.gain)


def in_percent(effect: Effect, better: int) -> Improvement:
    """A difference of logarithms as a change in per cent, up = better."""
    ratios = [exponential(x) for x in (effect.value, effect.low, effect.high)]
    value, low, high = (None if x is None else better * 100 * (x - 1) for x in ratios)
    assert value is not None
    if low is not None and high is not None:
        low, high = sorted((low, high))
    return Improvement(value, low, high, effect)


def speed_gain(own: Series, level: float, workload: str | None) -> Improvement | str:
    """Tokens per second over the subject's own uncut ones, in per cent.

    By the ratio that was timed in turn where every seed has one, else from the two points.
    """
    seeds = [seed for seed in own.seeds_at(level) if seed in own.points.get(0.0, {})]

    def of_ratio(record: Record) -> Reading | str:
        found = speed_ratio(record, workload)
        return found if isinstance(found, str) else logarithm(found)

    found = combine([(1.0, own, level, of_ratio)], own.seeds_at(level))
    if isinstance(found, str):
        read_log = log_reader(TOKENS_PER_SECOND, workload)
        if not seeds:
            return "no uncut point to compare with"
        found = combine([(1.0, own, level, read_log), (-1.0, own, 0.0, read_log)], seeds)
    return found if isinstance(found, str) else in_percent(found, 1)


def exponential(x: float | None) -> float | None:
    """exp, infinite where a float ends; None stays None."""
    if x is None:
        return None
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def _tokens(own: Series) -> set[str]:
    return {r["digests"]["tokens"] for level in own.points.values() for r in level.values()}
