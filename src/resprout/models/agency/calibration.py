"""Utilisation, alignment and states from text, without training."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from resprout.models.agency.attachment import heads_of
from resprout.models.positions import position_limit

BATCH_TOKENS = 4096


@torch.no_grad()
def calibrate(model: PreTrainedModel, ids: Tensor) -> PreTrainedModel:
    """Let the heads see text in evaluation mode: averages, violations and states move.

    One step per batch of at most `BATCH_TOKENS` tokens, every query looked at. Weights, gates and
    the model's mode stay as they are.

    Args:
        model: with agency.
        ids: (N, T) token ids, T from 2.

    Returns:
        The model.

    Raises:
        ValueError: no agency; ids of another shape or type, outside the vocabulary, or too long.
    """
    control = heads_of(model)[0].control
    _check_ids(ids)
    rows = int(model.get_input_embeddings().weight.shape[0])
    if not 0 <= int(ids.min()) <= int(ids.max()) < rows:
        raise ValueError(
            f"ids: got {int(ids.min())} to {int(ids.max())}, allowed are the model's 0 to "
            f"{rows - 1}"
        )
    limit = position_limit(model.config)
    if limit is not None and ids.shape[1] > limit:
        raise ValueError(f"ids: got windows of {ids.shape[1]} tokens, allowed are up to {limit}")
    training = model.training
    model.eval()
    control.calibrating = True
    try:
        for batch in ids.split(max(1, BATCH_TOKENS // ids.shape[1])):
            model.base_model(input_ids=batch.to(model.device), use_cache=False)
    finally:
        control.calibrating = False
        model.train(training)
    return model


def _check_ids(ids: Tensor) -> None:
    """Refuse what are no windows of ids, whatever the model."""
    allowed = "allowed is a tensor of whole numbers (N, T), T from 2"
    if not isinstance(ids, Tensor):
        raise ValueError(f"ids: got {type(ids).__name__}, {allowed}")
    if ids.is_meta or ids.layout != torch.strided:
        raise ValueError(f"ids: got one that is {'meta' if ids.is_meta else 'sparse'}, {allowed}")
    whole = not (ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool)
    if not whole or ids.ndim != 2 or not len(ids) or ids.shape[1] < 2:
        raise ValueError(f"ids: got {tuple(ids.shape)} of {ids.dtype}, {allowed}")
