"""Panels: rows of methods, columns of measures, lines with 95 % bars that never hide the values."""

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter, ScalarFormatter

from resprout.report.agency.contrasts import Effect
from resprout.report.agency.pairs import Comparison
from resprout.report.charts import COLOURS, MARKERS, STYLE
from resprout.report.series import Series

WIDTH, HEIGHT = 3.7, 2.9  # inches of one panel
MOST_TICKS = 7  # levels that are marked on the axis, each by itself
REACH = 1.5  # bars are drawn this many times the values' span beyond them


@dataclass(frozen=True)
class Line:
    """What one line shows.

    Attributes:
        label: in the legend.
        levels: in per cent.
        effects: one per level; a reason where there is none.
        colour, marker: which of the palette.
        dashed: drawn so.
    """

    label: str
    levels: Sequence[float]
    effects: Sequence[Effect | str]
    colour: int
    marker: int
    dashed: bool = False


def rows_of(comparison: Comparison) -> list[tuple[str, list[Series]]]:
    """Method by method: title, and the series that share a panel."""
    rows: dict[str, list[Series]] = {}
    for own in comparison.series:
        rows.setdefault(own.label, []).append(own)
    titles = {label: label for label in rows}
    for pair in comparison.pairs:
        if not pair.same_method and pair.baseline not in rows[pair.agency.label]:
            rows[pair.agency.label].insert(0, pair.baseline)
            base = f"{pair.baseline.subject}: {pair.baseline.label}"
            titles[pair.agency.label] = f"{pair.agency.label} ({base})"
    return [(titles[label], series) for label, series in rows.items()]


def level_axis(comparison: Comparison) -> str:
    """The x axis in words."""
    units = {
        record["unit"]
        for own in comparison.series
        for level in own.points.values()
        for record in level.values()
    }
    what = "heads" if units == {"head"} else "prunable units"
    return f"amount cut (% of {what} asked for)"


def grid_of_panels(rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    """An empty grid in the house style, axes (rows, columns)."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * columns + 0.4, HEIGHT * rows + 0.5), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
    return figure, axes


def draw(axes: Axes, lines: Sequence[Line]) -> tuple[list[float], list[float]]:
    """Lines with bars, side by side where levels coincide; returns the values and the bars' ends.

    A level without a figure has no marker, and the line goes on to the next.
    """
    values: list[float] = []
    ends: list[float] = []
    places = sorted({level for line in lines for level in line.levels})
    gaps = np.diff(places) if len(places) > 1 else np.array([20.0])
    step = 0.07 * float(gaps.min())
    for i, line in enumerate(lines):
        shift = step * (i - (len(lines) - 1) / 2)
        there = [
            (level + shift, effect)
            for level, effect in zip(line.levels, line.effects, strict=True)
            if isinstance(effect, Effect) and math.isfinite(effect.value)
        ]
        if not there:
            continue
        x = [place for place, _ in there]
        y = [effect.value for _, effect in there]
        bars = [
            (e.value, e.value)
            if e.low is None or e.high is None
            else (max(e.low, -1e300), min(e.high, 1e300))
            for _, e in there
        ]
        reach = np.clip([[v - b[0], b[1] - v] for v, b in zip(y, bars, strict=True)], 0, None).T
        axes.errorbar(
            x,
            y,
            yerr=reach if any(e.low is not None for _, e in there) else None,
            color=COLOURS[line.colour % len(COLOURS)],
            marker=MARKERS[line.marker % len(MARKERS)],
            linestyle="--" if line.dashed else "-",
            markersize=5,
            linewidth=1.4,
            elinewidth=1,
            capsize=3,
            label=line.label,
        )
        values += y
        ends += [end for pair in bars for end in pair]
    if not values:
        say(
            axes,
            next((e for line in lines for e in line.effects if isinstance(e, str)), "no figure"),
        )
    else:
        few = len(places) <= MOST_TICKS
        axes.xaxis.set_major_locator(FixedLocator(places) if few else MaxNLocator(nbins=6))
    return values, ends


def limit(
    column: Sequence[Axes],
    values: Sequence[float],
    ends: Sequence[float],
    logs: bool = False,
    floor: float = -math.inf,
    around: float | None = None,
) -> bool:
    """One y range for panels: all values, and bars up to `REACH` spans beyond; longer ones leave.

    Args:
        column: the panels.
        values: all that is marked in them.
        ends: of all bars.
        logs: on a logarithmic axis.
        floor: the lowest possible value.
        around: a value that is to be seen too.

    Returns:
        Whether a bar leaves the picture.
    """
    shown = [*values, *([] if around is None else [around])]
    if not shown:
        return False
    as_drawn = np.log if logs else np.asarray
    points = as_drawn(np.array(shown))
    tips = as_drawn(np.clip(np.array([*ends, *shown]), 1e-300 if logs else -1e300, 1e300))
    low, high = float(points.min()), float(points.max())
    span = max(high - low, 0.05 if logs else 0.05 * max(abs(low), abs(high), 1e-9))
    bottom = max(low - REACH * span, float(tips.min()))
    top = min(high + REACH * span, float(tips.max()))
    left = float(tips.min()) < bottom - 1e-12 or float(tips.max()) > top + 1e-12
    pad = 0.08 * max(top - bottom, span)
    bottom, top = bottom - pad, top + pad
    if not logs:
        bottom = max(bottom, floor)
    for axes in column:
        if logs:
            axes.set_yscale("log")
            axes.set_ylim(math.exp(bottom), math.exp(top))
            plain_log_ticks(axes)
        else:
            axes.set_ylim(bottom, top)
    return left


def heading(figure: Figure, title: str, cut_off: bool) -> None:
    """A figure's title; `cut_off`: some bar leaves its panel."""
    said = "\n(a bar that reaches the edge of its panel goes on beyond it)" if cut_off else ""
    across = figure.get_size_inches()[0]
    figure.suptitle(f"{wrapped(title, across)}{said}", fontsize=10)


def plain_log_ticks(axes: Axes) -> None:
    """Round numbers at sensible places of a logarithmic axis, without exponents."""
    low, high = axes.get_ylim()
    ticks = list(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high))
    if high / low > 20:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        factors = (1,) if high / low > 1000 else (1, 3) if high / low > 100 else (1, 2, 5)
        ticks = [factor * 10.0**power for power in powers for factor in factors]
    axes.set_yticks([tick for tick in ticks if low <= tick <= high and tick > 0])
    axes.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))
    axes.yaxis.set_minor_formatter(NullFormatter())
    if high < 1e6:
        axes.ticklabel_format(axis="y", style="plain")


def say(axes: Axes, text: str) -> None:
    """Words in an empty panel."""
    words = text if len(text) < 90 else f"{text[:87]}..."
    axes.text(0.5, 0.5, words, ha="center", va="center", wrap=True, fontsize=8, color="#555555",
              transform=axes.transAxes)  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])


def wrapped(text: str, inches: float) -> str:
    """Long names in lines of that length, at some 0.075 inches a letter."""
    return textwrap.fill(text, max(12, int(inches / 0.075)), break_on_hyphens=True)


def legend(figure: Figure, axes: Iterable[Axes]) -> None:
    """One legend for all panels, beneath them; the figure grows by its lines."""
    found: dict[str, Artist] = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        # As many beside each other as there is room for, at some 0.09 inches a letter.
        breadth, height = figure.get_size_inches()
        columns = max(1, min(len(found), int(breadth / (0.6 + 0.09 * max(map(len, found))))))
        lines = math.ceil(len(found) / columns)
        figure.set_size_inches(breadth, height + 0.22 * (lines - 1))
        figure.legend(
            list(found.values()),
            [wrapped(label, breadth - 0.8) for label in found],
            loc="outside lower center",
            ncols=columns,
            frameon=False,
        )
