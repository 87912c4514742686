"""Words for people: what a mistaken word was probably meant to be, an error as one short line."""

import difflib
import traceback
from collections.abc import Container, Iterable, Iterator


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """`; did you mean 'magnitude'?` where one of the known words is near; else nothing."""
    near = difflib.get_close_matches(given, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def first_line(error: BaseException) -> str:
    """What a library's error says, as one short line; of one without words, what broke."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines:
        # `Validation error for field 'hidden_size':` is told what is wrong in the line after it.
        reason = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
        return reason[:200]
    frames = traceback.extract_tb(error.__traceback__)
    broke = frames[-1].line if frames else None
    return broke[:200] if broke else type(error).__name__


def is_text(value: str) -> bool:
    """Whether it can be written as UTF-8: not with half a surrogate pair in it.

    That is what Python makes of a byte that is not UTF-8 in a command line or a file's name.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what caused it, and what caused that: libraries wrap each other's errors."""
    seen = 0
    while error is not None and seen < 20:
        yield error
        error, seen = error.__cause__ or error.__context__, seen + 1


def point_label(subject: str, method: str, amount: float, seed: int, protocol: str) -> str:
    """How progress, errors and reports name a point: `bio magnitude 50% seed 0`."""
    named = f"{subject} {method} {100 * amount:g}% seed {seed}"
    return named if protocol == "fair" else f"{named}, {protocol} protocol"


def unused(name: str, identity: str, taken: Container[str]) -> str:
    """The name, with the point's id where another point has it: cuts may differ in options only."""
    return f"{name} ({identity})" if name in taken else name
