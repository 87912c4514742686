"""Models in the precision that a study measures them in; they were trained in fp32."""

import copy

import torch
from transformers import PreTrainedModel


def in_precision(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """Turn the weights into another type, in place.

    Buffers stay as they are, as where transformers loads a checkpoint in that type: rotary
    frequencies and the averages of heads lose much in 8 or 11 bits, and take no part in products.
    """
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    return model


def copy_in_precision(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """The model itself where its weights are of that type, else a copy that is."""
    if all(p.dtype == dtype for p in model.parameters() if p.is_floating_point()):
        return model
    return in_precision(copy.deepcopy(model), dtype)
