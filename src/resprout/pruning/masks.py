"""Masks: booleans per weight, True = kept."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def apply_masks(model: nn.Module, masks: dict[str, Tensor]) -> None:
    """Set what the masks cut to zero, in place. `masks`: parameter name -> True where kept.

    Raises:
        ValueError: a mask names no parameter of the model, or has another shape.
    """
    parameters = dict(model.named_parameters())
    for name, kept in masks.items():
        if name not in parameters:
            raise ValueError(f"masks: {name!r} is not a parameter of {type(model).__name__}")
        parameter = parameters[name]
        if parameter.shape != kept.shape:
            raise ValueError(
                f"masks: {name!r} has shape {tuple(kept.shape)}, "
                f"the parameter has {tuple(parameter.shape)}"
            )
        # Not a product: 0 * -1 is -0 and 0 * NaN is NaN; a cut weight is exactly zero.
        parameter.masked_fill_(~kept.to(parameter.device), 0)
