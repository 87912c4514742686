"""What flags, names and files tell of the agency comparison, before torch is imported."""

import os
import re
from collections.abc import Callable
from typing import TypeVar

from resprout.data import sources
from resprout.hints import did_you_mean, first_line
from resprout.hub import ask_for_model, cached_file
from resprout.models.by_name import check_device, check_tokenizer, known_limit
from resprout.models.names import SIZES, check_subject
from resprout.study.comparison_flags import Flags
from resprout.study.early import check_folder
from resprout.study.source_early import check_apart, check_text

T = TypeVar("T")

OFFLINE = "gpt2-nano"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")


def check_early(flags: Flags) -> None:
    """Refuse what can be refused at once; nothing is written.

    Raises:
        ValueError: naming the flag, the value got and what is allowed.
    """
    check_device(flags.device)
    as_data(lambda: sources.check_source(flags.data))
    check_apart("output_dir", flags.output_dir, "data", flags.data)
    as_data(lambda: check_text(flags.data))
    try:
        check_folder(study_name(flags), flags.output_dir)
    except ValueError as error:
        raise ValueError(f"output_dir: {str(error).removeprefix('out: ')}") from error
    check_at_hand(flags.model_name)
    check_new_tokens(flags, known_limit(flags.model_name))


def study_name(flags: Flags) -> str:
    """The study's name: each model and method is a study of its own."""
    model = re.sub(r"[^A-Za-z0-9._-]+", "-", flags.model_name.strip("/")).strip("-.")
    return f"agency-{flags.pruning_method}-{model[-40:].lstrip('-._')}"


def as_data(work: Callable[[], T]) -> T:
    """Work on the source of text, its errors under the flag's name."""
    try:
        return work()
    except ValueError as error:
        raise ValueError(f"data: {str(error).removeprefix('source: ')}") from error


def check_new_tokens(flags: Flags, limit: int | None) -> None:
    """Refuse texts that are longer than the model's positions.

    Raises:
        ValueError: naming both.
    """
    if limit is not None and flags.num_tokens is not None and flags.num_tokens >= limit:
        raise ValueError(
            f"num_tokens: got {flags.num_tokens}, allowed with a prompt of one token is up to "
            f"{limit - 1}: {flags.model_name} has {limit} positions"
        )


def check_at_hand(name: str) -> None:
    """Refuse a model that is not to be had whole: neither a size, nor a folder, nor of the Hub.

    Raises:
        ValueError: naming the flag.
    """
    if name in SIZES:
        return
    if not os.path.lexists(name):
        _ask_hub(name)
        return
    try:
        check_subject(name)
    except ValueError as error:
        raise ValueError(f"model_name: {str(error).removeprefix('subject: ')}") from error
    try:
        check_tokenizer(name)
    except ValueError as error:  # whose advice is a flag that there is not
        raise ValueError(
            f"model_name: {name!r} has no tokenizer; allowed is a model folder that holds its own"
        ) from error


def is_cached(name: str) -> bool:
    """Whether the local Hub cache has a model's configuration, weights and tokenizer."""

    def has(file: str) -> bool:
        return cached_file(name, file) is not None

    tokenizer = has("tokenizer.json") or (has("vocab.json") and has("merges.txt"))
    return has("config.json") and tokenizer and any(map(has, _WEIGHTS))


def _ask_hub(name: str) -> None:
    """Refuse a model that neither the local cache nor the Hub has, asked once.

    Raises:
        ValueError: naming the offline choice.
    """
    try:
        if not is_cached(name):
            ask_for_model(name)
    except Exception as error:  # many libraries' errors, all meaning that it cannot be had
        hint = did_you_mean(name, SIZES) if "-" in name else ""
        raise ValueError(
            f"model_name: {name!r} is to be had neither from the local cache nor from the Hub "
            f"({first_line(error)}); without a network: --model_name {OFFLINE}{hint}"
        ) from error
