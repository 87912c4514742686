"""Models by name: the sizes that studies grow from nothing, each a configuration.

`biogpt-nano` and `gpt-neox-nano` are a pair: total parameters within 2 % of each other.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GPTNeoXConfig, PreTrainedConfig, PreTrainedModel

from resprout.models.biogpt import BioGPTConfig

NANO_VOCABULARY = 4096
NANO_POSITIONS = 128


def _biogpt_nano(**changes: Any) -> PreTrainedConfig:
    shape = {
        "vocab_size": NANO_VOCABULARY,
        "hidden_size": 72,
        "num_hidden_layers": 6,
        "max_position_embeddings": NANO_POSITIONS,
    }
    return BioGPTConfig(**(shape | changes))


def _gpt_neox_nano(**changes: Any) -> PreTrainedConfig:
    shape = {
        "vocab_size": NANO_VOCABULARY,
        "hidden_size": 96,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
        "intermediate_size": 476,
        "max_position_embeddings": NANO_POSITIONS,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    return GPTNeoXConfig(**(shape | changes))


def _biogpt_294m(**changes: Any) -> PreTrainedConfig:
    return BioGPTConfig(**changes)


SIZES: dict[str, Callable[..., PreTrainedConfig]] = {
    "biogpt-nano": _biogpt_nano,
    "biogpt-294m": _biogpt_294m,
    "gpt-neox-nano": _gpt_neox_nano,
}


def configuration(name: str, **changes: Any) -> PreTrainedConfig:
    """The configuration of a named size, with fields changed (e.g. `vocab_size`).

    Raises:
        ValueError: no size has that name.
    """
    if name not in SIZES:
        raise ValueError(f"model: got {name!r}, allowed are {', '.join(sorted(SIZES))}")
    return SIZES[name](**changes)


def build(config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    """A new model in fp32 with its family's start values, determined by the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    assert isinstance(model, PreTrainedModel)
    return model
