"""Gated feedback from a late layer to the input of the second pass."""

import torch
from torch import Tensor, nn

from .configuration import BioGPTConfig
from .linear import Linear


class FeedbackConnection(nn.Module):
    """Gated feedback: `x0 + sigmoid(G [x0 ; P o]) * LayerNorm(P o)`, all (B, T, D)."""

    def __init__(self, config: BioGPTConfig):
        super().__init__()
        D = config.hidden_size
        self.proj = Linear(D, D, bias=False)
        self.gate = nn.Sequential(Linear(2 * D, D), nn.Sigmoid())
        self.ln = nn.LayerNorm(D, eps=config.layer_norm_eps)

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        """Enrich the embedding-level input `x` by a late layer's output `source`."""
        projected = self.proj(source)
        return x + self.gate(torch.cat([x, projected], dim=-1)) * self.ln(projected)
