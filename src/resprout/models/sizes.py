"""Models by name: the sizes that studies grow from nothing, each a configuration.

Every BioGPT has a control of transformers' GPT-NeoX beside it, `gpt-neox-SIZE`: as many layers,
positions and vocabulary, total parameters within 1 % (within 0.1 % in fact), width and MLP chosen
so.
"""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, GPTNeoXConfig, PreTrainedConfig, PreTrainedModel

from resprout.models.biogpt import BioGPTConfig

# What a pair has in common: vocabulary, layers, positions.
_COMMON: dict[str, dict[str, int]] = {
    "nano": {"vocab_size": 4096, "num_hidden_layers": 6, "max_position_embeddings": 128},
    "30m": {"vocab_size": 16384, "num_hidden_layers": 12, "max_position_embeddings": 1024},
    "294m": {"vocab_size": 50304, "num_hidden_layers": 12, "max_position_embeddings": 1024},
    "1b": {"vocab_size": 50304, "num_hidden_layers": 14, "max_position_embeddings": 2048},
}
_BIOGPT_WIDTH = {"nano": 72, "30m": 240, "294m": 768, "1b": 1536}
# Width, heads, MLP width.
_GPT_NEOX_SHAPE = {
    "nano": (96, 6, 476),
    "30m": (352, 11, 1392),
    "294m": (1120, 14, 4520),
    "1b": (2304, 18, 9616),
}
SIZES = tuple(f"{family}-{size}" for family in ("biogpt", "gpt-neox") for size in _COMMON)


def control_of(name: str) -> str:
    """The name of the matched control of a BioGPT size."""
    return name.replace("biogpt-", "gpt-neox-")


def configuration(name: str, **changes: Any) -> PreTrainedConfig:
    """The configuration of a named size, with fields changed (e.g. `vocab_size`).

    Raises:
        ValueError: no size has that name.
    """
    if name not in SIZES:
        raise ValueError(f"model: got {name!r}, allowed are {', '.join(SIZES)}")
    family, _, size = name.rpartition("-")
    if family == "biogpt":
        shape = _COMMON[size] | {"hidden_size": _BIOGPT_WIDTH[size]}
        return BioGPTConfig(**(shape | changes))
    width, heads, mlp = _GPT_NEOX_SHAPE[size]
    shape = _COMMON[size] | {
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": mlp,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    return GPTNeoXConfig(**(shape | changes))


def build(config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    """A new model in fp32 with its family's start values, determined by the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    assert isinstance(model, PreTrainedModel)
    return model
