"""The command lines of the benchmarks: what is wrong is one line and exit code 2, before any work.

Each `type=` here turns a word into a checked value; argparse names the option before its message.
"""

import argparse
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from resprout.cli import comparison_parser
from resprout.hints import did_you_mean
from resprout.models.device import PRECISIONS, resolve_device
from resprout.models.names import SIZES


class Parser(comparison_parser.Parser):
    """An argument parser whose error is one line, and whose help shows the docstring as it is."""

    def __init__(self, told: str | None) -> None:
        super().__init__(
            description=told, formatter_class=argparse.RawTextHelpFormatter, allow_abbrev=False
        )


def _argument(check: Callable[[str], Any]) -> Callable[[str], Any]:
    """A check whose ValueError argparse shows, instead of its own `invalid value`."""

    def checked(word: str) -> Any:
        try:
            return check(word)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return checked


def whole(least: int = 1) -> Callable[[str], int]:
    """Whole numbers from `least` on."""

    def check(word: str) -> int:
        if not word.isascii() or not word.strip().isdigit() or not least <= int(word) < 2**31:
            raise ValueError(f"got {word!r}, allowed is a whole number from {least} to 2147483647")
        return int(word)

    return _argument(check)


def number(least: float = 0.0, most: float = math.inf) -> Callable[[str], float]:
    """Finite numbers above `least`, up to `most`."""

    def check(word: str) -> float:
        allowed = f"a number above {least:g}" + (f", {most:g} at most" if most < math.inf else "")
        try:
            found = float(word)
        except ValueError:
            raise ValueError(f"got {word!r}, allowed is {allowed}") from None
        if not least < found <= most or math.isinf(found):
            raise ValueError(f"got {word!r}, allowed is {allowed}")
        return found

    return _argument(check)


def one_of(allowed: Iterable[str]) -> Callable[[str], str]:
    """One of some words; argparse's own `choices` suggest none."""
    words = list(allowed)

    def check(word: str) -> str:
        if word not in words:
            shown = ", ".join(words)
            raise ValueError(f"got {word!r}, allowed are {shown}{did_you_mean(word, words)}")
        return word

    return _argument(check)


def _amount(word: str) -> float:
    try:
        found = float(word)
    except ValueError:
        found = math.nan
    if not 0 <= found < 1:
        raise ValueError(f"got {word!r}, allowed is an amount from 0 up to, not including, 1")
    return found


def _device(word: str) -> str:
    return str(resolve_device(word))


def _there(word: str) -> Path:
    path = Path(word)
    if not path.exists():
        raise ValueError(f"{word!r} does not exist")
    return path


amount = _argument(_amount)
device = _argument(_device)  # "cpu", "cuda", ...; `auto` becomes one of them
there = _argument(_there)  # a path
dtype = one_of(PRECISIONS)
size = one_of(name for name in SIZES if name.startswith("biogpt"))
