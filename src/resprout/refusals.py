"""Values that an option may not have: one line that names the option, what was got, what may be."""

import math
import os
from collections.abc import Container
from numbers import Integral, Real
from typing import Any

# NumPy's old generators, which transformers seeds, take no more.
LARGEST_SEED = 2**32 - 1
_SHOWN = 200  # characters of a value


def shown(value: Any) -> str:
    """What was got, in one short line: the words of an array have many."""
    try:
        words = repr(value)
    except ValueError:  # Python spells no whole number of thousands of digits
        return f"{type(value).__name__} beyond words"
    words = " ".join(words.split()) if "\n" in words else words
    return words if len(words) <= _SHOWN else f"{words[:_SHOWN]}..."


def is_whole(value: Any) -> bool:
    """Whether it is a whole number, Python's or NumPy's; truth values are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_whole(name: str, value: Any, least: int, most: int | None = None) -> None:
    """Refuse what is not a whole number from `least` (to `most`).

    Raises:
        ValueError: it is not.
    """
    if not is_whole(value) or value < least or (most is not None and value > most):
        to = "" if most is None else f" to {most}"
        raise ValueError(f"{name}: got {shown(value)}, allowed is a whole number from {least}{to}")


def check_seed(value: Any, name: str = "seed") -> None:
    """Refuse what cannot be a seed.

    Raises:
        ValueError: it is not a whole number from 0 to 2**32 - 1.
    """
    check_whole(name, value, 0, LARGEST_SEED)


def is_number(value: Any) -> bool:
    """Whether it is a finite real number that a float can hold; truth values are none."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def check_flag(name: str, value: Any) -> None:
    """Refuse what is neither True nor False: the words 'no' and '0' would count as true.

    Raises:
        ValueError: it is something else.
    """
    kind = type(value)
    numpys = kind.__module__ == "numpy" and kind.__name__ in ("bool", "bool_")
    if kind is not bool and not numpys:
        raise ValueError(f"{name}: got {shown(value)}, allowed are True, False")


def check_one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Refuse a word that is none of those allowed.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name}: got {shown(value)}, allowed are {', '.join(allowed)}")


def check_text(name: str, value: Any) -> None:
    """Refuse what is no text.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, str):
        raise ValueError(f"{name}: got {shown(value)}, allowed is a text")


def check_path(name: str, value: Any) -> None:
    """Refuse what cannot be the path of a file or folder; whether one is there, others tell.

    Raises:
        ValueError: it is neither a text nor a path, or has a character that no path can have.
    """
    if not isinstance(value, str | os.PathLike) or "\0" in str(value):
        raise ValueError(f"{name}: got {shown(value)}, allowed is a path, as text or pathlib.Path")


def check_revision(revision: Any, model: str, sizes: Container[str]) -> None:
    """Refuse a version of what has none: a size, or a folder or file of this machine.

    transformers takes no notice of it there, and a user would measure another checkpoint than the
    one that was asked for.

    Args:
        revision: a branch, tag or commit of a Hub model; None is none.
        model: as the user named it.
        sizes: the names of those that are made here.

    Raises:
        ValueError: naming both.
    """
    if revision is None:
        return
    check_text("revision", revision)
    here = "a size" if model in sizes else "on this machine" if os.path.lexists(model) else None
    if here is not None:
        raise ValueError(
            f"revision: got {revision!r}, allowed only with a model of the Hub; {model!r} is {here}"
        )


def check_callable(name: str, value: Any) -> None:
    """Refuse what cannot be called.

    Raises:
        ValueError: it cannot.
    """
    if not callable(value):
        raise ValueError(f"{name}: got {shown(value)}, allowed is a function")


def check_instance(name: str, value: Any, kind: type, article: str = "a") -> None:
    """Refuse what is not of a class of ours; None stands for its defaults.

    Raises:
        ValueError: it is of another.
    """
    if value is not None and not isinstance(value, kind):
        got = type(value).__name__
        raise ValueError(f"{name}: got {got}, allowed is {article} {kind.__name__}, or None")


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


def check_language_model(model: Any, name: str = "model") -> None:
    """As `check_model`, and refuse what gives no logits: a base model, a classifier.

    Raises:
        ValueError: it is not.
    """
    check_model(model, name)
    if not model.can_generate() and model.get_output_embeddings() is None:
        raise ValueError(
            f"{name}: got {type(model).__name__}, which has no head over the vocabulary; allowed "
            "is what AutoModelForCausalLM or resprout.load gives"
        )


def check_loaded_tokenizer(tokenizer: Any, name: str = "tokenizer") -> None:
    """Refuse what is no tokenizer of transformers; a name of one, most often. None is none.

    Raises:
        ValueError: it is something else.
    """
    parts = ("get_vocab", "save_pretrained", "eos_token_id")
    if tokenizer is not None and not all(hasattr(tokenizer, part) for part in parts):
        raise ValueError(
            f"{name}: got {type(tokenizer).__name__}, allowed is a tokenizer of transformers, "
            "such as resprout.load gives"
        )
