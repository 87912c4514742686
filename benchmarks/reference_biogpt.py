"""BioGPT's formulas as plainly as they stand in the publication: module by module, neuron by
neuron.

Slow, and the truth: the fast model is tested against it and measured beside it. It shares none of
the fast model's code. Its parameters carry the published names, so one state dict fits both.

Shapes: B batch, T time, D model width, n branches of a neuron, d their width, W = n * d (D unless
the layout has a pair [n, d]), V vocabulary.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Neuron(nn.Module):
    """A dendritic cell: n branches that attend, a soma that gathers them."""

    def __init__(self, D: int, entry: int | list[int], soma_width: int, nmda: bool):
        super().__init__()
        n, d = (entry, D // entry) if isinstance(entry, int) else entry
        W = n * d
        self.n, self.d, self.nmda = n, d, nmda
        self.qkv = nn.Linear(D, 3 * W, bias=False)
        self.nmda_decay = nn.Parameter(0.9 + 0.1 * torch.randn(1, n, 1, d))
        self.temporal_conv = nn.Conv1d(W, W, 5, groups=n)
        self.ff_up = nn.Conv1d(W, 2 * W, 1, groups=n)
        self.ff_down = nn.Conv1d(2 * W, W, 1, groups=n)
        self.branch_norm = nn.GroupNorm(n, W)
        self.soma_proj = nn.Linear(W, D, bias=False)
        self.ln_soma = nn.LayerNorm(D)
        self.soma_ffn = nn.Sequential(
            nn.Linear(D, soma_width), nn.GELU(), nn.Dropout(0.0), nn.Linear(soma_width, D)
        )

    def forward(self, h: Tensor) -> Tensor:
        B, T, D = h.shape
        q, k, v = self.qkv(h).view(B, T, 3, self.n, -1).permute(2, 0, 3, 1, 4)  # (B, n, T, d)
        if self.nmda:
            v = v + trace(v, torch.sigmoid(self.nmda_decay))
        scores = q @ k.transpose(-2, -1) / math.sqrt(self.d)
        later = torch.ones(T, T, dtype=torch.bool, device=h.device).triu(1)
        a = scores.masked_fill(later, -torch.inf).softmax(dim=-1) @ v
        a = a.permute(0, 1, 3, 2).reshape(B, -1, T)  # branch-major channels
        c = a + self.temporal_conv(F.pad(a, (4, 0)))
        f = self.ff_down(F.gelu(self.ff_up(c)))
        r = (a + f).transpose(1, 2).reshape(B * T, -1)
        s = self.soma_proj(self.branch_norm(r)).view(B, T, D)
        return s + self.soma_ffn(self.ln_soma(s))


def trace(v: Tensor, tau: Tensor) -> Tensor:
    """m_t = tau * (m_{t-1} + v_{t-1}), m_0 = 0, step by step. `v`: (B, n, T, d)."""
    steps = [torch.zeros_like(v[:, :, :1])]
    for t in range(v.shape[2] - 1):
        steps.append(tau * (steps[-1] + v[:, :, t : t + 1]))
    return torch.cat(steps, dim=2)


class Layer(nn.Module):
    """A cortical layer: neurons side by side, their projections mixed by a softmax."""

    def __init__(self, D: int, entries: list[int | list[int]], soma_width: int, nmda: bool):
        super().__init__()
        self.ln = nn.LayerNorm(D)
        self.neurons = nn.ModuleList(Neuron(D, entry, soma_width, nmda) for entry in entries)
        self.neuron_projs = nn.ModuleList(nn.Linear(D, D, bias=False) for _ in entries)
        self.neuron_weights = nn.Parameter(torch.zeros(len(entries)))

    def forward(self, x: Tensor) -> Tensor:
        h, share = self.ln(x), self.neuron_weights.softmax(0)
        for i, (neuron, projection) in enumerate(zip(self.neurons, self.neuron_projs, strict=True)):
            x = x + share[i] * projection(neuron(h))
        return x


class Feedback(nn.Module):
    """A late layer's output, gated onto the input."""

    def __init__(self, D: int):
        super().__init__()
        self.proj = nn.Linear(D, D, bias=False)
        self.gate = nn.Sequential(nn.Linear(2 * D, D), nn.Sigmoid())
        self.ln = nn.LayerNorm(D)

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        p = self.proj(source)
        return x + self.gate(torch.cat([x, p], dim=-1)) * self.ln(p)


class PlainBioGPT(nn.Module):
    """Token ids (B, T) -> logits (B, T, V)."""

    def __init__(
        self,
        vocab_size: int,
        width: int,
        layout: list[list[int | list[int]]],
        pairs: list[list[int]],
        positions: int = 1024,
        soma_width: int | None = None,
        passes: int = 1,
        nmda: bool = False,
    ):
        super().__init__()
        self.pairs = pairs
        self.token_emb = nn.Embedding(vocab_size, width)
        self.pos_emb = nn.Embedding(positions, width)
        self.layers = nn.ModuleList(
            Layer(width, entries, soma_width or 3 * width, nmda) for entries in layout
        )
        self.feedback_connections = nn.ModuleDict({f"fb_{s}_to_{t}": Feedback(width)
                                                   for s, t in pairs})  # fmt: skip
        self.pass_weights = nn.Parameter(torch.zeros(2)) if passes == 2 else None
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, vocab_size, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim >= 2 and "nmda_decay" not in name:
                nn.init.xavier_uniform_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def run_layers(self, x: Tensor) -> list[Tensor]:
        """The input and every layer's output, each (B, T, D)."""
        states = [x]
        for layer in self.layers:
            states.append(layer(states[-1]))
        return states

    def forward(self, ids: Tensor) -> Tensor:
        x = self.token_emb(ids) + self.pos_emb(torch.arange(ids.shape[1], device=ids.device))
        states = self.run_layers(x)
        out = states[-1]
        if self.pass_weights is not None:
            for source, target in self.pairs:
                x = self.feedback_connections[f"fb_{source}_to_{target}"](x, states[source + 1])
            share = self.pass_weights.softmax(0)
            out = share[0] * out + share[1] * self.run_layers(x)[-1]
        return self.lm_head(self.ln_f(out))


def plain_copy(model: nn.Module) -> PlainBioGPT:
    """The plain model with the weights of a fast one, whose names must all fit."""
    config = model.config
    plain = PlainBioGPT(
        vocab_size=config.vocab_size,
        width=config.hidden_size,
        layout=config.cortical_layout,
        pairs=config.feedback_pairs,
        positions=config.max_position_embeddings,
        soma_width=config.soma_width,
        passes=config.n_passes,
        nmda=getattr(config, "nmda", "off") == "trace",
    )
    state = {name.removeprefix("model."): value for name, value in model.state_dict().items()}
    plain.load_state_dict(state)
    return plain.train(model.training)
