"""Small BioGPTs for tests, with every parameter moved from its start value."""

import torch

from resprout.models.biogpt import BioGPTConfig, BioGPTForCausalLM
from resprout.models.sizes import build

# Every way in which the model can run.
MODES = {
    "published": {},
    "trace": {"nmda": "trace"},
    "two passes": {"n_passes": 2},
    "trace, two passes": {"nmda": "trace", "n_passes": 2},
}


def tiny(**changes) -> BioGPTForCausalLM:
    """Six layers of width 48 over 61 tokens and 32 positions, in evaluation mode."""
    shape = {"vocab_size": 61, "hidden_size": 48, "num_hidden_layers": 6,
             "max_position_embeddings": 32}  # fmt: skip
    model = build(BioGPTConfig(**(shape | changes)), seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():  # start values leave much at 0 and 1: move everything
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model
