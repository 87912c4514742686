"""The published charts, redrawn from data: each function returns (figure, axes)."""

from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resprout.report.chart_series import ChartSeries
from resprout.report.charts import COLOURS, MARKERS, STYLE

# Sizes further apart than this factor are drawn on a logarithmic axis.
_LINEAR_UP_TO = 5.0
# Published losses are of The Pile in GPT-NeoX's tokens; a run's may be of anything.
_NOT_ALIKE = "losses per token compare only on the same text in the same tokens"


def pruning_curve(series: list[ChartSeries]) -> tuple[Figure, Axes]:
    """Held-out loss against the amount cut; perplexity on the other side."""
    figure, axes = _axes("Pruning curve", series)
    _draw(axes, series, lambda line: 100 * np.array(line.amounts))
    _finish(figure, axes, series, "amount cut (% of the prunable weights)")
    return figure, axes


def efficiency_frontier(series: list[ChartSeries]) -> tuple[Figure, Axes]:
    """Held-out loss against surviving parameters: equal places are equal sizes."""
    figure, axes = _axes("Efficiency frontier", series)
    _draw(axes, series, lambda line: np.array(line.surviving) / 1e6)
    sizes = [size for line in series for size in line.surviving]
    if max(sizes) > _LINEAR_UP_TO * min(sizes):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
    _finish(figure, axes, series, "surviving parameters (millions)")
    return figure, axes


def _overlaid(series: list[ChartSeries]) -> bool:
    return not all(line.published for line in series)


def _axes(title: str, series: list[ChartSeries]) -> tuple[Figure, Axes]:
    rows = -(-len(series) // 2) if _overlaid(series) else 0  # of a legend below, in two columns
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.6 + 0.25 * rows), layout="constrained")
        axes = figure.add_subplot()
        axes.set_ylabel("held-out loss (nats per token)")
        own = ", with runs of your own" if rows else ""
        axes.set_title(f"{title}: BioGPT and Pythia-160M{own}")
        other = axes.secondary_yaxis("right", functions=(_perplexity, _nats))
        other.set_yscale("log")
        other.set_ylabel("perplexity per token")
        other.yaxis.set_major_formatter("{x:,g}")
        other.yaxis.set_minor_formatter("")
    return figure, axes


def _perplexity(nats: Any) -> Any:
    return np.exp(nats)


def _nats(perplexity: Any) -> Any:
    """The inverse, defined wherever matplotlib tries it."""
    return np.log(np.maximum(perplexity, np.finfo(float).tiny))


def _draw(
    axes: Axes, series: list[ChartSeries], place: Callable[[ChartSeries], np.ndarray]
) -> None:
    """Published lines dashed with open markers, measured ones solid with their intervals."""
    for i, line in enumerate(series):
        value = np.array(line.nats_per_token)
        spread = None
        if line.intervals is not None:
            low, high = np.array(line.intervals).T
            spread = np.clip([value - low, high - value], 0, None)
        colour = COLOURS[i % len(COLOURS)]
        axes.errorbar(
            place(line),
            value,
            yerr=spread,
            color=colour,
            linestyle="--" if line.published else "-",
            marker=MARKERS[i % len(MARKERS)],
            markerfacecolor="white" if line.published else colour,
            markersize=6,
            capsize=3,
            label=line.label + (" (95 % interval)" if line.intervals is not None else ""),
        )


def _finish(figure: Figure, axes: Axes, series: list[ChartSeries], x_label: str) -> None:
    """Two lines leave room for their legend; more go below, with what a reader must know."""
    if not _overlaid(series):
        axes.set_xlabel(x_label)
        axes.legend(frameon=False)
        return
    axes.set_xlabel(f"{x_label}\n{_NOT_ALIKE}")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
