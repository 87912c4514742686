"""Holding a cut through training: what was cut is zero again after each optimiser step."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback


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


class HoldMasks(TrainerCallback):
    """Re-applies masks after each optimiser step (as llm-compressor does)."""

    def __init__(self, masks: dict[str, Tensor]):
        self.masks = masks

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Bring the masks to the model's device once, so that a step copies nothing."""
        device = next(kwargs["model"].parameters()).device
        self.masks = {name: mask.to(device) for name, mask in self.masks.items()}
        apply_masks(kwargs["model"], self.masks)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Undo whatever the step gave to a cut weight."""
        apply_masks(kwargs["model"], self.masks)
