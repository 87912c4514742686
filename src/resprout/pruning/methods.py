"""Methods by name: a score, the unit it scores, the scope it competes in, the kind of cut."""

from dataclasses import dataclass
from typing import Literal

from resprout.hints import did_you_mean
from resprout.pruning import scores
from resprout.pruning.selection import Score


@dataclass(frozen=True)
class Method:
    """A named way to cut."""

    name: str
    unit: Literal["weight"]
    scope: Literal["global"]
    score: Score
    source: str


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("magnitude", "weight", "global", scores.magnitude, "Han et al. 2015, section 3"),
    )
}


def method(name: str) -> Method:
    """The method of that name.

    Raises:
        ValueError: there is none; the nearest name is offered.
    """
    if name not in METHODS:
        hint = did_you_mean(str(name), METHODS)
        raise ValueError(f"method: got {name!r}, allowed are {', '.join(METHODS)}{hint}")
    return METHODS[name]
