"""The cortical layout of BioGPT: which neurons a layer has, and which layers feed back.

Pure functions over integers, shared by the configuration, the model and `describe`.
Source of the rules: the published BioGPT study (architecture section) and its program.
"""

from typing import Literal

Zone = Literal["EARLY", "MID", "LATE"]

BRANCHES_BY_ZONE: dict[Zone, list[int]] = {"EARLY": [8, 8], "MID": [8, 6, 4], "LATE": [4, 4]}


def zone_of(layer: int, layers: int) -> Zone:
    """The zone of a layer: by relative depth p = layer / (layers - 1).

    p < 0.33 is EARLY, p > 0.67 LATE, between them MID; a single layer is EARLY (p = 0).
    """
    depth = layer / max(layers - 1, 1)
    if depth < 0.33:
        return "EARLY"
    return "LATE" if depth > 0.67 else "MID"


def divisor_at_most(width: int, branches: int) -> int:
    """The largest count not above `branches` that divides `width`."""
    while width % branches:
        branches -= 1
    return branches


def cortical_layout(width: int, layers: int) -> list[list[int]]:
    """Branch counts per neuron, per layer, by the published rule.

    Returns:
        One list per layer with the branch count of each of its neurons, e.g. `[[8, 8], ...]`.
        Counts that do not divide `width` are lowered until they do.
    """
    return [
        [divisor_at_most(width, count) for count in BRANCHES_BY_ZONE[zone_of(layer, layers)]]
        for layer in range(layers)
    ]


def feedback_pairs(layers: int) -> list[list[int]]:
    """Pairs [source, target]: the late zone's layers feed the early zone's, in order."""
    early = [layer for layer in range(layers) if zone_of(layer, layers) == "EARLY"]
    late = [layer for layer in range(layers) if zone_of(layer, layers) == "LATE"]
    return [[source, target] for source, target in zip(late, early, strict=False)]


def branch_widths(width: int, branch_counts: list[int]) -> list[str]:
    """How a layer's neurons are written: `['8x96', '6x128', '4x192']`."""
    return [f"{count}x{width // count}" for count in branch_counts]
