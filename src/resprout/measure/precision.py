"""When a loss may be taken in bf16: where that is faster and cannot be told from fp32."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from resprout.measure.loss_options import PRECISIONS, Precision
from resprout.measure.scoring import Window, window_nats
from resprout.models.device import has_fast_bf16

PROBED = 16  # windows computed in both precisions
WORTH_SECONDS = 20  # a set that takes no longer in fp32 is measured exactly
_NORMAL_975 = 1.96


@dataclass(frozen=True)
class Choice:
    """In which precision a loss was computed, and why.

    Attributes:
        precision: `fp32`, `bf16` (autocast over fp32 weights), or the weights' own.
        reason: in words.
        difference: mean of bf16 - fp32 over the probed windows, nats per token; None = not probed.
        bound: 95 % upper bound of its size.
        half_width: of the loss's own 95 % interval, estimated from the probed windows.
        windows: how many were probed.
    """

    precision: str
    reason: str
    difference: float | None = None
    bound: float | None = None
    half_width: float | None = None
    windows: int = 0

    @property
    def autocast(self) -> torch.dtype | None:
        """What the forward pass's products are computed in; None = as they are."""
        return torch.bfloat16 if self.precision == "bf16" else None

    def as_json(self) -> dict[str, Any]:
        """As a record holds it."""
        return asdict(self)


def choose_precision(
    asked: Precision,
    model: PreTrainedModel,
    tokens: NDArray[np.integer],
    windows: Sequence[Window],
    batch_windows: int,
) -> Choice:
    """The precision to compute a loss in.

    `auto` computes 16 windows, spread evenly over the set, in fp32, and where the set would take
    longer than 20 s, in bf16 too. bf16 is taken where it was faster, and where the difference is
    below the half-width of the loss's own interval over all windows, with 95 % certainty.

    Args:
        asked: by the user.
        model: with fp32 weights; others are computed as they are.
        tokens: (n,) the stream.
        windows: all that will be measured.
        batch_windows: see `window_nats`.

    Raises:
        ValueError: not one of the precisions.
    """
    if asked not in PRECISIONS:
        raise ValueError(f"precision: got {asked!r}, allowed are {', '.join(PRECISIONS)}")
    if model.dtype != torch.float32:
        own = str(model.dtype).removeprefix("torch.")
        return Choice(own, f"the weights are {own}")
    if asked != "auto":
        return Choice(asked, "asked for")
    device = model.device
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else has_fast_bf16()
    if device.type not in ("cpu", "cuda") or not fast:
        return Choice("fp32", "this device has no bf16 instructions that are known of")
    if len(windows) < 2 * PROBED:
        return Choice("fp32", f"{len(windows)} windows are too few to gain by bf16")
    places = np.linspace(0, len(windows) - 1, PROBED).round().astype(int)
    probed = [windows[place] for place in places]
    counted = np.array([count for _, _, count in probed])
    plain, plain_seconds = _timed(model, tokens, probed, batch_windows, None)
    whole_seconds = plain_seconds * len(windows) / PROBED
    if whole_seconds < WORTH_SECONDS:
        return Choice("fp32", f"all windows take {whole_seconds:.0f} s")
    rough, rough_seconds = _timed(model, tokens, probed, batch_windows, torch.bfloat16)
    losses, differences = plain / counted, (rough - plain) / counted
    difference = float(differences.mean())
    spread = float(differences.std(ddof=1)) / np.sqrt(PROBED)
    found = {
        "difference": difference,
        "bound": abs(difference) + 2.13 * spread,  # Student's t, 15 degrees of freedom
        "half_width": _NORMAL_975 * float(losses.std(ddof=1)) / np.sqrt(len(windows)),
        "windows": PROBED,
    }
    if rough_seconds >= plain_seconds:
        return Choice("fp32", "bf16 was not faster", **found)
    if found["bound"] >= found["half_width"]:
        return Choice("fp32", "bf16 may differ by more than the interval is wide", **found)
    return Choice("bf16", "faster, and the difference is below the interval", **found)


def _timed(
    model: PreTrainedModel,
    tokens: NDArray[np.integer],
    windows: Sequence[Window],
    batch_windows: int,
    autocast: torch.dtype | None,
) -> tuple[NDArray[np.float64], float]:
    """Nats per window and the seconds they took, after a first window that warms up."""
    window_nats(model, tokens, windows[:1], 1, autocast)
    started = time.perf_counter()
    nats = window_nats(model, tokens, windows, batch_windows, autocast)  # ends on the CPU
    return nats, time.perf_counter() - started
