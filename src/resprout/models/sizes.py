"""Models by name: the sizes that studies grow from nothing, each a configuration.

Every BioGPT has controls of other families beside it, `gpt-neox-SIZE`, `llama-SIZE` and
`gpt2-SIZE`: as many layers, positions and vocabulary, total parameters within 1 % (within 0.1 % in
fact), width and MLP chosen so. As BioGPT, all have untied heads (GPT-2's is tied by default) and no
dropout. What else a family does, its start values too, is as transformers does it.
"""

from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from resprout.models.biogpt import BioGPTConfig
from resprout.models.by_name import POSITIONS
from resprout.models.names import CONTROLS as CONTROLS
from resprout.models.names import SIZES as SIZES

# What the models of a size have in common, with `POSITIONS`: vocabulary and layers.
_COMMON: dict[str, dict[str, int]] = {
    "nano": {"vocab_size": 4096, "num_hidden_layers": 6},
    "30m": {"vocab_size": 16384, "num_hidden_layers": 12},
    "294m": {"vocab_size": 50304, "num_hidden_layers": 12},
    "1b": {"vocab_size": 50304, "num_hidden_layers": 14},
}
_BIOGPT_WIDTH = {"nano": 72, "30m": 240, "294m": 768, "1b": 1536}
# Width, heads, MLP width.
_GPT_NEOX_SHAPE = {
    "nano": (96, 6, 476),
    "30m": (352, 11, 1392),
    "294m": (1120, 14, 4520),
    "1b": (2304, 18, 9616),
}
# Width, heads, MLP width, heads of keys and values. The largest has Llama-3.2-1B's attention.
_LLAMA_SHAPE = {
    "nano": (96, 6, 364, 2),
    "30m": (384, 12, 888, 3),
    "294m": (1024, 16, 4344, 4),
    "1b": (2048, 32, 9264, 8),
}
# Width, heads, MLP width.
_GPT2_SHAPE = {
    "nano": (96, 6, 464),
    "30m": (352, 11, 1352),
    "294m": (1120, 14, 4480),
    "1b": (2304, 18, 9544),
}


def control_of(name: str, family: str = "gpt-neox") -> str:
    """The name of the matched control of a BioGPT size, of one of the families `CONTROLS`."""
    return name.replace("biogpt-", f"{family}-")


def configuration(name: str, **changes: Any) -> PreTrainedConfig:
    """The configuration of a named size, with fields changed (e.g. `vocab_size`).

    Raises:
        ValueError: no size has that name.
    """
    if name not in SIZES:
        raise ValueError(f"model: got {name!r}, allowed are {', '.join(SIZES)}")
    family, _, size = name.rpartition("-")
    common: dict[str, Any] = _COMMON[size] | {
        "max_position_embeddings": POSITIONS[size],
        "bos_token_id": 0,
        "eos_token_id": 0,
        "tie_word_embeddings": False,
    }
    if family == "biogpt":
        return BioGPTConfig(**(common | {"hidden_size": _BIOGPT_WIDTH[size]} | changes))
    if family == "llama":
        width, heads, mlp, kv_heads = _LLAMA_SHAPE[size]
        return LlamaConfig(
            **(common | _shape(width, heads, mlp) | {"num_key_value_heads": kv_heads} | changes)
        )
    if family == "gpt2":
        width, heads, mlp = _GPT2_SHAPE[size]
        shape = {
            "n_embd": width,
            "n_head": heads,
            "n_inner": mlp,
            "n_layer": common.pop("num_hidden_layers"),
            "n_positions": common.pop("max_position_embeddings"),
            "resid_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
        }
        names = GPT2Config.attribute_map  # a change may come under either of two names
        return GPT2Config(**(common | shape | {names.get(k, k): v for k, v in changes.items()}))
    return GPTNeoXConfig(**(common | _shape(*_GPT_NEOX_SHAPE[size]) | changes))


def _shape(width: int, heads: int, mlp: int) -> dict[str, int]:
    return {"hidden_size": width, "num_attention_heads": heads, "intermediate_size": mlp}


def build(config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    """A new model in fp32 with its family's start values, determined by the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    assert isinstance(model, PreTrainedModel)
    return model
