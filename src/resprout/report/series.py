"""Series: what each subject measured under each method, level by level and seed by seed."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

Record = dict[str, Any]


@dataclass(frozen=True)
class Series:
    """One subject under one method.

    Attributes:
        subject: its name.
        method: the method's name.
        variant: how this cut differs from others by the same method, else empty.
        points: level -> seed -> record; level 0 is the uncut subject.
        borrowed: the uncut records come from another method, whose uncut model is the same.
        protocol: by which rules it was cut and recovered.
        several_protocols: whether the records have others too.
        run: which of several runs, else empty.
    """

    subject: str
    method: str
    variant: str
    points: dict[float, dict[int, Record]] = field(repr=False)
    borrowed: bool = False
    protocol: str = "fair"
    several_protocols: bool = False
    run: str = ""

    @property
    def named_method(self) -> str:
        """The method with its variant."""
        return f"{self.method} ({self.variant})" if self.variant else self.method

    @property
    def label(self) -> str:
        """The method with its variant, and the protocol where there are several."""
        protocol = f", {self.protocol} protocol" if self.several_protocols else ""
        return self.named_method + protocol

    @property
    def levels(self) -> list[float]:
        """Amounts asked for, rising."""
        return sorted(self.points)

    def seeds_at(self, level: float) -> list[int]:
        """The seeds that a level has, rising."""
        return sorted(self.points.get(level, {}))

    def records(self, level: float, seeds: Sequence[int]) -> list[Record]:
        """Those of a level, one per seed."""
        return [self.points[level][seed] for seed in seeds]


def series_of(records: Sequence[Record]) -> list[Series]:
    """All series of a run (or several), in the order of the records.

    Where a method has no uncut point of its own, the subject's uncut point by another method is
    taken: nothing was cut from either, and both were recovered alike.
    """
    groups: dict[tuple[Any, ...], dict[float, dict[int, Record]]] = defaultdict(dict)
    variants = _variants(records)
    several_protocols = len({record["protocol"] for record in records}) > 1
    for record in records:
        variant = variants[_options(record)]
        whose = record["subject"], record["protocol"], record.get("run", "")
        key = (*whose, record["method"], variant)
        groups[key].setdefault(record["amount"], {})[record["seed"]] = record
    uncut: dict[tuple[str, ...], dict[int, Record]] = defaultdict(dict)
    for key, points in groups.items():
        for seed, record in points.get(0, {}).items():
            uncut[key[:3]].setdefault(seed, record)
    found = []
    for key, points in groups.items():
        subject, protocol, run, method, variant = key
        borrowed = False
        if any(seed not in points.get(0, {}) for level in points for seed in points[level]):
            needed = {seed for level in points for seed in points[level]}
            others = {s: r for s, r in uncut[key[:3]].items() if s in needed}
            borrowed = set(others) > set(points.get(0, {}))
            if others:
                points = {0.0: others | points.get(0, {})} | {
                    level: own for level, own in points.items() if level > 0
                }
        found.append(
            Series(subject, method, variant, points, borrowed, protocol, several_protocols, run)
        )
    return found


def whole_grid(at: Mapping[float, Set[int]]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Levels and seeds without a gap: the choice that keeps most points, then most levels.

    Args:
        at: level -> the seeds that it has.
    """
    best: tuple[tuple[float, ...], tuple[int, ...]] = ((), ())
    # Each level's own seeds are a candidate: all levels that have these too.
    for seeds in [*at.values(), set.intersection(*map(set, at.values())) if at else set()]:
        levels = tuple(level for level in sorted(at) if seeds <= at[level])
        kept = len(levels) * len(seeds), len(levels)
        if seeds and kept > (len(best[0]) * len(best[1]), len(best[0])):
            best = levels, tuple(sorted(seeds))
    return best


def _options(record: Record) -> tuple[str, str]:
    """The method and its options, as the point's identity holds them."""
    options = (record.get("identity") or {}).get("cut") or {}
    return record["method"], json.dumps(options, sort_keys=True)


def _variants(records: Sequence[Record]) -> dict[tuple[str, str], str]:
    """Method and options -> in words what of them differs from the method's other options."""
    by_method: dict[str, dict[str, dict[str, object]]] = defaultdict(dict)
    for record in records:
        method, options = _options(record)
        by_method[method][options] = json.loads(options)
    found = {}
    for name_of_method, several in by_method.items():
        names = sorted({name for options in several.values() for name in options})
        differing = [
            name
            for name in names
            if len({json.dumps(options.get(name)) for options in several.values()}) > 1
        ]
        for written, own in several.items():
            said = [f"{name.replace('_', ' ')} {own.get(name, 'as usual')}" for name in differing]
            found[name_of_method, written] = ", ".join(said)
    return found
