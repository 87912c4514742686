"""`recover`: training after a cut, its mask held."""

import tempfile
from pathlib import Path

import torch
from transformers import PreTrainedModel

from resprout.data.tokens import TokenSet
from resprout.pruning.cut import Cut
from resprout.train.options import TrainingOptions
from resprout.train.trainer import TrainingResult, train


def recover(
    model: PreTrainedModel,
    cut: Cut | None,
    tokens: str | Path | TokenSet,
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
        tokens: a prepared folder (`train.bin`, `val.bin`, manifest), or the opened `TokenSet`.
        steps: optimiser steps.
        window: tokens per window; default the model's context, at most 1,024.
        batch_windows: windows per step.
        learning_rate: the highest; cosine to a tenth of it.
        warmup_steps: linear warm-up before that.
        weight_decay: on matrices.
        seed: of the order of the windows.

    Raises:
        ValueError: the folder is not prepared data, the vocabulary does not fit the model, the
            model is not in fp32, or a number is out of range.
        FloatingPointError: the loss became not finite.
    """
    data = tokens if isinstance(tokens, TokenSet) else TokenSet.open(Path(tokens))
    embedding = model.get_input_embeddings()
    rows = int(embedding.weight.shape[0])
    if data.manifest["vocab_size"] > rows:
        raise ValueError(
            f"tokens: their vocabulary has {data.manifest['vocab_size']} entries, "
            f"the model's embedding only {rows}"
        )
    low = next((p.dtype for p in model.parameters() if p.dtype != torch.float32), None)
    if low is not None:
        raise ValueError(f"model: has weights in {low}; recovery needs fp32 (load with dtype=None)")
    limit = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", 1024)
    if window is not None and not 1 <= window <= limit:
        raise ValueError(f"window: got {window}, allowed is 1 to the model's {limit} positions")
    for name, value, least in (("steps", steps, 0), ("batch_windows", batch_windows, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name}: got {value!r}, allowed is a whole number from {least}")
    if not learning_rate > 0:
        raise ValueError(f"learning_rate: got {learning_rate!r}, allowed is a number above 0")
    options = TrainingOptions(
        steps=steps,
        batch_windows=batch_windows,
        learning_rate=learning_rate,
        warmup_steps=warmup_steps,
        weight_decay=weight_decay,
    )
    with tempfile.TemporaryDirectory(prefix="resprout-") as work:
        return train(
            model,
            data,
            window or min(limit, 1024),
            options,
            seed,
            Path(work) / "recovery",
            model.device,
            masks=cut.masks if cut is not None else None,
        )
