"""Holding a cut through training: what was cut is zero again after each optimiser step."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import TrainerCallback

from resprout.pruning.masks import fill_zero
from resprout.pruning.packing import pack, unpack

Masks = dict[str, Tensor]
MASKS = "masks.safetensors"


class HoldMasks(TrainerCallback):
    """Re-applies masks after each optimiser step (as llm-compressor does).

    Works on a model that is whole in its process, alone or under DDP, and on one that FSDP2
    spreads over several: each then holds its own part of a mask.

    Attributes:
        masks: parameter name -> boolean tensor of its shape, True = kept; whole in each process.
    """

    def __init__(self, masks: Mapping[str, Tensor]):
        self.masks: Masks = dict(masks)
        self._held: list[tuple[nn.Parameter, Tensor]] = []

    def check(self, model: nn.Module, steps: int, sharded: bool) -> None:
        """Refuse what cannot be held, before training.

        Args:
            model: that will be trained.
            steps: optimiser steps in all.
            sharded: its weights will be spread over processes (FSDP2).

        Raises:
            ValueError: see `check_masks`.
        """
        check_masks(model, self.masks)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Bring the masks to the model's device once, so that a step copies nothing."""
        self._take(kwargs["model"])

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Undo whatever the step gave to a cut weight."""
        self._apply()

    def _take(self, model: nn.Module) -> None:
        """Hold `self.masks` from now on."""
        parameters = _parameters(model)
        self._held = [
            (parameters[name], _own_part(kept, parameters[name]))
            for name, kept in self.masks.items()
            if not bool(kept.all())
        ]
        self._apply()

    @torch.no_grad()
    def _apply(self) -> None:
        for parameter, kept in self._held:
            fill_zero(_local(parameter), kept)


def check_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Refuse masks that do not fit a model.

    Raises:
        ValueError: a mask names no parameter of the model, has another shape or is not boolean.
    """
    parameters = _parameters(model)
    for name, kept in masks.items():
        if name not in parameters:
            raise ValueError(f"masks: {name!r} is not a parameter of {type(model).__name__}")
        if kept.dtype != torch.bool:
            raise ValueError(f"masks: {name!r} is of {kept.dtype}, allowed is torch.bool")
        if parameters[name].shape != kept.shape:
            raise ValueError(
                f"masks: {name!r} has shape {tuple(kept.shape)}, "
                f"the parameter has {tuple(parameters[name].shape)}"
            )


def masks_digest(masks: Mapping[str, Tensor]) -> str:
    """sha256 over masks and their names."""
    total = hashlib.sha256()
    for name, packed in sorted(pack(dict(masks)).items()):
        total.update(name.encode())
        total.update(packed.numpy().tobytes())
    return total.hexdigest()


def write_masks(masks: Mapping[str, Tensor], path: Path) -> None:
    """Write masks, one bit per weight; their shapes are the model's."""
    save_file(pack(dict(masks)), path)


def read_masks(model: nn.Module, path: Path) -> Masks:
    """Read what `write_masks` wrote for this model.

    Raises:
        ValueError: there are no masks, or they are another model's.
    """
    if not path.is_file():
        raise ValueError(f"masks: the checkpoint has no {path.name}; it is of another training")
    parameters, packed = _parameters(model), load_file(path)
    try:
        return unpack(packed, {name: list(parameters[name].shape) for name in packed})
    except (KeyError, ValueError) as error:
        raise ValueError(f"masks: {path} does not fit {type(model).__name__}") from error


def _parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """By their names in the model itself, whatever torch.compile calls them."""
    return {name.replace("_orig_mod.", ""): p for name, p in model.named_parameters()}


def _own_part(tensor: Tensor, like: nn.Parameter) -> Tensor:
    """What of a whole tensor belongs to this process's part of a parameter, on its device."""
    if not isinstance(like, DTensor):
        return tensor.to(like.device)
    # Every process has the whole mask: nothing needs to be sent (src_data_rank=None).
    spread = distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)
    return spread.to_local()


def _local(parameter: nn.Parameter) -> Tensor:
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter
