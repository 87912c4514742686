"""What a forward pass says of its heads: how sharply they look, and whether they pull together.

B windows, T queries, S keys, P observed queries, H query heads, G key heads, K head width,
D model width. Pure functions of tensors.

This file needs torch only: see `modeling_cut`.
"""

import torch
from torch import Tensor

# Of a training step only so many windows and queries of each are looked at: the weights of
# attention cost more than attention.
OBSERVED_WINDOWS = 4
OBSERVED_QUERIES = 8


def observed(T: int, every: bool) -> slice:
    """Which queries are looked at: some or all, but never the first, which has no choice."""
    step = 1 if every else -(-T // OBSERVED_QUERIES)
    return slice(max(1, step - 1), None, step)


def utilisation(
    query: Tensor, key: Tensor, mask: Tensor | None, scaling: float | None, rows: slice
) -> tuple[Tensor, Tensor | None]:
    """(H,) the mean of 1 - entropy / log(keys that the query may see), 0 (all alike) to 1 (one).

    Args:
        query: (B, H, T, K).
        key: (B, G, S, K).
        mask: (B, 1, T, S), boolean or added to the scores; None = causal.
        scaling: of the scores; None = 1 / sqrt(K).
        rows: the queries that are looked at.

    Returns:
        The mean, and (B, 1, P) which queries may see two keys or more; None = all.
    """
    B, H, T, K = query.shape
    G, S = key.shape[1], key.shape[2]
    chosen = query[:, :, rows].float() * (K**-0.5 if scaling is None else scaling)
    P = chosen.shape[2]
    scores = chosen.reshape(B, G, H // G * P, K) @ key.float().transpose(2, 3)
    scores = scores.view(B, H, P, S)
    valid = None
    if mask is None:
        last = torch.arange(S - T, S, device=query.device)[rows]  # (P,) the last key of each
        hidden = torch.arange(S, device=query.device) > last.unsqueeze(1)
        count = last + 1
    else:
        mask = mask[:B, :1, rows, :S]
        hidden = ~mask if mask.dtype == torch.bool else mask <= torch.finfo(mask.dtype).min / 2
        count = S - hidden.sum(-1)  # (B, 1, P)
        valid = count >= 2
        count = count.clamp(min=2)
    # Finite, so that a hidden key adds 0 and not 0 times infinity.
    scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min / 2)
    logs = scores.log_softmax(-1)
    entropy = -(logs.exp() * logs).sum(-1)  # (B, H, P)
    return mean(1 - entropy / count.log(), valid), valid


def alignment(output: Tensor, weight: Tensor, factors: Tensor, valid: Tensor | None) -> Tensor:
    """(H,) the mean of (1 + cosine(c_h, s)) / 2: 0 (against its layer) to 1 (with it).

    c_h is what the output projection makes of head h, s the layer's sum of them as the model uses
    it. Neither is ever held: c_h . s = o_h . (s W_h^T) and |c_h|^2 = o_h W_h W_h^T o_h.

    Args:
        output: (B, P, H, K) of the heads, before their factors.
        weight: (H K, D) of the output projection.
        factors: (H,).
        valid: (B, 1, P) which queries count; None = all.
    """
    B, P, H, K = output.shape
    parts = output.reshape(B * P, H * K)
    total = (output * factors.unsqueeze(1)).reshape(B * P, H * K) @ weight  # (BP, D)
    along = ((total @ weight.T) * parts).view(B, P, H, K).sum(-1)
    by_head = weight.view(H, K, -1)
    gram = by_head @ by_head.transpose(1, 2)  # (H, K, K)
    heads = parts.view(B * P, H, K).transpose(0, 1)  # (H, BP, K)
    square = ((heads @ gram) * heads).sum(-1).T.view(B, P, H)
    length = (square * total.square().sum(-1).view(B, P, 1)).clamp(min=1e-24).sqrt()
    cosine = (along / length).clamp(-1, 1)
    return mean((1 + cosine.transpose(1, 2)) / 2, valid)


def mean(values: Tensor, valid: Tensor | None) -> Tensor:
    """(H,) the mean of (B, H, P) over windows and queries, those that count: (B, 1, P)."""
    if valid is None:
        return values.mean((0, 2))
    count = valid.sum().clamp(min=1)
    return torch.where(valid, values, 0).sum((0, 2)) / count
