"""`recover`: training after a cut, its mask held."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import ValidationError
from transformers import PreTrainedModel

from resprout.data.tokens import Tokens, TokenSet
from resprout.pruning.cut import Cut
from resprout.train.options import TrainingOptions, one_line
from resprout.train.trainer import TrainingResult, train


def recover(
    model: PreTrainedModel,
    cut: Cut | None,
    tokens: str | Path | TokenSet | ArrayLike,
    steps: int,
    *,
    window: int | None = None,
    batch_windows: int = 4,
    learning_rate: float = 1e-4,
    warmup_steps: int = 0,
    weight_decay: float = 0.01,
    seed: int = 0,
) -> TrainingResult:
    """Train a cut model in place; what was cut stays zero to the bit.

    The defaults are the published BioGPT recovery: AdamW at 1e-4, decay 0.01, 4 windows a step.

    Args:
        model: the model that was cut, in fp32.
        cut: what `prune` returned; None trains an uncut model alike (the fair control).
        tokens: a prepared folder (`train.bin`, `val.bin`, manifest), an opened `TokenSet`, or the
            token ids themselves, (n,) integers.
        steps: optimiser steps.
        window: tokens per window; default the model's context, at most 1,024.
        batch_windows: windows per step.
        learning_rate: the highest; cosine to a tenth of it.
        warmup_steps: linear warm-up before that.
        weight_decay: on matrices.
        seed: of the order of the windows.

    Raises:
        ValueError: the folder is not prepared data, a token lies outside the model's embedding,
            the model is not in fp32, or a number is out of range.
        FloatingPointError: the loss became not finite.
    """
    ids = _token_ids(tokens)
    rows = int(model.get_input_embeddings().weight.shape[0])
    if int(ids.max()) >= rows:
        raise ValueError(
            f"tokens: got id {int(ids.max())}, allowed are the model's 0 to {rows - 1}"
        )
    low = next((p.dtype for p in model.parameters() if p.dtype != torch.float32), None)
    if low is not None:
        raise ValueError(f"model: has weights in {low}; recovery needs fp32 (load with dtype=None)")
    limit = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", 1024)
    if window is not None and not (isinstance(window, int) and 1 <= window <= limit):
        raise ValueError(f"window: got {window}, allowed is 1 to the model's {limit} positions")
    try:
        options = TrainingOptions(
            steps=steps,
            batch_windows=batch_windows,
            learning_rate=learning_rate,
            warmup_steps=warmup_steps,
            weight_decay=weight_decay,
        )
    except ValidationError as error:
        raise ValueError(one_line(error)) from error
    with tempfile.TemporaryDirectory(prefix="resprout-") as work:
        return train(
            model,
            ids,
            window or min(limit, 1024),
            options,
            seed,
            Path(work) / "recovery",
            model.device,
            masks=cut.masks if cut is not None else None,
        )


def _token_ids(tokens: str | Path | TokenSet | ArrayLike) -> Tokens:
    """The training ids of whatever form the tokens came in."""
    if isinstance(tokens, str | Path):
        return TokenSet.open(Path(tokens)).train.tokens
    if isinstance(tokens, TokenSet):
        return tokens.train.tokens
    ids = np.asarray(tokens)
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer) or ids.size < 2 or ids.min() < 0:
        raise ValueError(
            f"tokens: got an array of shape {ids.shape} and type {ids.dtype}, "
            "allowed are two or more ids, (n,) integers from 0"
        )
    return ids
