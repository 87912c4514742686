"""Charts from curves: each function returns (figure, axes); `save` writes PNG and SVG."""

from collections.abc import Sequence
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
DASHES = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (8, 3)))
PNG_DPI = 200
_HALF_A_LINE = 40  # characters
FEW = 4  # curves that a legend has room for inside of the axes, and their losses before recovery

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
    figure, axes = _axes(curves)
    for curve, style in zip(curves, styles(curves), strict=True):
        x, scale = 100 * curve.achieved, _scale(curve, curves)
        _draw(axes, x, curve, scale, **style)
        if curve.before is not None and len(curves) <= FEW:
            before = [scale * estimate.value for estimate in curve.estimates(curve.before)]
            axes.plot(x, before, ":", color=COLOURS[style["colour"] % len(COLOURS)], linewidth=1.2,
                      label=f"{curve.label}, before recovery")  # fmt: skip
    axes.set_xlabel("amount cut (% of prunable units, achieved)")
    axes.set_title("Pruning curve")
    _legend(figure, axes, curves)
    return figure, axes


def efficiency_frontier(curves: list[Curve]) -> tuple[Figure, Axes]:
    """Loss against surviving parameters, after recovery: equal places are equal sizes."""
    figure, axes = _axes(curves)
    for curve, style in zip(curves, styles(curves), strict=True):
        _draw(axes, curve.surviving / 1e6, curve, _scale(curve, curves), **style)
    axes.set_xlabel("surviving parameters (millions)")
    axes.set_title("Efficiency frontier")
    _legend(figure, axes, curves)
    return figure, axes


def styles(found: Sequence[Curve]) -> list[dict[str, int]]:
    """Colours tell subjects apart where there are several, else methods; dashes tell the rest."""
    whose: list[tuple[str, str]] = [(c.run, c.subject) for c in found]
    how = [(c.method, c.protocol) for c in found]
    if len(set(whose)) == 1:
        whose, how = how, whose
    colours, dashes = list(dict.fromkeys(whose)), list(dict.fromkeys(how))
    found_styles = []
    for own, way in zip(whose, how, strict=True):
        again, colour = divmod(colours.index(own), len(COLOURS))  # a colour again: in other dashes
        found_styles.append({"colour": colour, "dash": dashes.index(way) + again * len(dashes)})
    return found_styles


def _per_token(curves: Sequence[Curve]) -> bool:
    """Whether losses per token can stand in one chart: per token means another thing elsewhere."""
    return len({curve.tokens for curve in curves}) == 1


def _scale(curve: Curve, curves: Sequence[Curve]) -> float:
    return 1.0 if _per_token(curves) else curve.bits_per_nat


def _axes(curves: Sequence[Curve]) -> tuple[Figure, Axes]:
    below = 0.0
    if len(curves) > FEW:  # inches of a legend
        below = 0.2 * (1 - (-len(curves) // _columns(curves)))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.2 + below), layout="constrained")
        axes = figure.add_subplot()
    unit = "nats per token" if _per_token(curves) else "bits per byte"
    axes.set_ylabel(f"held-out loss ({unit})")
    return figure, axes


def _legend(figure: Figure, axes: Axes, curves: Sequence[Curve]) -> None:
    if len(curves) <= FEW:
        axes.legend()
        return
    handles, _ = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        [curve.label for curve in curves],
        title="bars: 95 % intervals",
        loc="outside lower center",
        ncols=_columns(curves),
        fontsize=8,
        title_fontsize=8,
        handlelength=3.5,
    )


def _columns(curves: Sequence[Curve]) -> int:
    """Of a legend below the axes: two where the labels leave room."""
    return 2 if max(len(curve.label) for curve in curves) <= _HALF_A_LINE else 1


def _draw(axes: Axes, x: np.ndarray, curve: Curve, scale: float, colour: int, dash: int) -> None:
    estimates = curve.estimates()
    value = scale * np.array([e.value for e in estimates])
    below = value - scale * np.array([e.low for e in estimates])
    above = scale * np.array([e.high for e in estimates]) - value
    axes.errorbar(
        x,
        value,
        yerr=np.clip([below, above], 0, None),
        color=COLOURS[colour % len(COLOURS)],
        linestyle=DASHES[dash % len(DASHES)],
        marker=MARKERS[(colour + dash) % len(MARKERS)],
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
