"""How much goes: amounts and patterns, checked. No torch: a study file is read without it."""

import re
from numbers import Real
from typing import Literal

Kind = Literal["head", "glu_neuron", "mlp_neuron", "branch", "neuron", "layer"]
_PLURALS = {"glu_neuron": "GLU neurons", "mlp_neuron": "MLP neurons", "branch": "branches"}


def plural(unit: str) -> str:
    """How several units are called in a sentence: `heads`, `GLU neurons`, `branches`."""
    return _PLURALS.get(unit, f"{unit}s")


def count_to_cut(units: int, amount: float) -> int:
    """How many of `units` an amount asks for: the nearest whole number, as in torch's pruning.

    Raises:
        ValueError: the amount is not a fraction from 0 to 1.
    """
    check_amount(amount)
    return round(float(amount) * units)


def check_amount(amount: float) -> None:
    """Refuse what is not a fraction from 0 to 1, and guess at a percentage."""
    if isinstance(amount, bool) or not isinstance(amount, Real):  # numpy's numbers are Real too
        raise ValueError(f"amount: got {amount!r}, allowed is a number from 0 to 1")
    if not 0 <= amount <= 1:
        hint = f"; did you mean {amount / 100:g}?" if 1 < amount <= 100 else ""
        raise ValueError(f"amount: got {amount!r}, allowed is a fraction from 0 to 1{hint}")


def parse_pattern(text: str) -> tuple[int, int]:
    """`"2:4"` -> (2, 4): of every 4 consecutive inputs the 2 highest stay.

    Raises:
        ValueError: not two whole numbers n:m with 1 <= n < m.
    """
    found = re.fullmatch(r"\s*(\d+)\s*:\s*(\d+)\s*", text, re.ASCII) if type(text) is str else None
    n, m = (int(found[1]), int(found[2])) if found else (0, 0)
    check_pattern(n, m, text)
    return n, m


def check_pattern(n: int, m: int, got: object) -> None:
    """Refuse n and m that are no pattern.

    Raises:
        ValueError: not 1 <= n < m.
    """
    if not 1 <= n < m:
        raise ValueError(
            f"pattern: got {got!r}, allowed is n:m with 1 <= n < m, such as 2:4 (2 kept of every 4)"
        )
