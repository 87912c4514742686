"""Values that an option may not have: one line that names the option, what was got, what may be."""

import math
from numbers import Integral, Real
from typing import Any

# NumPy's old generators, which transformers seeds, take no more.
LARGEST_SEED = 2**32 - 1


def check_whole(name: str, value: Any, least: int, most: int | None = None) -> None:
    """Refuse what is not a whole number from `least` (to `most`).

    Raises:
        ValueError: it is not.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        to = "" if most is None else f" to {most}"
        raise ValueError(f"{name}: got {value!r}, allowed is a whole number from {least}{to}")


def check_seed(value: Any, name: str = "seed") -> None:
    """Refuse what cannot be a seed.

    Raises:
        ValueError: it is not a whole number from 0 to 2**32 - 1.
    """
    check_whole(name, value, 0, LARGEST_SEED)


def is_number(value: Any) -> bool:
    """Whether it is a finite real number; truth values are none."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def check_one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Refuse a word that is none of those allowed.

    Raises:
        ValueError: it is not.
    """
    if value not in allowed:
        raise ValueError(f"{name}: got {value!r}, allowed are {', '.join(allowed)}")


def check_model(model: Any, name: str = "model") -> None:
    """Refuse what is no model with a configuration; a name of one, most often.

    Raises:
        ValueError: it is not.
    """
    if not hasattr(model, "config") or not hasattr(model, "named_parameters"):
        raise ValueError(
            f"{name}: got {type(model).__name__}, allowed is a PreTrainedModel of transformers, "
            "such as resprout.load gives"
        )
