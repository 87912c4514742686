"""The cortical layout as a picture: neurons and their branches by layer, feedback above.

A pure drawing: the layout comes from whoever knows the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from resprout.report.charts import COLOURS, STYLE

Neuron = tuple[int, int]  # branches n, their width d

_ZONE_NAMES = {"EARLY": "early", "MID": "middle", "LATE": "late"}
_GAP = 0.12  # between neurons, of the model's width
_BOX = 0.76  # a layer's breadth, of the distance between layers
_LANE = 0.13  # between the lines of feedback
_FEEDBACK = "#444444"


@dataclass(frozen=True)
class Layout:
    """What is drawn.

    Attributes:
        width: D, channels of the model.
        neurons: per layer, each neuron's branches and their width.
        zones: per layer, EARLY, MID or LATE.
        feedback: pairs of layers, source and target.
    """

    width: int
    neurons: Sequence[Sequence[Neuron]]
    zones: Sequence[str]
    feedback: Sequence[tuple[int, int]]


def cortical_layout(layout: Layout) -> tuple[Figure, Axes]:
    """Each box a neuron, each stripe a branch as high as it is wide in channels."""
    colours = dict(zip(_ZONE_NAMES, COLOURS, strict=False))
    highest = max(len(layer) for layer in layout.neurons)
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        breadth = max(5.0, 0.85 * len(layout.neurons) + 1)
        figure = Figure(figsize=(breadth, 1.5 * highest + 1.7), layout="constrained")
        axes = figure.add_subplot()
    for layer, neurons in enumerate(layout.neurons):
        colour = colours[layout.zones[layer]]
        for place, neuron in enumerate(neurons):
            _draw_neuron(axes, layer, place * (1 + _GAP), neuron, layout.width, colour)
    top = highest * (1 + _GAP)
    for place, (source, target) in enumerate(layout.feedback):
        _draw_feedback(axes, layout, source, target, top + place * _LANE)
    branches = sum(n for layer in layout.neurons for n, _ in layer)
    count = sum(len(layer) for layer in layout.neurons)
    axes.set_title(f"Cortical layout: {count} neurons, {branches} branches")
    axes.set_xlabel("layer")
    axes.set_xticks(range(len(layout.neurons)))
    axes.set_xlim(-0.7, len(layout.neurons) - 0.3)
    axes.set_ylim(-0.15, top + _LANE * len(layout.feedback) + 0.05)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    handles: list[Patch | Line2D] = [
        Patch(color=colours[zone], label=_described(layout, zone))
        for zone in _ZONE_NAMES
        if zone in layout.zones
    ]
    if layout.feedback:
        told = "gated feedback (with two passes)"
        handles.append(Line2D([], [], color=_FEEDBACK, marker="v", markersize=5, label=told))
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure, axes


def _draw_neuron(
    axes: Axes, layer: int, bottom: float, neuron: Neuron, width: int, colour: str
) -> None:
    branches, branch_width = neuron
    height = branch_width / width
    left = layer - _BOX / 2
    for branch in range(branches):
        shade = 0.85 if branch % 2 else 0.6
        axes.add_patch(
            Rectangle(
                (left, bottom + branch * height),
                _BOX,
                height,
                facecolor=colour,
                alpha=shade,
                edgecolor="white",
                linewidth=0.8,
            )
        )
    axes.text(
        layer,
        bottom + branches * height / 2,
        f"{branches}x{branch_width}",
        ha="center",
        va="center",
        fontsize=8,
        bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"},
    )


def _draw_feedback(axes: Axes, layout: Layout, source: int, target: int, height: float) -> None:
    """Up from the source, along above all neurons, down to the target."""
    begin, end = (_top_of(layout.neurons[layer]) for layer in (source, target))
    axes.plot(
        [source, source, target, target],
        [begin, height, height, end],
        color=_FEEDBACK,
        linewidth=1.1,
        marker="v",
        markevery=[3],
        markersize=5,
    )


def _top_of(neurons: Sequence[Neuron]) -> float:
    return len(neurons) * (1 + _GAP) - _GAP + 0.03


def _described(layout: Layout, zone: str) -> str:
    """Which layers a zone has."""
    layers = [layer for layer, name in enumerate(layout.zones) if name == zone]
    return f"{_ZONE_NAMES[zone]}: layers {layers[0]} to {layers[-1]}"
