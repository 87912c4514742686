"""What a training run is: the numbers that, with model, data and seed, determine its outcome."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from resprout.refusals import is_number

Order = Literal["shuffle", "random"]
Precision = Literal["auto", "bf16", "fp32"]
Sharding = Literal["ddp", "fsdp"]


class SharedTraining(BaseModel):
    """All of a training run but its learning rate, which each grown subject has of its own."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    steps: int = Field(ge=0, le=10**9, description="optimiser steps")
    batch_windows: int = Field(
        default=8, ge=1, le=2**20, description="windows per forward pass and process"
    )
    accumulation: int = Field(
        default=1, ge=1, le=2**20, description="forward passes per optimiser step"
    )
    order: Order = Field(
        default="shuffle",
        description="each window once per epoch, or (as published) windows that start anywhere",
    )
    warmup_steps: int = Field(default=0, ge=0, le=10**9, description="steps of linear warm-up")
    min_learning_rate_ratio: float = Field(
        default=0.1, ge=0, le=1, description="what the schedule falls to"
    )
    weight_decay: float = Field(default=0.1, ge=0, description="on matrices only")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="of AdamW")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="of AdamW")
    gradient_clip: float = Field(default=1.0, gt=0, description="largest global gradient norm")
    checkpoint_every: int = Field(
        default=0, ge=0, le=10**9, description="steps; 0 = no checkpoints"
    )


class TrainingOptions(SharedTraining):
    """Steps, batch, schedule and optimiser (AdamW; Loshchilov and Hutter 2019).

    The schedule is linear warm-up to `learning_rate`, then cosine to `min_learning_rate_ratio`
    times it.
    """

    learning_rate: float = Field(gt=0, description="the highest learning rate")

    def identity(self) -> dict[str, float | str]:
        """What determines the result: all but how often checkpoints are written."""
        return self.model_dump(exclude={"checkpoint_every"})


def training_options(**numbers: Any) -> TrainingOptions:
    """The options of those numbers; those not given have their defaults.

    Raises:
        ValueError: one that is out of range, in one line.
    """
    try:
        return TrainingOptions(**numbers)
    except ValidationError as error:
        raise ValueError(one_line(error)) from error


def check_distillation(temperature: float, weight: float) -> None:
    """Refuse numbers of a distillation that are out of range.

    Raises:
        ValueError: a temperature that is not above 0, a weight that is not from 0 to 1.
    """
    if not is_number(temperature) or not temperature > 0:
        raise ValueError(f"temperature: got {temperature!r}, allowed is a number above 0")
    if not is_number(weight) or not 0 <= weight <= 1:
        raise ValueError(f"distillation_weight: got {weight!r}, allowed is 0 to 1")


def one_line(error: ValidationError) -> str:
    """The first thing wrong with options: the field, the value got and what is allowed."""
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    allowed = first["msg"].removeprefix("Input should be ")
    return f"{field}: got {first['input']!r}, allowed is {allowed}"
