"""What a training run is: the numbers that, with model, data and seed, determine its outcome."""

from pydantic import BaseModel, ConfigDict, Field


class TrainingOptions(BaseModel):
    """Steps, batch, schedule and optimiser (AdamW; Loshchilov and Hutter 2019).

    The schedule is linear warm-up, then cosine to `min_learning_rate_ratio * learning_rate`.
    """

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, validate_default=True
    )

    steps: int = Field(ge=0, description="optimiser steps")
    batch_windows: int = Field(default=8, ge=1, description="windows per step")
    learning_rate: float = Field(gt=0, description="highest learning rate")
    min_learning_rate_ratio: float = Field(default=0.1, ge=0, le=1)
    warmup_steps: int = Field(default=0, ge=0)
    weight_decay: float = Field(default=0.1, ge=0, description="on matrices only")
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    gradient_clip: float = Field(default=1.0, gt=0, description="largest global gradient norm")
    checkpoint_every: int = Field(default=0, ge=0, description="steps; 0 = none")
