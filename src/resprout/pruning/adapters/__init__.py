"""Adapters: what a model family's modules are for. One small file per family."""

from transformers import PreTrainedModel

from resprout.pruning.adapters.base import Adapter
from resprout.pruning.adapters.biogpt import BioGPTAdapter
from resprout.pruning.adapters.glu import FusedGLUAdapter, GLUAdapter
from resprout.pruning.adapters.gpt2 import GPT2Adapter
from resprout.pruning.adapters.gpt_neox import GPTNeoXAdapter
from resprout.pruning.adapters.opt import OPTAdapter

_GLU = (
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3_text",
    "smollm3",
)
FAMILIES: dict[str, type[Adapter]] = {
    "dendritic_biogpt": BioGPTAdapter,
    "gpt2": GPT2Adapter,
    "gpt_neox": GPTNeoXAdapter,
    "opt": OPTAdapter,
    "phi3": FusedGLUAdapter,
    **dict.fromkeys(_GLU, GLUAdapter),
}


def adapter_for(model: PreTrainedModel) -> Adapter:
    """The adapter of the model's family; an unknown family gets the general one (weights only)."""
    return FAMILIES.get(model.config.model_type, Adapter)(model)


__all__ = ["FAMILIES", "Adapter", "adapter_for"]
