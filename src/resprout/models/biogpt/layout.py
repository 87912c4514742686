"""The cortical layout of BioGPT: which neurons a layer has, and which layers feed back.

A neuron is written as an *entry*: a branch count n, whose branches are D / n wide, or a pair
`[n, d]` of n branches of width d, as cuts leave them: n * d need not be D.

Pure functions over integers, shared by the configuration, the model and `describe`.
Source of the rules: the published BioGPT study (architecture section) and its program. Pairs are
ours.
"""

from typing import Literal

Zone = Literal["EARLY", "MID", "LATE"]
Entry = int | list[int]

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


def cortical_layout(width: int, layers: int) -> list[list[Entry]]:
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


def branches_of(entry: Entry, width: int) -> tuple[int, int]:
    """The branches n and their width d of a neuron in a model of width D."""
    if isinstance(entry, int):
        return entry, width // entry
    branches, branch_width = entry
    return branches, branch_width


def entry_of(branches: int, branch_width: int, width: int) -> Entry:
    """How n branches of width d are written: as the plain count n where n * d = D."""
    return branches if branches * branch_width == width else [branches, branch_width]


def branch_total(entries: list[Entry]) -> int:
    """The branches of all neurons of a layer."""
    return sum(entry if isinstance(entry, int) else entry[0] for entry in entries)


def branch_widths(width: int, entries: list[Entry]) -> list[str]:
    """How a layer's neurons are shown: `['8x96', '5x96', '4x192']`."""
    return ["{}x{}".format(*branches_of(entry, width)) for entry in entries]
