"""Methods by name: a score, the unit it scores, the scope it competes in, the kind of cut."""

import difflib
from dataclasses import dataclass
from typing import Literal

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
        near = difflib.get_close_matches(str(name), METHODS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"method: got {name!r}, allowed are {', '.join(METHODS)}{hint}")
    return METHODS[name]
