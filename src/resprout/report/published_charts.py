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


def pruning_curve(series: list[ChartSeries]) -> tuple[Figure, Axes]:
    """Held-out loss against the amount cut; perplexity on the other side."""
    figure, axes = _axes("Pruning curve: BioGPT and Pythia-160M")
    _draw(axes, series, lambda line: 100 * np.array(line.amounts))
    axes.set_xlabel("amount cut (% of the prunable weights)")
    return figure, axes


def efficiency_frontier(series: list[ChartSeries]) -> tuple[Figure, Axes]:
    """Held-out loss against surviving parameters: equal places are equal sizes."""
    figure, axes = _axes("Efficiency frontier: BioGPT and Pythia-160M")
    _draw(axes, series, lambda line: np.array(line.surviving) / 1e6)
    sizes = [size for line in series for size in line.surviving]
    if max(sizes) > _LINEAR_UP_TO * min(sizes):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
    axes.set_xlabel("surviving parameters (millions)")
    return figure, axes


def _axes(title: str) -> tuple[Figure, Axes]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.6), layout="constrained")
        axes = figure.add_subplot()
        axes.set_ylabel("held-out loss (nats per token)")
        axes.set_title(title)
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
    axes.legend(frameon=False)
