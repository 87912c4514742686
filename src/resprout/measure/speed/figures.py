"""From timed runs to figures: medians over repeats, percentiles over steps, ratios in pairs."""

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from resprout.measure.figure import Figure
from resprout.measure.speed.decoding import Run
from resprout.measure.speed.options import REPEATS_FOR_AN_INTERVAL, SpeedOptions
from resprout.measure.speed.percentiles import median_step_interval, step_percentiles
from resprout.measure.speed.timing import Timed
from resprout.measure.speed.workloads import Workload
from resprout.measure.statistics import median_interval, ratio_of_medians_interval

PERCENTS = (50, 95, 99)
_NO_STEPS = "one new token: there is no further one"
FEW_RUNS = "few runs tell too little of the slowest steps for an interval"


class PerRun(NamedTuple):
    """A figure that each run has one value of.

    Attributes:
        unit: of the value.
        what: it is, in words.
        of: the value of a run; None where a run has none.
    """

    unit: str
    what: str
    of: Callable[[Run, Workload], float | None]


def _median_step_ms(run: Run, work: Workload) -> float | None:
    return statistics.median(run.step_seconds) * 1e3 if run.step_seconds else None


def _decode_rate(run: Run, work: Workload) -> float | None:
    steps = run.step_seconds
    return work.batch * len(steps) / sum(steps) if steps else None


PER_RUN = {
    "time_to_first_token": PerRun(
        "ms",
        "from the prompt to the first new token (prefill and one token)",
        lambda run, work: run.first_seconds * 1e3,
    ),
    "time_per_token_p50": PerRun(
        "ms", "per step of the whole batch after the first token", _median_step_ms
    ),
    "tokens_per_second": PerRun(
        "tokens/s",
        "new tokens of all sequences by the time of the whole run, prefill too",
        lambda run, work: work.batch * work.new_tokens / run.seconds,
    ),
    "decode_tokens_per_second": PerRun(
        "tokens/s", "new tokens after the first by the time of their steps", _decode_rate
    ),
}


def no_interval(options: SpeedOptions) -> str | None:
    """Why medians over repeats have no interval; None where they have."""
    if options.repeats >= REPEATS_FOR_AN_INTERVAL:
        return None
    return f"an interval needs {REPEATS_FOR_AN_INTERVAL} repeats or more, got {options.repeats}"


def workload_figures(
    timed: Timed, workload: Workload, options: SpeedOptions, circumstances: str
) -> dict[str, Figure]:
    """The figures of one model under one workload, by their whole names.

    Args:
        timed: its runs, or its failure.
        workload: what was decoded.
        options: how.
        circumstances: end of the protocol sentence: precision, threads, device, turns.
    """
    how = f"{workload_words(workload)}; {circumstances}"
    figures: dict[str, Figure] = {}
    for name, kind in PER_RUN.items():
        if name == "time_per_token_p50":
            figures |= _step_figures(timed, workload, options, how)
            continue
        values = None if timed.failure else per_run(timed, name, workload)
        reason = timed.failure or (_NO_STEPS if values is None else no_interval(options))
        figures[f"{workload.name}/{name}"] = Figure(
            value=None if values is None else statistics.median(values),
            unit=kind.unit,
            items=len(timed.runs),
            protocol=f"{kind.what}, median of runs; {how}",
            seconds=timed.seconds,
            ci95=None if reason or values is None else median_interval(values, options.seed),
            reason=reason,
        )
    return figures


def _step_figures(
    timed: Timed, workload: Workload, options: SpeedOptions, how: str
) -> dict[str, Figure]:
    """The percentiles of the steps of all runs."""
    steps = [[seconds * 1e3 for seconds in run.step_seconds] for run in timed.runs]
    there = bool(steps and steps[0])
    what = PER_RUN["time_per_token_p50"].what
    reason = timed.failure or (no_interval(options) if there else _NO_STEPS)
    values = step_percentiles(steps, PERCENTS) if there else [None] * len(PERCENTS)
    middle = median_step_interval(steps, options.seed) if there and reason is None else None
    return {
        f"{workload.name}/time_per_token_p{percent}": Figure(
            value=value,
            unit="ms",
            items=sum(map(len, steps)),
            protocol=f"{what}, percentile {percent} of all steps of all runs"
            f"{', interval over the medians of the runs' if percent == 50 else ''}; {how}",
            seconds=timed.seconds,
            ci95=middle if percent == 50 else None,
            reason=reason or (None if percent == 50 else FEW_RUNS),
        )
        for percent, value in zip(PERCENTS, values, strict=True)
    }


def per_run(timed: Timed, name: str, workload: Workload) -> list[float] | None:
    """One value per run; None where there is none."""
    values = [PER_RUN[name].of(run, workload) for run in timed.runs]
    found = [value for value in values if value is not None]
    return found if found and len(found) == len(values) else None


def ratio_figures(
    timed: Timed, first: Timed, first_name: str, workload: Workload, options: SpeedOptions
) -> dict[str, Figure]:
    """A later model over the first, run by run of the turns: `NAME/ratio`."""
    figures = {}
    for name in PER_RUN:
        values = None if timed.failure else per_run(timed, name, workload)
        base = None if first.failure else per_run(first, name, workload)
        reason = timed.failure or (f"{first_name}: {first.failure}" if first.failure else None)
        figures[f"{workload.name}/{name}/ratio"] = ratio_figure(
            values, base, reason or _NO_STEPS, first_name, name, options, timed.seconds
        )
    return figures


def ratio_figure(
    values: Sequence[float] | None,
    base: Sequence[float] | None,
    absent: str,
    first_name: str,
    name: str,
    options: SpeedOptions,
    seconds: float,
) -> Figure:
    """Median over median, with an interval over the paired repeats; `absent`: why there is none."""
    value, ci95, reason = None, None, None
    if values is None or base is None:
        reason = absent
    elif min(base) <= 0:
        reason = f"{name} of {first_name} is not above zero in every repeat"
    else:
        value = statistics.median(values) / statistics.median(base)
        reason = no_interval(options)
        ci95 = None if reason else ratio_of_medians_interval(values, base, options.seed)
    return Figure(
        value=value,
        unit="ratio",
        items=len(values or ()),
        protocol=f"median of {name} over its median for {first_name} (one value per run), both "
        "timed in turn in one process; runs resampled in pairs",
        seconds=seconds,
        ci95=ci95,
        reason=reason,
    )


def workload_words(workload: Workload) -> str:
    """A workload in words, for a protocol."""
    prompts = f"prompts of {workload.prompt_tokens} random tokens"
    if workload.unequal:
        prompts = (
            f"prompts of {workload.lengths[-1]} to {workload.prompt_tokens} random tokens, padded "
            f"on the left ({workload.padding_share:.0%} of the prompt is padding, not counted)"
        )
    return (
        f"batch {workload.batch}, {prompts}, {workload.new_tokens} new tokens each, greedy, with a "
        "cache, end of text not obeyed"
    )
