"""The dendritic BioGPT. Importing this registers it with transformers' Auto classes."""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from .configuration import BioGPTConfig
from .modeling import BioGPTForCausalLM, BioGPTModel

AutoConfig.register(BioGPTConfig.model_type, BioGPTConfig, exist_ok=True)
AutoModel.register(BioGPTConfig, BioGPTModel, exist_ok=True)
AutoModelForCausalLM.register(BioGPTConfig, BioGPTForCausalLM, exist_ok=True)

# Saved folders carry this code, so that others load them with `trust_remote_code=True` alone.
BioGPTConfig.register_for_auto_class()
BioGPTModel.register_for_auto_class("AutoModel")
BioGPTForCausalLM.register_for_auto_class("AutoModelForCausalLM")

__all__ = ["BioGPTConfig", "BioGPTForCausalLM", "BioGPTModel"]
