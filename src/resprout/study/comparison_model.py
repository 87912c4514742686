"""The model of a comparison: whether it is to be had, and whether its heads can carry agency."""

import copy
import os

from huggingface_hub import HfApi, try_to_load_from_cache
from transformers import PreTrainedConfig

from resprout.hints import did_you_mean, first_line
from resprout.models import agency
from resprout.models.description import skeleton
from resprout.models.sizes import SIZES
from resprout.models.subject import HUB_TIMEOUT_SECONDS, load_configuration, load_tokenizer

OFFLINE = "gpt2-nano"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")


def find_model(name: str) -> PreTrainedConfig:
    """The configuration of a size, a local folder or a Hub model, which is to be had whole.

    Raises:
        ValueError: it is not to be had, has no tokenizer, or its attention is not registry-based.
    """
    if name not in SIZES and not os.path.lexists(name):
        _ask_hub(name)
    try:
        config = load_configuration(name)
        if name not in SIZES and load_tokenizer(name) is None:
            raise ValueError(f"{name!r} has no tokenizer")
        agency.enable(skeleton(copy.deepcopy(config)))
    except ValueError as error:
        said = str(error).removeprefix("subject: ").removeprefix("model: ")
        raise ValueError(f"model_name: {said}") from error
    return config


def is_cached(name: str) -> bool:
    """Whether the local Hub cache has a model's configuration, weights and tokenizer."""

    def has(file: str) -> bool:
        return isinstance(try_to_load_from_cache(name, file), str)

    tokenizer = has("tokenizer.json") or (has("vocab.json") and has("merges.txt"))
    return has("config.json") and tokenizer and any(map(has, _WEIGHTS))


def _ask_hub(name: str) -> None:
    """Refuse a model that neither the local cache nor the Hub has, asked once.

    Raises:
        ValueError: naming the offline choice.
    """
    try:
        if not is_cached(name):
            HfApi().model_info(name, timeout=HUB_TIMEOUT_SECONDS)
    except Exception as error:  # many libraries' errors, all meaning that it cannot be had
        hint = did_you_mean(name, SIZES) if "-" in name else ""
        raise ValueError(
            f"model_name: {name!r} is to be had neither from the local cache nor from the Hub "
            f"({first_line(error)}); without a network: --model_name {OFFLINE}{hint}"
        ) from error
