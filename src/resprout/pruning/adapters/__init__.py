"""Adapters: what a model family's modules are for. One small file per family."""

from transformers import PreTrainedModel

from resprout.pruning.adapters.base import Adapter, DeadUnit
from resprout.pruning.adapters.biogpt import BioGPTAdapter

FAMILIES: dict[str, type[Adapter]] = {"dendritic_biogpt": BioGPTAdapter}


def adapter_for(model: PreTrainedModel) -> Adapter:
    """The adapter of the model's family; an unknown family gets the general one (weights only)."""
    return FAMILIES.get(model.config.model_type, Adapter)(model)


__all__ = ["Adapter", "DeadUnit", "adapter_for"]
