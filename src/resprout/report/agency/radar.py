"""The radar chart: both subjects at the highest level, every axis so that outside is better."""

import math
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.projections.polar import PolarAxes

from resprout.report.agency.effects import level_estimate
from resprout.report.agency.pairs import Comparison, Pair
from resprout.report.agency.panels import legend, wrapped
from resprout.report.agency.readings import (
    DISTINCT,
    FIRST_TOKEN,
    MODEL_BYTES,
    PERPLEXITY,
    REPETITION,
    TOKENS_PER_SECOND,
    Measure,
)
from resprout.report.charts import COLOURS, MARKERS, STYLE
from resprout.report.series import Series

AXES = (PERPLEXITY, DISTINCT, REPETITION, TOKENS_PER_SECOND, FIRST_TOKEN, MODEL_BYTES)
NAMES = {
    PERPLEXITY: "perplexity",
    DISTINCT: "distinct-2",
    REPETITION: "repetition-3",
    TOKENS_PER_SECOND: "tokens/s",
    FIRST_TOKEN: "first token (ms)",
    MODEL_BYTES: "weights (MB)",
}
OUTERMOST = 2.0  # what is better by more is drawn here; its value stands beside the axis
BREADTH = 6.8  # inches of one radar
FEWEST = 3  # axes: with two a radar is a line


Spoke = tuple[Measure, tuple[float, float], tuple[float, float]]


def goodness(measure: Measure, value: float, uncut: float) -> float | None:
    """How good a value is over the baseline's own uncut one, 1 = the same, more = better.

    The ratio where higher is better, its inverse where lower is; of repetition the ratio of what
    is not repeated, 1 - repetition-3, so that a text without any repetition has a place too.
    None where the uncut value leaves no ratio.
    """
    if measure.complement:
        value, uncut = 1 - value, 1 - uncut
    if measure.gain < 0:
        value, uncut = uncut, value
    if uncut <= 0 or value < 0:
        return None
    return value / uncut


def radar(comparison: Comparison, workload: str | None) -> tuple[Figure, list[PolarAxes]] | None:
    """A radar per pair; None where no pair has three axes or an uncut baseline."""
    drawn = [
        (pair, own) for pair in comparison.pairs if len(own := spokes(pair, workload)) >= FEWEST
    ]
    if not drawn:
        return None
    columns = min(2, len(drawn))
    lines = math.ceil(len(drawn) / columns)
    order = comparison.order()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(BREADTH * columns, 5.0 * lines + 0.4), layout="constrained")
        found: list[PolarAxes] = []
        for i, (pair, own) in enumerate(drawn):
            axes = figure.add_subplot(lines, columns, i + 1, projection="polar")
            assert isinstance(axes, PolarAxes)
            _draw(axes, pair, own, order)
            found.append(axes)
        legend(figure, found)
    return figure, found


def spokes(pair: Pair, workload: str | None) -> list[Spoke]:
    """The axes that both have: measure, (place, value) of agency and of the baseline."""
    found = []
    for measure in AXES:
        top = pair.levels[-1]
        values = [
            _value(own, measure, level, workload)
            for own, level in ((pair.baseline, 0.0), (pair.agency, top), (pair.baseline, top))
        ]
        uncut, ours, theirs = values
        if uncut is None or ours is None or theirs is None:
            continue
        places = [goodness(measure, value, uncut) for value in (ours, theirs)]
        if places[0] is not None and places[1] is not None:
            found.append((measure, (places[0], ours), (places[1], theirs)))
    return found


def _value(own: Series, measure: Measure, level: float, workload: str | None) -> float | None:
    if level not in own.points:
        return None
    found = level_estimate(own, measure, level, workload)
    return None if isinstance(found, str) else found.value


def _draw(
    axes: PolarAxes,
    pair: Pair,
    own: list[Spoke],
    order: Sequence[str],
) -> None:
    angles = [2 * math.pi * i / len(own) for i in range(len(own))]
    axes.set_theta_offset(math.pi / 2)
    axes.set_theta_direction(-1)
    closed = [*angles, angles[0]]
    axes.plot(closed, [1.0] * len(closed), "--", color="#555555", linewidth=1,
              label=f"{pair.baseline.subject}, uncut")  # fmt: skip
    ours, theirs = ([min(OUTERMOST, place) for place in found] for found in _places(own))
    for series, places in ((pair.baseline, theirs), (pair.agency, ours)):
        i = order.index(series.subject)
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(
            closed,
            [*places, places[0]],
            color=colour,
            marker=MARKERS[i % len(MARKERS)],
            markersize=5,
            label=f"{series.subject}, {100 * pair.levels[-1]:g} % cut",
        )
        axes.fill(closed, [*places, places[0]], color=colour, alpha=0.12)
    axes.set_xticks(angles, [_name(*spoke) for spoke in own], fontsize=8)
    for text, angle in zip(axes.get_xticklabels(), angles, strict=True):
        side = math.sin(angle)  # words go outwards, never over the lines
        text.set_horizontalalignment(
            "center" if abs(side) < 0.1 else "left" if side > 0 else "right"
        )
    axes.set_ylim(0, 1.1 * max(1.0, *ours, *theirs))
    axes.set_rlabel_position(180 / len(own))
    axes.tick_params(axis="y", labelsize=7, labelcolor="#555555")
    axes.set_title(wrapped(pair.label, BREADTH), fontsize=10, pad=18)


def _places(own: list[Spoke]) -> tuple[list[float], list[float]]:
    """Where agency and the baseline lie on each axis."""
    return [ours[0] for _, ours, _ in own], [theirs[0] for _, _, theirs in own]


def _name(measure: Measure, ours: tuple[float, float], theirs: tuple[float, float]) -> str:
    """An axis with both values, agency first."""
    scale = 1e-6 if measure is MODEL_BYTES else 1.0
    values = []
    for place, value in (ours, theirs):
        number = f"{value:.3f}" if measure.unit == "share" else f"{value * scale:.3g}"
        values.append(f"{number}{' (beyond)' if place > OUTERMOST else ''}")
    parting = "\nagainst " if any("beyond" in value for value in values) else " against "
    return f"{NAMES[measure]}\n{parting.join(values)}"
