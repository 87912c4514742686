"""Loss over the whole held-out set, in fixed windows, in nats per token and bits per byte."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from transformers import PreTrainedModel

from resprout.data.tokens import Split
from resprout.data.windows import batches, evaluation_windows, stack
from resprout.measure.statistics import mean_interval

EVALUATION_BATCH = 16  # windows per forward pass


def bits_per_byte(nats_per_token: float, tokens_per_byte: float) -> float:
    """nats per token / ln 2 * tokens per byte of the split (Gao et al. 2020, The Pile, 3.1).

    Subjects with different tokenizers can be compared in it.
    """
    return nats_per_token * (tokens_per_byte / math.log(2))


@dataclass(frozen=True)
class WindowLosses:
    """The loss of each held-out window.

    Attributes:
        nats: (W,) summed cross-entropy per window, in nats.
        tokens: (W,) predicted tokens per window.
        tokens_per_byte: of the held-out split as a whole.
    """

    nats: NDArray[np.float64]
    tokens: NDArray[np.int64]
    tokens_per_byte: float

    def summary(self, seed: int) -> dict[str, Any]:
        """The measure as a record holds it.

        The interval is the 95 % percentile bootstrap over windows.
        """
        nats_per_token = float(self.nats.sum() / self.tokens.sum())
        low, high = mean_interval(self.nats, self.tokens, seed=seed)
        return {
            "nats_per_token": nats_per_token,
            "perplexity": _exp(nats_per_token),
            "bits_per_byte": bits_per_byte(nats_per_token, self.tokens_per_byte),
            "ci95": [low, high],
            "bits_per_byte_ci95": [
                bits_per_byte(value, self.tokens_per_byte) for value in (low, high)
            ],
            "perplexity_ci95": [_exp(low), _exp(high)],
            "unit": "nats per token",
            "tokens": int(self.tokens.sum()),
            "windows": len(self.tokens),
            "tokens_per_byte": self.tokens_per_byte,
            "window_tokens": self.tokens.tolist(),
            "window_nats": [round(float(nats), 4) for nats in self.nats],
        }


def _exp(nats: float) -> float | None:
    """Perplexity; None where it is beyond a float (a model worse than any guess)."""
    return math.exp(nats) if nats < 700 else None


@torch.no_grad()  # not inference_mode: FSDP2 gathers weights that training uses again
def window_losses(
    model: PreTrainedModel,
    split: Split,
    window: int,
    batch_windows: int = EVALUATION_BATCH,
    windows: list[tuple[int, int]] | None = None,
) -> WindowLosses:
    """The loss of every window of a split, computed in the model's own precision, summed in fp32.

    Args:
        model: on its device; put in evaluation mode here.
        split: the held-out tokens.
        window: T, predicted tokens per window.
        batch_windows: windows per forward pass; changes speed and memory only.
        windows: (start, predicted) of the windows to take; default all of the split.

    Raises:
        FloatingPointError: a loss is not a number.
    """
    model.eval()
    spans = windows or evaluation_windows(len(split.tokens), window)
    nats = []
    for batch in batches(spans, batch_windows):
        ids = torch.from_numpy(stack(split.tokens, batch)).to(model.device)  # (B, T + 1)
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits.float()  # (B, T, V)
        losses = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        nats.append(losses.view(len(batch), -1).double().sum(-1).cpu().numpy())
    result = WindowLosses(
        nats=np.concatenate(nats),
        tokens=np.array([length for _, length in spans], dtype=np.int64),
        tokens_per_byte=len(split.tokens) / split.text_bytes,
    )
    if not np.isfinite(result.nats).all():
        raise FloatingPointError(
            f"the loss of {int((~np.isfinite(result.nats)).sum())} windows is not finite"
        )
    return result
