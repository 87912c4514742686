"""Points: subject x method x amount x seed, each named by a hash of all that determines it."""

import hashlib
import json
from dataclasses import dataclass
from itertools import product
from typing import Any

from resprout.hints import point_label
from resprout.pruning.methods import method as method_named
from resprout.study.spec import CutSpec, StudySpec, SubjectSpec

RECORD_FORMAT = 2  # raised when the meaning of a record changes: older points are then redone


@dataclass(frozen=True)
class Point:
    """One unit of work.

    Attributes:
        id: hash of `identity`, the name of its record.
        identity: all that determines the result.
    """

    id: str
    identity: dict[str, Any]
    subject: SubjectSpec
    cut: CutSpec
    amount: float
    seed: int

    @property
    def label(self) -> str:
        """How progress and errors name the point."""
        name, method = self.subject.name, self.cut.method
        return point_label(name, method, self.amount, self.seed, self.protocol)

    @property
    def protocol(self) -> str:
        """The rules by which it is cut and recovers."""
        return str(self.identity["protocol"])

    @property
    def unit(self) -> str:
        """What one cut removes."""
        return method_named(self.cut.method).unit


def digest(value: Any) -> str:
    """A short name for a JSON value: 64 bits of sha256 over its canonical form."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def plan(
    spec: StudySpec,
    recipes: dict[tuple[str, int], dict[str, Any]],
    tokens: dict[str, str],
    device: str,
) -> list[Point]:
    """All points of a study, in the order in which they are run.

    Args:
        spec: the study.
        recipes: (subject's name, seed) -> what determines that subject.
        tokens: subject's name -> digest of the data it reads.
        device: kind of device (`cpu`, `cuda`): it changes the last digits.
    """
    points = []
    for seed in spec.seeds:
        for subject in spec.subjects:
            cuts = spec.cuts_of(subject)
            for protocol, cut in product(spec.protocols, cuts):
                for amount in cut.amounts:
                    identity = {
                        "format": RECORD_FORMAT,
                        "study": spec.study,
                        "subject": recipes[subject.name, seed],
                        "subject_name": subject.name,
                        "method": cut.method,
                        "amount": amount,
                        "dead_threshold": cut.dead_threshold,
                        "protocol": protocol,
                        "recovery": spec.recovery.identity(),
                        "seed": seed,
                        "tokens": tokens[subject.name],
                        "window": spec.data.window,
                        "measures": sorted(spec.measures),
                        "text": spec.text.identity() if spec.text else None,
                        "device": device,
                    }
                    options = cut.options()
                    options.pop("dead_threshold", None)  # has always had its own place
                    if options:
                        identity["cut"] = options
                    if cut.calibration_windows is not None:
                        identity["calibration_windows"] = cut.calibration_windows
                    if spec.precision != "float32":
                        identity["precision"] = spec.precision
                    for name in ("tasks", "speed", "energy"):
                        part = getattr(spec, name)
                        if name in spec.measures:
                            identity[name] = part.model_dump() if part is not None else {}
                    if "energy" in spec.measures and spec.speed is not None:
                        identity["speed"] = spec.speed.model_dump()
                    points.append(Point(digest(identity), identity, subject, cut, amount, seed))
    return points
