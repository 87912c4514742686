"""What a new model's parameters are before training."""

import torch
from torch import nn
from transformers import initialization as init

from .configuration import BioGPTConfig
from .neurons import CorticalLayer, DendriticNeuron


@torch.no_grad()
def start_values(module: nn.Module, config: BioGPTConfig) -> None:
    """Set the parameters that `module` itself owns (those of its parts come by their own call).

    `published`: Xavier uniform for whatever has two or more dimensions, embeddings included;
    biases 0, norm weights 1, neuron and pass weights 0, NMDA decays 0.9 + 0.1 * normal.
    """
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Embedding):
        init.xavier_uniform_(module.weight)
        if getattr(module, "bias", None) is not None:
            init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm | nn.GroupNorm):
        init.ones_(module.weight)
        init.zeros_(module.bias)
    elif isinstance(module, DendriticNeuron):
        init.normal_(module.nmda_decay, mean=0.9, std=0.1)
    elif isinstance(module, CorticalLayer):
        init.zeros_(module.neuron_weights)
    elif getattr(module, "pass_weights", None) is not None:
        init.zeros_(module.pass_weights)
