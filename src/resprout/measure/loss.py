"""Loss over the whole held-out set, in fixed windows, in nats per token and bits per byte."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from resprout.data.tokens import Split
from resprout.data.windows import evaluation_windows
from resprout.measure.loss_options import EVALUATION_BATCH
from resprout.measure.scoring import window_nats
from resprout.measure.statistics import mean_interval


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
            "perplexity": perplexity(nats_per_token),
            "bits_per_byte": bits_per_byte(nats_per_token, self.tokens_per_byte),
            "ci95": [low, high],
            "bits_per_byte_ci95": [
                bits_per_byte(value, self.tokens_per_byte) for value in (low, high)
            ],
            "perplexity_ci95": [perplexity(low), perplexity(high)],
            "unit": "nats per token",
            "tokens": int(self.tokens.sum()),
            "windows": len(self.tokens),
            "tokens_per_byte": self.tokens_per_byte,
            "window_tokens": self.tokens.tolist(),
            "window_nats": [round(float(nats), 4) for nats in self.nats],
        }


def perplexity(nats: float) -> float | None:
    """exp(nats); None where it is beyond a float (a model worse than any guess)."""
    return math.exp(nats) if nats < 700 else None


def window_losses(
    model: PreTrainedModel,
    split: Split,
    window: int,
    batch_windows: int = EVALUATION_BATCH,
    windows: list[tuple[int, int]] | None = None,
) -> WindowLosses:
    """The loss of every window of a split, computed in the model's own precision, summed in fp64.

    Args:
        model: on its device; put in evaluation mode here.
        split: the held-out tokens.
        window: T, predicted tokens per window.
        batch_windows: windows per forward pass; changes speed and memory only.
        windows: (start, predicted) of the windows to take; default all of the split.

    Raises:
        FloatingPointError: a loss is not a number.
    """
    spans = windows or evaluation_windows(len(split.tokens), window)
    whole = [(start, length, length) for start, length in spans]
    return WindowLosses(
        nats=window_nats(model, split.tokens, whole, batch_windows),
        tokens=np.array([length for _, length in spans], dtype=np.int64),
        tokens_per_byte=len(split.tokens) / split.text_bytes,
    )
