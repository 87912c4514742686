"""The dendritic layer: neurons made of branches, side by side on one input.

Shapes: B batch, T time, D model width, n branches of a neuron, d their width, W = n * d the
neuron's inner width, which is D unless the layout says otherwise.
The formulas and the parameters' names are those of the published BioGPT program. Every matrix is
applied by calling its module, so hooks, adapters (LoRA) and parametrisations on them take effect.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention import causal_attention
from .configuration import BioGPTConfig
from .layout import Entry, branches_of
from .linear import Linear
from .trace import enrich

# From so many positions on, a CPU convolves faster by its own kernel than by copies and products.
LONG = 32
# Up to so many positions the weights are more than what they are applied to.
SHORT = 8


class BranchConv1d(nn.Conv1d):
    """A grouped convolution over time, (B, C, K - 1 + T) -> (B, C', T), as one product per branch.

    Exactly `nn.Conv1d` in its numbers and parameters. Grouped convolution kernels are slow for one
    tap, for a GPU and for the single position of decoding (where they reorder the weights first).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve; positions before the first have to be in `x`."""
        taps, n, B = self.kernel_size[0], self.groups, x.shape[0]
        T = x.shape[-1] - taps + 1
        if taps > 1 and T >= LONG and x.device.type == "cpu":
            return super().forward(x)
        x = x.unflatten(1, (n, -1))  # (B, n, d, K - 1 + T)
        if taps > 1:
            x = x.unfold(-1, taps, 1).transpose(-1, -2).flatten(2, 3)  # (B, n, d * K, T)
        weight = self.weight.view(n, -1, x.shape[2])  # (n, d', d * K)
        assert self.bias is not None
        if T <= SHORT:
            # Rows times a matrix that is read as it lies, once for the whole batch.
            rows = x.permute(1, 0, 3, 2).reshape(n, B * T, -1)
            rows = torch.baddbmm(self.bias.view(n, 1, -1), rows, weight.transpose(1, 2))
            return rows.view(n, B, T, -1).permute(1, 0, 3, 2).reshape(B, -1, T)
        bias = self.bias.view(n, -1, 1)
        if B > 1:
            weight, bias = weight.repeat(B, 1, 1), bias.repeat(B, 1, 1)
        return torch.baddbmm(bias, weight, x.flatten(0, 1)).view(B, -1, T)


class BranchNorm(nn.GroupNorm):
    """`nn.GroupNorm` over positions as rows, (N, W) -> (N, W), a single row of branches of width 1
    too, such as decoding gives it, which torch refuses.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Norm each row's branches by themselves."""
        if self.num_groups == self.num_channels and input.shape[0] == 1:
            return super().forward(input.expand(2, -1))[:1]
        return super().forward(input)


class DendriticNeuron(nn.Module):
    """One cell, (B, T, D) -> (B, T, D): branches that attend, remember and digest, then a soma."""

    def __init__(self, config: BioGPTConfig, branches: int, branch_width: int):
        super().__init__()
        D, e = config.hidden_size, config.branch_expansion
        W = branches * branch_width
        self.branches, self.branch_width = branches, branch_width
        self.taps = config.conv_kernel_size
        self.nmda = config.nmda == "trace"
        self.qkv = Linear(D, 3 * W, bias=False)
        # One decay per channel; published checkpoints have it also where it is not used.
        self.nmda_decay = nn.Parameter(torch.empty(1, branches, 1, branch_width))
        self.temporal_conv = BranchConv1d(W, W, self.taps, groups=branches)
        self.ff_up = BranchConv1d(W, e * W, 1, groups=branches)
        self.ff_down = BranchConv1d(e * W, W, 1, groups=branches)
        self.branch_norm = BranchNorm(branches, W, eps=config.layer_norm_eps)
        self.soma_proj = Linear(W, D, bias=False)
        self.ln_soma = nn.LayerNorm(D, eps=config.layer_norm_eps)
        self.soma_ffn = nn.Sequential(
            Linear(D, config.soma_width),
            nn.GELU(),
            nn.Dropout(config.dropout),
            Linear(config.soma_width, D),
        )

    def forward(
        self,
        h: Tensor,
        attention_mask: Tensor | None = None,
        token_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        cell: int = 0,
    ) -> Tensor:
        """The soma's output.

        Args:
            h: (B, T, D), the layer's normed input.
            attention_mask: (B or 1, 1, T, S), True = may attend; None = plain causal.
            token_mask: (B, T) boolean, False = padding; None = no padding.
            past_key_values: the cache, read and extended.
            cell: which of the cache's layers belongs to this neuron in this pass.
        """
        B, T, D = h.shape
        W = self.branches * self.branch_width
        past = None if past_key_values is None else past_key_values.layers[cell]
        q, k, v = self.qkv(h).view(B, T, 3, self.branches, -1).permute(2, 0, 3, 1, 4)  # (B,n,T,d)
        if self.nmda:
            if token_mask is not None:
                v = v.masked_fill(~token_mask[:, None, :, None], 0)
            v = enrich(v, self.nmda_decay, None if past is None else past.last_value())
        if past_key_values is not None:
            k, v = past_key_values.update(k, v, cell)
        a = causal_attention(q, k, v, attention_mask)
        a = a.transpose(2, 3).reshape(B, W, T)  # channels, branch-major
        if token_mask is not None:
            # The convolution must see zeros at padding, as it does before the first token.
            a = a.masked_fill(~token_mask[:, None], 0)
        seen = F.pad(a, (self.taps - 1, 0)) if past is None else past.with_conv_inputs(a, self.taps)
        c = a + self.temporal_conv(seen)
        f = self.ff_down(F.gelu(self.ff_up(c)))
        r = (a + f).transpose(1, 2).reshape(B * T, W)  # each position normed by itself
        s = self.soma_proj(self.branch_norm(r)).view(B, T, D)
        return s + self.soma_ffn(self.ln_soma(s))


class CorticalLayer(GradientCheckpointingLayer):
    """`x + sum_i softmax(w)_i * P_i neuron_i(LayerNorm(x))`, (B, T, D) -> (B, T, D)."""

    def __init__(self, config: BioGPTConfig, entries: list[Entry]):
        super().__init__()
        D = config.hidden_size
        self.neuron_weights = nn.Parameter(torch.empty(len(entries)))
        self.ln = nn.LayerNorm(D, eps=config.layer_norm_eps)
        self.neurons = nn.ModuleList(
            DendriticNeuron(config, *branches_of(entry, D)) for entry in entries
        )
        self.neuron_projs = nn.ModuleList(Linear(D, D, bias=False) for _ in entries)

    def forward(
        self,
        x: Tensor,
        attention_mask: Tensor | None = None,
        token_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        first_cell: int = 0,
    ) -> Tensor:
        """Apply the layer; arguments as in `DendriticNeuron.forward`.

        `first_cell` is the cache layer of the first neuron, the others follow.
        """
        h = self.ln(x)
        share = torch.softmax(self.neuron_weights, dim=0)
        for i, (neuron, projection) in enumerate(zip(self.neurons, self.neuron_projs, strict=True)):
            s = neuron(h, attention_mask, token_mask, past_key_values, first_cell + i)
            x = x + share[i] * projection(s)
        return x
