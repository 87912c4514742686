"""How much goes: amounts and patterns, checked. No torch: a study file is read without it."""

import math
import re
from collections.abc import Sequence
from numbers import Real
from typing import Literal

from resprout.refusals import is_number, shown

Kind = Literal["head", "glu_neuron", "mlp_neuron", "branch", "neuron", "layer"]
_PLURALS = {"glu_neuron": "GLU neurons", "mlp_neuron": "MLP neurons", "branch": "branches"}

HIGHEST_RATE = 1e6  # per cent: ten thousand neurons for each of the model's width


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
        raise ValueError(f"amount: got {shown(amount)}, allowed is a number from 0 to 1")
    if not 0 <= amount <= 1:
        hint = f"; did you mean {amount / 100:g}?" if 1 < amount <= 100 else ""
        raise ValueError(f"amount: got {amount!r}, allowed is a fraction from 0 to 1{hint}")


def check_rate(rate: float) -> None:
    """Refuse an expansion rate that is none, whatever the model.

    Raises:
        ValueError: it is no positive number.
    """
    if not is_number(rate) or not 0 < rate <= HIGHEST_RATE:
        raise ValueError(
            f"expansion_rate: got {shown(rate)}, allowed is a number above 0 and up to "
            f"{HIGHEST_RATE:g}, in per cent"
        )


def counts_to_keep(
    counts: Sequence[int], expansion_rate: float, widths: Sequence[int]
) -> list[int]:
    """How many neurons of each MLP stay for an expansion rate of 100 * I / D.

    Args:
        counts: per layer the neurons now, I.
        expansion_rate: wanted, in per cent: 140 keeps 1.4 D neurons, rounded up, at least 1.
        widths: per layer the model width, D.

    Raises:
        ValueError: the rate is no positive number, or above the present one of a layer.
    """
    rate = expansion_rate
    check_rate(rate)
    kept = []
    for count, width in zip(counts, widths, strict=True):
        # 1e-9: a rate such as 110 / 100 * 100 is a hair above the whole number that it means.
        wanted = max(1, math.ceil(float(rate) / 100 * width - 1e-9))
        if wanted > count:
            raise ValueError(
                f"expansion_rate: got {rate:g} ({wanted} neurons at model width {width}), allowed "
                f"is at most the present {100 * count / width:g} ({count} neurons)"
            )
        kept.append(wanted)
    return kept


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
