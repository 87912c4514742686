"""What a new model's parameters are before training."""

import math

import torch
from torch import nn
from transformers import initialization as init

from .configuration import BioGPTConfig
from .neurons import CorticalLayer, DendriticNeuron

# With `scaled` start values a position's attention to itself starts as if it were repeated
# T**SELF_SHARE times; measured by benchmarks/start_values.py (docs/START_VALUES.md).
SELF_SHARE = 1.5


@torch.no_grad()
def start_values(module: nn.Module, config: BioGPTConfig) -> None:
    """Set the parameters that `module` itself owns (those of its parts are set before, by calls).

    `published`: Xavier uniform for whatever has two or more dimensions, embeddings included;
    biases 0, norm weights 1, neuron and pass weights 0, NMDA decays 0.9 + 0.1 * normal.

    `scaled`, the same but for three things (why: docs/START_VALUES.md):
        - positions as small as tokens: both embeddings have the token table's bound;
        - a neuron first attends to the position itself, its only way to see its own token: keys
          start equal to queries, both of such a size that the expected score of a position with
          itself is `SELF_SHARE * ln(max_position_embeddings)`, whatever the branch's width;
        - layers start by adding nothing: neuron projections 0.
    """
    scaled = config.init == "scaled"
    if scaled and isinstance(module, nn.Embedding):
        bound = math.sqrt(6 / (config.vocab_size + config.hidden_size))
        init.uniform_(module.weight, -bound, bound)
    elif isinstance(module, nn.Linear | nn.Conv1d | nn.Embedding):
        init.xavier_uniform_(module.weight)
        if getattr(module, "bias", None) is not None:
            init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm | nn.GroupNorm):
        init.ones_(module.weight)
        init.zeros_(module.bias)
    elif isinstance(module, DendriticNeuron):
        init.normal_(module.nmda_decay, mean=0.9, std=0.1)
        if scaled:
            init.copy_(module.qkv.weight, _own_position_first(module, config))
    elif isinstance(module, CorticalLayer):
        init.zeros_(module.neuron_weights)
        if scaled:
            for projection in module.neuron_projs:
                init.zeros_(projection.weight)
    elif getattr(module, "pass_weights", None) is not None:
        init.zeros_(module.pass_weights)


def _own_position_first(neuron: DendriticNeuron, config: BioGPTConfig) -> torch.Tensor:
    """The (3W, D) matrix of queries, keys and values with keys = queries and their size set.

    On inputs of unit variance Xavier's bound gives each query channel the variance
    var = 2D / (D + 3W), 1/2 where W = D, so a score q.q / sqrt(d) is expected to be
    g^2 var sqrt(d) once queries are g times as large.
    """
    queries, _, values = neuron.qkv.weight.chunk(3)
    D, W = config.hidden_size, neuron.branches * neuron.branch_width
    score = SELF_SHARE * math.log(config.max_position_embeddings)
    inverse_variance = (D + 3 * W) / (2 * D)
    queries = queries * math.sqrt(inverse_variance * score / math.sqrt(neuron.branch_width))
    return torch.cat([queries, queries, values])
