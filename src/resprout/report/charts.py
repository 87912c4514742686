"""Charts from curves: each function returns (figure, axes); `save` writes PNG and SVG."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resprout.report.curves import Curve

# Okabe and Ito's palette: told apart by colour-blind eyes too; markers tell them apart in print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
PNG_DPI = 200

STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "resprout",
}


def pruning_curve(curves: list[Curve]) -> tuple[Figure, Axes]:
    """Loss against the amount achieved, after recovery (solid) and before (dotted)."""
    figure, axes = _axes()
    for i, curve in enumerate(curves):
        x = 100 * curve.achieved
        _draw(axes, x, curve, i)
        if curve.before is not None:
            before = [estimate.value for estimate in curve.estimates(curve.before)]
            axes.plot(x, before, ":", color=COLOURS[i % len(COLOURS)], linewidth=1.2,
                      label=f"{curve.label}, before recovery")  # fmt: skip
    axes.set_xlabel("amount cut (% of prunable weights, achieved)")
    axes.set_title("Pruning curve")
    axes.legend()
    return figure, axes


def efficiency_frontier(curves: list[Curve]) -> tuple[Figure, Axes]:
    """Loss against surviving parameters, after recovery: equal places are equal sizes."""
    figure, axes = _axes()
    for i, curve in enumerate(curves):
        _draw(axes, curve.surviving / 1e6, curve, i)
    axes.set_xlabel("surviving parameters (millions)")
    axes.set_title("Efficiency frontier")
    axes.legend()
    return figure, axes


def _axes() -> tuple[Figure, Axes]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.add_subplot()
    axes.set_ylabel("held-out loss (nats per token)")
    return figure, axes


def _draw(axes: Axes, x: np.ndarray, curve: Curve, i: int) -> None:
    estimates = curve.estimates()
    value = np.array([e.value for e in estimates])
    below = value - np.array([e.low for e in estimates])
    above = np.array([e.high for e in estimates]) - value
    axes.errorbar(
        x,
        value,
        yerr=np.clip([below, above], 0, None),
        color=COLOURS[i % len(COLOURS)],
        marker=MARKERS[i % len(MARKERS)],
        markersize=5,
        capsize=3,
        label=f"{curve.label} (95 % interval)",
    )


def save(figure: Figure, path: Path) -> None:
    """Write `path`.png and `path`.svg; the same figure gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        figure.savefig(path.with_suffix(".png"), dpi=PNG_DPI, metadata={"Software": None})
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
