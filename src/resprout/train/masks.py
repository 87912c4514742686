"""Holding a cut through training: what was cut is zero again after each optimiser step."""

from typing import Any

from torch import Tensor
from transformers import TrainerCallback

from resprout.pruning.masks import apply_masks


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
