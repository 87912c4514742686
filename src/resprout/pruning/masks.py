"""Masks: booleans per weight, True = kept."""

import torch
from torch import Tensor, nn

Masks = dict[str, Tensor]


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


def both(first: Masks, second: Masks) -> Masks:
    """What both keep; a parameter that one does not name it keeps whole."""
    joined = dict(first)
    for name, mask in second.items():
        joined[name] = first[name].to(mask.device) & mask if name in first else mask
    return joined


def not_empty(masks: Masks) -> Masks:
    """The masks that hold something."""
    return {name: mask for name, mask in masks.items() if not bool(mask.all())}


def zeros(mask: Tensor) -> int:
    """How many are False; of an expanded view only one copy is looked at."""
    narrow = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in mask.stride())
    once = mask[narrow]
    return int((~once).sum()) * (mask.numel() // max(1, once.numel()))
