"""What names alone tell of devices, weights' types, tokenizers and lengths. No torch: at once.

What passes here can still be refused later, by who reads the files or asks the machine.
"""

import os
from pathlib import Path

from resprout.hints import did_you_mean, first_line
from resprout.hub import ask_for_model, cached_file
from resprout.models.names import SIZES, is_published, plain_configuration

DEVICES = ("auto", "cpu", "cuda", "cuda:0", "mps")
DTYPES = ("auto", "float32", "bfloat16", "float16")
POSITIONS = {"nano": 128, "30m": 1024, "294m": 1024, "1b": 2048}  # of the models of a size
# One of which a folder has that holds a tokenizer.
_TOKENIZER_FILES = ("tokenizer*", "*vocab*", "merges.txt", "*.model")


def check_device(name: str) -> None:
    """Refuse what is no device of any machine; whether this one has it, torch tells.

    Raises:
        ValueError: it is none.
    """
    if name not in DEVICES:
        raise ValueError(
            f"device: got {name!r}, allowed are {', '.join(DEVICES)} (CUDA_VISIBLE_DEVICES "
            f"chooses among GPUs){did_you_mean(name, DEVICES[:3]) if ':' not in name else ''}"
        )


def check_dtype(name: str) -> None:
    """Refuse what is no type of weights.

    Raises:
        ValueError: it is none.
    """
    if name not in DTYPES:
        raise ValueError(
            f"dtype: got {name!r}, allowed are {', '.join(DTYPES)}{did_you_mean(name, DTYPES)}"
        )


def check_tokenizer(model: str, given: str | None = None, revision: str | None = None) -> None:
    """Refuse a subject without a tokenizer, and a tokenizer that is not to be had.

    Args:
        model: a subject's name, which is to be had.
        given: folder or Hub id; None = the model's own.
        revision: of a Hub model.

    Raises:
        ValueError: there is none.
    """
    if given is not None:
        check_tokenizer_name(given)
    elif model in SIZES:
        raise ValueError(f"tokenizer: {model!r} is a size and has none; give --tokenizer")
    elif not is_published(model) and Path(model).is_dir():
        if not any(Path(model).glob("tokenizer*")):
            raise ValueError(f"tokenizer: {model!r} holds none; give --tokenizer")
    elif not is_published(model):
        check_tokenizer_name(model, revision)


def check_tokenizer_name(name: str, revision: str | None = None) -> None:
    """Refuse a folder without a tokenizer, and what neither the Hub nor its cache has.

    Raises:
        ValueError: naming it, and why.
    """
    folder = Path(name)
    if name and os.path.lexists(folder):
        if not any(any(folder.glob(file)) for file in _TOKENIZER_FILES):
            raise ValueError(
                f"tokenizer: {name!r} holds none; allowed is a folder with a tokenizer, or a Hub id"
            )
        return
    try:
        if cached_file(name, "tokenizer_config.json", revision) is None:
            ask_for_model(name, revision)
    except Exception as error:  # many libraries' errors, all meaning that it cannot be had
        raise ValueError(
            f"tokenizer: {name!r} is not to be had ({first_line(error)}); allowed is a folder "
            "with a tokenizer, or a Hub id"
        ) from error


def known_limit(model: str, revision: str | None = None) -> int | None:
    """How many positions a subject has, where that stands plainly in its configuration.

    Args:
        model: a subject's name, which is to be had.
        revision: of a Hub model.

    Returns:
        As `position_limit` of the loaded configuration; None where only that can tell.
    """
    if model in SIZES:
        return POSITIONS[model.rpartition("-")[2]]
    plain = plain_configuration(model, revision) or {}
    inner = plain.get("text_config")
    plain = inner if isinstance(inner, dict) else plain
    field = "n_positions" if plain.get("model_type") == "gpt2" else "max_position_embeddings"
    found = plain.get(field)
    return found if type(found) is int and found > 0 else None


def check_length(option: str, length: int, model: str, revision: str | None = None) -> None:
    """Refuse more tokens than a subject has positions, where that is known at once.

    Raises:
        ValueError: naming the option and the positions.
    """
    limit = known_limit(model, revision)
    if limit is not None and length > limit:
        raise ValueError(
            f"{option}: got {length}, allowed are up to the {limit} positions of {model!r}"
        )
