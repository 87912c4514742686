"""The dendritic layer: neurons made of branches, computed together where they share a shape.

Shapes: B batch, T time, D model width, N neurons of the layer, n branches of a neuron,
d = D / n branch width, m neurons of one group (equal n), G = m * n branches of that group.
The formulas are those of the published BioGPT program; each neuron keeps its own parameters
under the published names, and the layer stacks them for the products.
"""

from itertools import groupby
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from resprout.models.biogpt.configuration import BioGPTConfig


class DendriticNeuron(nn.Module):
    """One neuron's parameters; `CorticalLayer` computes all neurons of a layer together."""

    def __init__(self, config: BioGPTConfig, branches: int):
        super().__init__()
        D, e = config.hidden_size, config.branch_expansion
        self.branches = branches
        self.qkv = nn.Linear(D, 3 * D, bias=False)
        # One decay per channel, kept because published checkpoints have it; the published
        # training never used it (its trace was always empty).
        self.nmda_decay = nn.Parameter(torch.empty(1, branches, 1, D // branches))
        self.temporal_conv = nn.Conv1d(D, D, config.conv_kernel_size, groups=branches)
        self.ff_up = nn.Conv1d(D, e * D, 1, groups=branches)
        self.ff_down = nn.Conv1d(e * D, D, 1, groups=branches)
        self.branch_norm = nn.GroupNorm(branches, D, eps=config.layer_norm_eps)
        self.soma_proj = nn.Linear(D, D, bias=False)
        self.ln_soma = nn.LayerNorm(D, eps=config.layer_norm_eps)
        self.soma_ffn = nn.Sequential(
            nn.Linear(D, config.soma_width),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.soma_width, D),
        )


class CorticalLayer(GradientCheckpointingLayer):
    """`x + sum_i softmax(w)_i * P_i neuron_i(LayerNorm(x))`, (B, T, D) -> (B, T, D)."""

    def __init__(self, config: BioGPTConfig, branch_counts: list[int]):
        super().__init__()
        D = config.hidden_size
        self.eps = config.layer_norm_eps
        self.dropout = config.dropout
        self.neuron_weights = nn.Parameter(torch.empty(len(branch_counts)))
        self.ln = nn.LayerNorm(D, eps=config.layer_norm_eps)
        self.neurons = nn.ModuleList(DendriticNeuron(config, count) for count in branch_counts)
        self.neuron_projs = nn.ModuleList(nn.Linear(D, D, bias=False) for _ in branch_counts)
        # Neighbours with as many branches have tensors of one shape: one product for all.
        self.group_sizes = [len(list(run)) for _, run in groupby(branch_counts)]

    def forward(
        self, x: Tensor, attention_mask: Tensor | None = None, token_mask: Tensor | None = None
    ) -> Tensor:
        """Apply the layer.

        Args:
            x: (B, T, D).
            attention_mask: (B, 1, T, T) boolean, True = may attend; None = plain causal.
            token_mask: (B, T) boolean, False = padding; None = no padding.
        """
        h = self.ln(x)
        # All neurons read the same input: one product gives every q, k and v.
        qkv = F.linear(
            h, torch.cat([n.get_parameter("qkv.weight") for n in self.neurons])
        )  # (B,T,N*3D)
        qkv = qkv.unflatten(-1, (len(self.neurons), 3, -1))  # (B, T, N, 3, D)
        somas: list[Tensor] = []
        members = cast(list[DendriticNeuron], list(self.neurons))
        for group_qkv in qkv.split(self.group_sizes, dim=2):
            neurons = members[len(somas) : len(somas) + group_qkv.shape[2]]
            somas += self._group(neurons, group_qkv, attention_mask, token_mask)
        share = torch.softmax(self.neuron_weights, dim=0)
        mixed = torch.cat([share[i] * soma for i, soma in enumerate(somas)], dim=-1)  # (B*T, N*D)
        projection = torch.cat(
            [p.get_parameter("weight") for p in self.neuron_projs], dim=1
        )  # (D, N*D)
        return x + F.linear(mixed, projection).view_as(x)

    def _group(
        self,
        neurons: list[DendriticNeuron],
        qkv: Tensor,
        attention_mask: Tensor | None,
        token_mask: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """Soma outputs of `neurons`, all of n branches; each (B*T, D). `qkv`: (B, T, m, 3, D)."""

        def stacked(name: str) -> Tensor:
            """That parameter of all neurons as one tensor with a leading axis m."""
            own: list[Tensor] = [neuron.get_parameter(name) for neuron in neurons]
            return own[0][None] if len(own) == 1 else torch.stack(own)  # of one: a view, no copy

        B, T, m, _, D = qkv.shape
        n = neurons[0].branches
        G, d = m * n, D // n
        q, k, v = qkv.unflatten(-1, (n, d)).permute(3, 0, 2, 4, 1, 5).flatten(2, 3)  # 3x (B,G,T,d)
        a = F.scaled_dot_product_attention(
            q, k, v, attn_mask=attention_mask, is_causal=attention_mask is None
        )
        if token_mask is not None:
            # The convolution must see zeros at padding, as it does before the first token.
            a = a * token_mask[:, None, :, None].to(a.dtype)

        # c = a + conv(a): each branch mixes its own channels over the last `taps` positions.
        kernel = stacked("temporal_conv.weight").flatten(0, 1)  # (m*D, d, taps)
        bias = stacked("temporal_conv.bias").flatten()
        channels = a.transpose(2, 3).reshape(B, G * d, T)
        taps = kernel.shape[-1]
        mixed = F.conv1d(channels, kernel, bias, padding=taps - 1, groups=G)[..., :T]
        a = a.transpose(0, 1).reshape(G, B * T, d)
        c = a + mixed.unflatten(1, (G, d)).permute(1, 0, 3, 2).reshape(G, B * T, d)

        # f = down(gelu(up(c))): grouped 1x1 convolutions are one product per branch.
        up = stacked("ff_up.weight").view(G, -1, d).transpose(1, 2)
        up_bias = stacked("ff_up.bias").view(G, 1, -1)
        down = stacked("ff_down.weight").view(G, d, -1).transpose(1, 2)
        down_bias = stacked("ff_down.bias").view(G, 1, d)
        f = torch.baddbmm(down_bias, F.gelu(torch.baddbmm(up_bias, c, up)), down)

        # Group norm of r = a + f, every position by itself: a layer norm over each branch.
        z = F.layer_norm(a + f, (d,), eps=self.eps)
        scale = stacked("branch_norm.weight").view(G, 1, d)
        z = z * scale + stacked("branch_norm.bias").view(G, 1, d)
        z = z.view(m, n, B * T, d).transpose(1, 2).reshape(m, B * T, D)

        s = z @ stacked("soma_proj.weight").transpose(1, 2)  # (m, B*T, D)
        inner = F.layer_norm(s, (D,), eps=self.eps)
        inner = inner * stacked("ln_soma.weight")[:, None]
        inner = inner + stacked("ln_soma.bias")[:, None]
        inner = torch.baddbmm(
            stacked("soma_ffn.0.bias")[:, None],
            inner,
            stacked("soma_ffn.0.weight").transpose(1, 2),
        )
        inner = F.dropout(F.gelu(inner), self.dropout, self.training)
        inner = torch.baddbmm(
            stacked("soma_ffn.3.bias")[:, None],
            inner,
            stacked("soma_ffn.3.weight").transpose(1, 2),
        )
        return (s + inner).unbind(0)
