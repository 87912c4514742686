"""What `resprout train` is asked for: the published flags and ours, checked before any work."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from resprout.train.options import Order, Precision, Sharding, one_line


class TrainRequest(BaseModel):
    """A pre-training run; defaults as the published BioGPT was trained."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    data_dir: Path
    out_dir: Path
    model: str = "biogpt-294m"
    revision: str | None = None
    from_scratch: bool = False
    target_tokens: int = Field(default=2_000_000_000, ge=1, le=10**15)
    block_size: int | None = Field(default=None, ge=1, le=2**24)
    batch_size: int = Field(default=4, ge=1, le=2**20)
    grad_accum: int = Field(default=8, ge=1, le=2**20)
    max_lr: float = Field(default=6e-4, gt=0)
    min_lr: float = Field(default=6e-5, ge=0)
    warmup_steps: int = Field(default=500, ge=0, le=10**9)
    weight_decay: float = Field(default=0.1, ge=0)
    grad_clip: float = Field(default=1.0, gt=0)
    order: Order = "shuffle"
    seed: int = Field(default=0, ge=0, lt=2**32)
    soma_ffn_expansion: float | None = Field(default=None, gt=0, lt=1024)  # as `BioGPTConfig`
    n_passes: int | None = Field(default=None, ge=1, le=2)
    init: Literal["published", "scaled"] | None = None
    log_interval: int = Field(default=10, ge=1, le=10**9)
    eval_interval: int = Field(default=500, ge=1, le=10**9)
    eval_tokens: int = Field(default=262_144, ge=0, le=10**15)
    keep_checkpoints: int = Field(default=2, ge=1, le=10**6)
    checkpoint_minutes: float = Field(default=15, gt=0)
    precision: Precision = "auto"
    gradient_checkpointing: Literal["auto", "on", "off"] = "auto"
    compile: bool = False
    sharding: Sharding = "ddp"
    device: str = "auto"
    report_to: tuple[str, ...] = ()
    export_pt: bool = False
    resume: bool = False
    start_over: bool = False
    timing_test: bool = False
    timing_steps: int = Field(default=50, ge=2, le=10**6)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.min_lr > self.max_lr:
            raise ValueError(f"min_lr: got {self.min_lr}, allowed is at most max_lr {self.max_lr}")
        if self.resume and self.start_over:
            raise ValueError("start_over: got it together with resume, allowed is one of them")
        return self


def read_request(values: dict[str, Any]) -> TrainRequest:
    """Check options by their names.

    Raises:
        ValueError: naming the option, the value got and what is allowed.
    """
    try:
        return TrainRequest(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "value_error":  # raised above, and complete
            raise ValueError(str(first["ctx"]["error"])) from error
        raise ValueError(one_line(error)) from error
