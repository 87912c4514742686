"""The next token of each text of a batch, drawn from random numbers of the text's own.

Shapes: B texts of a batch, N new tokens, V vocabulary.
"""

import hashlib

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor


class Draws(LogitsProcessor):
    """Leaves one token of each text possible: the one that its random numbers draw.

    Args:
        uniforms: (B, N) in [0, 1), one for each new token of each text; None = greedy.
        temperature: above 0 where `uniforms` is given.
        top_k: 0 = all tokens.
    """

    def __init__(self, uniforms: Tensor | None, temperature: float, top_k: int):
        self.uniforms, self.temperature, self.top_k = uniforms, temperature, top_k
        self.step = 0
        self._broken: Tensor | None = None

    @property
    def broken(self) -> bool:
        """Whether a logit was no number; looked at once, since a look waits for a GPU."""
        return self._broken is not None and bool(self._broken)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """`scores` (B, V): the logits of the next token."""
        broken = (scores.isnan() | (scores == torch.inf)).any()
        self._broken = broken if self._broken is None else self._broken | broken
        if self.uniforms is None:
            return scores
        if scores.device.type != "mps":  # which has no float64
            self.uniforms = self.uniforms.to(scores.device)
        tokens = draw(scores, self.uniforms[:, self.step], self.temperature, self.top_k)
        self.step += 1
        only = torch.full_like(scores, -torch.inf)
        return only.scatter_(1, tokens.to(scores.device)[:, None], 0.0)


def draw(logits: Tensor, uniforms: Tensor, temperature: float, top_k: int) -> Tensor:
    """One token for each text, distributed as softmax(logits / temperature) over the top k.

    By inversion of the distribution function in vocabulary order (Devroye 1986, section III.2).
    Tokens as probable as the k-th stay too, as in transformers.

    Args:
        logits: (B, V).
        uniforms: (B,) in [0, 1), float64.
        temperature: above 0.
        top_k: 0 = all.

    Returns:
        (B,) token ids.
    """
    if logits.device.type == "mps":
        logits = logits.cpu()
    scaled = logits.double() / temperature
    V = scaled.shape[-1]
    if 0 < top_k < V:
        least = scaled.topk(top_k).values[:, -1:]
        scaled = scaled.masked_fill(scaled < least, -torch.inf)
    up_to = scaled.softmax(-1).cumsum(-1)  # (B, V)
    # Below the total even after rounding, so that a token without probability is never reached.
    place = uniforms.to(up_to.device).clamp(max=1 - 2.0**-40)[:, None] * up_to[:, -1:]
    found = torch.searchsorted(up_to, place, right=True)[:, 0]
    return found.clamp(max=V - 1)  # beyond it only where a logit is not a number


def uniforms_of(prompt: str, seed: int, new_tokens: int) -> Tensor:
    """(N,) random numbers that belong to a prompt and a seed, the same on every device."""
    key = int.from_bytes(hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest())
    return torch.from_numpy(np.random.default_rng([seed, key]).random(new_tokens))
