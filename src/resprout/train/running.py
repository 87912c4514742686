"""How a training is run: nothing here changes what is learned but for rounding."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from transformers import TrainerCallback
from transformers.integrations import get_reporting_integration_callbacks

from resprout.train.options import Precision, Sharding


@dataclass(frozen=True)
class Running:
    """How a training is run.

    Attributes:
        precision: of the arithmetic. `auto`: bf16 autocast on a GPU that has it; fp32 on a CPU,
            whose runs are compared to the bit.
        sharding: under several processes: `ddp` keeps the whole model in each, `fsdp` (FSDP2)
            spreads weights, gradients and moments over them.
        gradient_checkpointing: compute each block's activations again in the backward pass.
        compile: by torch.compile.
        keep_checkpoints: the last so many stay.
        keep_work: leave the checkpoints where they are at the end.
        log_every: steps; 0 = a fiftieth of the run.
        evaluate_every: steps; 0 = never.
        report_to: names of transformers' integrations (`tensorboard`, `trackio`, `wandb`, ...).
        callbacks: of transformers, besides our own.
    """

    precision: Precision = "auto"
    sharding: Sharding = "ddp"
    gradient_checkpointing: bool = False
    compile: bool = False
    keep_checkpoints: int = 2
    keep_work: bool = False
    log_every: int = 0
    evaluate_every: int = 0
    report_to: tuple[str, ...] = ()
    callbacks: tuple[TrainerCallback, ...] = ()

    def bf16(self, device: torch.device) -> bool:
        """Whether products are computed in bf16."""
        if self.precision == "auto":
            return device.type == "cuda" and torch.cuda.is_bf16_supported()
        return self.precision == "bf16"


def check_report_to(names: Iterable[str]) -> None:
    """Refuse an integration that transformers has not, or whose library is not installed.

    Raises:
        ValueError: naming it.
    """
    for name in names:
        try:
            for callback in get_reporting_integration_callbacks([name]):
                callback()
        except (ValueError, RuntimeError, ImportError) as error:
            told = " ".join(str(error).split())
            raise ValueError(f"report_to: got {name!r} ({told})") from error
