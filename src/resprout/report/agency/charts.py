"""The charts of the comparison, each `(figure, axes)`; lines are means over seeds, bars 95 %."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resprout.report.agency.contrasts import Effect
from resprout.report.agency.effects import Improvement, improvement, level_estimate
from resprout.report.agency.pairs import Comparison, Pair
from resprout.report.agency.panels import (
    HEIGHT,
    WIDTH,
    Line,
    draw,
    grid_of_panels,
    heading,
    legend,
    level_axis,
    limit,
    rows_of,
    wrapped,
)
from resprout.report.agency.readings import (
    DISTINCT,
    MODEL_BYTES,
    PERPLEXITY,
    QUALITY,
    REPETITION,
    SPEED,
    Measure,
)
from resprout.report.series import Series

Y_LABELS = {
    "perplexity": "perplexity on held-out text\n(log axis, lower is better)",
    "distinct_2": "diversity: distinct-2\n(share, higher is better)",
    "repetition_3": "repetition-3\n(share, lower is better)",
    "tokens_per_second": "speed\n(tokens/s, higher is better)",
    "time_to_first_token": "time to first token\n(ms, lower is better)",
    "model_bytes": "memory of the weights\n(MB, lower is better)",
}
IMPROVED = (*QUALITY, *SPEED, MODEL_BYTES)


def speed(comparison: Comparison, workload: str | None) -> tuple[Figure, np.ndarray]:
    """Tokens per second and time to first token against the level."""
    return _levels(comparison, SPEED, workload, f"Speed ({workload})" if workload else "Speed")


def quality(comparison: Comparison) -> tuple[Figure, np.ndarray]:
    """Perplexity, diversity and repetition against the level."""
    return _levels(comparison, QUALITY, None, "Quality")


def relative(comparison: Comparison, workload: str | None) -> tuple[Figure, np.ndarray]:
    """Agency over its baseline in per cent, level by level; up is better, 0 is no difference."""
    pairs = comparison.pairs
    figure, axes = grid_of_panels(max(1, len(pairs)), 2)
    cut_off = False
    for row, pair in zip(axes, pairs, strict=False):
        for panel, measures in zip(row, (QUALITY, (*SPEED, MODEL_BYTES)), strict=True):
            lines = [_improvements(pair, measure, workload) for measure in measures]
            values, ends = draw(panel, lines)
            if values:
                panel.axhline(0, color="#555555", linewidth=1)
            cut_off |= limit([panel], values, ends, around=0.0)
            panel.set_xlabel(level_axis(comparison))
            both = f"{pair.agency.subject} over {pair.baseline.subject}"
            panel.set_ylabel(f"{wrapped(both, HEIGHT)}\n(%, up is better)")
            panel.set_title(wrapped(pair.label, WIDTH), fontsize=9, loc="left")
    heading(figure, "Relative improvement by agency", cut_off)
    legend(figure, axes.ravel())
    return figure, axes


def summary(comparison: Comparison, pair: Pair, workload: str | None) -> tuple[Figure, np.ndarray]:
    """One pair's measures in six panels."""
    figure, axes = grid_of_panels(2, 3)
    cut_off = False
    for panel, measure in zip(axes.ravel(), (*QUALITY, *SPEED, MODEL_BYTES), strict=True):
        both = [pair.baseline, pair.agency]
        values, ends = draw(panel, _lines(comparison, both, measure, workload))
        cut_off |= _limit([panel], measure, values, ends)
        panel.set_ylabel(Y_LABELS[measure.key])
        panel.set_xlabel(level_axis(comparison))
    heading(figure, f"Summary: {pair.label}", cut_off)
    legend(figure, axes.ravel())
    return figure, axes


def temperatures(comparison: Comparison, names: Sequence[str]) -> tuple[Figure, np.ndarray]:
    """Diversity and repetition per temperature and level, both subjects in each panel."""
    rows = rows_of(comparison)
    measures = (DISTINCT, REPETITION)
    figure, axes = grid_of_panels(len(rows), len(measures))
    cut_off = False
    for column, measure in zip(axes.T, measures, strict=True):
        all_values: list[float] = []
        all_ends: list[float] = []
        for panel, (title, series) in zip(column, rows, strict=True):
            lines = []
            for name in names:
                for line in _lines(comparison, series, measure, None, name):
                    k = names.index(name)
                    label = f"{line.label}, temperature {name}"
                    marker = line.colour + 2 * k
                    lines.append(Line(label, line.levels, line.effects, line.colour, marker, k > 0))
            values, ends = draw(panel, lines)
            all_values += values
            all_ends += ends
            panel.set_title(wrapped(title, WIDTH), fontsize=9, loc="left")
            panel.set_xlabel(level_axis(comparison))
            panel.set_ylabel(Y_LABELS[measure.key])
        cut_off |= _limit(column, measure, all_values, all_ends)
    heading(figure, "Temperatures crossed with levels", cut_off)
    legend(figure, axes.ravel())
    return figure, axes


def _levels(
    comparison: Comparison, measures: Sequence[Measure], workload: str | None, title_of_all: str
) -> tuple[Figure, np.ndarray]:
    """Rows of methods, columns of measures; a column shares its range."""
    rows = rows_of(comparison)
    figure, axes = grid_of_panels(len(rows), len(measures))
    cut_off = False
    for column, measure in zip(axes.T, measures, strict=True):
        all_values: list[float] = []
        all_ends: list[float] = []
        for panel, (title, series) in zip(column, rows, strict=True):
            values, ends = draw(panel, _lines(comparison, series, measure, workload))
            all_values += values
            all_ends += ends
            panel.set_title(wrapped(title, WIDTH), fontsize=9, loc="left")
            panel.set_xlabel(level_axis(comparison))
            panel.set_ylabel(Y_LABELS[measure.key])
        drawn = [panel for panel in column if panel.containers]
        cut_off |= _limit(drawn, measure, all_values, all_ends)
    heading(figure, title_of_all, cut_off)
    legend(figure, axes.ravel())
    return figure, axes


def _lines(
    comparison: Comparison,
    series: Sequence[Series],
    measure: Measure,
    workload: str | None,
    temperature: str | None = None,
) -> list[Line]:
    """A line per series, coloured by subject."""
    order = comparison.order()
    lines = []
    for own in series:
        i = order.index(own.subject)
        effects = [
            _scaled(level_estimate(own, measure, level, workload, temperature), measure)
            for level in own.levels
        ]
        lines.append(Line(own.subject, [100 * x for x in own.levels], effects, i, i))
    return lines


def _improvements(pair: Pair, measure: Measure, workload: str | None) -> Line:
    effects: list[Effect | str] = []
    for level in pair.levels:
        found = improvement(pair, measure, level, workload)
        if isinstance(found, Improvement):
            effect = found.effect
            effects.append(
                Effect(found.percent, found.low, found.high, effect.p, effect.seeds, effect.over)
            )
        else:
            effects.append(found)
    i = IMPROVED.index(measure)
    return Line(measure.label, [100 * x for x in pair.levels], effects, i, i)


def _scaled(found: Effect | str, measure: Measure) -> Effect | str:
    """Bytes as MB."""
    if isinstance(found, str) or measure is not MODEL_BYTES:
        return found
    low, high = (None if x is None else x * 1e-6 for x in (found.low, found.high))
    return Effect(found.value * 1e-6, low, high, found.p, found.seeds, found.over)


def _limit(
    column: Sequence[Axes], measure: Measure, values: list[float], ends: list[float]
) -> bool:
    logs = measure is PERPLEXITY
    return limit(column, values, ends, logs, floor=-0.02 * min(1.0, max(values, default=1.0)))
