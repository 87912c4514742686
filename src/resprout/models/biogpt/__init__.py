"""The dendritic BioGPT. Importing this registers it with transformers' Auto classes."""

from transformers import AutoConfig, AutoModelForCausalLM

from resprout.models.biogpt.configuration import BioGPTConfig
from resprout.models.biogpt.modeling import BioGPTForCausalLM, BioGPTModel

AutoConfig.register(BioGPTConfig.model_type, BioGPTConfig, exist_ok=True)
AutoModelForCausalLM.register(BioGPTConfig, BioGPTForCausalLM, exist_ok=True)

__all__ = ["BioGPTConfig", "BioGPTForCausalLM", "BioGPTModel"]
