"""BioGPT's formulas written as plainly as they stand in the publication: neuron by neuron, with
torch's own convolutions and group norm. Slow, and the truth that the fast model is tested against.

It reads the fast model's parameters and shares none of its code.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def neuron(p: dict[str, Tensor], h: Tensor, branches: int) -> Tensor:
    """One neuron's soma output, (B, T, D) -> (B, T, D)."""
    B, T, D = h.shape
    d = D // branches
    q, k, v = (h @ p["qkv.weight"].T).split(D, dim=-1)
    heads = []
    for i in range(branches):
        part = slice(i * d, (i + 1) * d)
        scores = q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(d)
        scores = scores + torch.full((T, T), -torch.inf).triu(1)
        heads.append(scores.softmax(-1) @ v[..., part])
    a = torch.cat(heads, dim=-1)
    channels = a.transpose(1, 2)
    width = p["temporal_conv.weight"].shape[-1]
    conv = F.conv1d(
        F.pad(channels, (width - 1, 0)),
        p["temporal_conv.weight"],
        p["temporal_conv.bias"],
        groups=branches,
    )
    c = channels + conv
    up = F.conv1d(c, p["ff_up.weight"], p["ff_up.bias"], groups=branches)
    f = F.conv1d(F.gelu(up), p["ff_down.weight"], p["ff_down.bias"], groups=branches)
    r = a + f.transpose(1, 2)
    z = F.group_norm(
        r.reshape(B * T, D), branches, p["branch_norm.weight"], p["branch_norm.bias"], eps=1e-5
    ).view(B, T, D)
    s = z @ p["soma_proj.weight"].T
    inner = F.layer_norm(s, (D,), p["ln_soma.weight"], p["ln_soma.bias"])
    inner = F.gelu(F.linear(inner, p["soma_ffn.0.weight"], p["soma_ffn.0.bias"]))
    return s + F.linear(inner, p["soma_ffn.3.weight"], p["soma_ffn.3.bias"])


def layers(p: dict[str, Tensor], x: Tensor, layout: list[list[int]]) -> list[Tensor]:
    """The input and every layer's output."""
    outputs = [x]
    for index, counts in enumerate(layout):
        x = outputs[-1]
        h = F.layer_norm(
            x, x.shape[-1:], p[f"layers.{index}.ln.weight"], p[f"layers.{index}.ln.bias"]
        )
        share = p[f"layers.{index}.neuron_weights"].softmax(0)
        for i, branches in enumerate(counts):
            prefix = f"layers.{index}.neurons.{i}."
            own = {n.removeprefix(prefix): t for n, t in p.items() if n.startswith(prefix)}
            s = neuron(own, h, branches)
            x = x + share[i] * (s @ p[f"layers.{index}.neuron_projs.{i}.weight"].T)
        outputs.append(x)
    return outputs


def logits(state: dict[str, Tensor], ids: Tensor, layout: list[list[int]],
           pairs: list[list[int]]) -> Tensor:  # fmt: skip
    """Logits (B, T, V) of a published state dict; two passes where it has `pass_weights`."""
    p = state
    x = p["token_emb.weight"][ids] + p["pos_emb.weight"][: ids.shape[1]]
    first = layers(p, x, layout)
    out = first[-1]
    if "pass_weights" in p:
        for source, target in pairs:
            f = f"feedback_connections.fb_{source}_to_{target}."
            projected = first[source + 1] @ p[f + "proj.weight"].T
            gate = torch.cat([x, projected], -1) @ p[f + "gate.0.weight"].T + p[f + "gate.0.bias"]
            normed = F.layer_norm(projected, x.shape[-1:], p[f + "ln.weight"], p[f + "ln.bias"])
            x = x + gate.sigmoid() * normed
        share = p["pass_weights"].softmax(0)
        out = share[0] * out + share[1] * layers(p, x, layout)[-1]
    out = F.layer_norm(out, out.shape[-1:], p["ln_f.weight"], p["ln_f.bias"])
    return out @ p["lm_head.weight"].T


def published_names(model: torch.nn.Module) -> dict[str, Tensor]:
    """The model's parameters under the published names."""
    return {name.removeprefix("model."): p.detach() for name, p in model.named_parameters()}
