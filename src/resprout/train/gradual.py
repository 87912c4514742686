"""Gradual cuts: the amount grows along the first part of a training."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn

from resprout.files import writing
from resprout.models.names import MANIFEST
from resprout.pruning.cut import Cut
from resprout.refusals import check_whole
from resprout.train.masks import (
    MASKS,
    HoldMasks,
    Masks,
    check_masks,
    masks_digest,
    read_masks,
    write_masks,
)
from resprout.train.schedules import amount_at, check_amounts, check_schedule

_CUTS_OF_A_RAMP = 20


class GradualMasks(HoldMasks):
    """Cuts again and again along a ramp, on the weights as they are then, and holds each cut.

    After every `every`-th step of the ramp, and after its last, `cut_at` is asked for the masks of
    the amount that `amount_at` says; after the last of exactly `final`. (`one-shot` cuts once,
    before the first step.) What was cut stays cut. Each checkpoint holds the masks of its step,
    so that a resumed training goes on to the bit.

    Args:
        cut_at: (amount, the masks so far) -> masks for the model's weights as they are, which
            cut what was cut before, and more. Called with the model in evaluation mode. Has to
            be deterministic: under DDP each process computes its own, and they are compared.
        schedule: see `amount_at`.
        final: the amount at the end of the ramp.
        ramp_steps: how long it takes; default three quarters of the steps.
        every: steps between two cuts; default a twentieth of the ramp.
        start: the amount that `masks` cut.
        masks: of an earlier cut, which are held from the first step.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        cut_at: Callable[[float, Masks], Mapping[str, Tensor]],
        schedule: str,
        final: float,
        ramp_steps: int | None = None,
        every: int | None = None,
        start: float = 0.0,
        masks: Mapping[str, Tensor] | None = None,
    ):
        super().__init__(masks or {})
        check_schedule(schedule)
        check_amounts(start, final)
        for name, value in (("ramp_steps", ramp_steps), ("every", every)):
            if value is not None:
                check_whole(name, value, 1)
        self.cut_at = cut_at
        self.schedule = schedule
        self.start = start
        self.final = final
        self.ramp_steps = ramp_steps
        self.every = every

    def ramp(self, steps: int) -> tuple[int, int]:
        """(steps of the ramp, steps between two cuts) in a training of so many steps."""
        length = max(1, steps * 3 // 4) if self.ramp_steps is None else self.ramp_steps
        return length, max(1, length // _CUTS_OF_A_RAMP) if self.every is None else self.every

    def check(self, model: nn.Module, steps: int, sharded: bool) -> None:
        """As `HoldMasks.check`.

        Raises:
            ValueError: also for a ramp longer than the training, and under FSDP2, where no
                process has the weights that a cut is computed on.
        """
        super().check(model, steps, sharded)
        length, every = self.ramp(steps)
        if length > steps:
            raise ValueError(f"ramp_steps: got {length}, allowed is at most the {steps} steps")
        if every > length:
            raise ValueError(f"every: got {every}, allowed is at most the {length} of the ramp")
        if sharded:
            raise ValueError(
                f"schedule: got {self.schedule!r} with sharding fsdp; a cut needs whole weights, "
                "allowed is sharding ddp"
            )

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Read a checkpoint's masks where one is resumed; cut where all goes at once."""
        model = kwargs["model"]
        if state.global_step > 0:
            self.read(model, Path(args.output_dir) / f"checkpoint-{state.global_step}")
        self._take(model)
        if state.global_step == 0 and self.schedule == "one-shot":
            self._cut(model, self.final)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Cut where the ramp says so; before the step is validated, logged and saved."""
        step = state.global_step
        length, every = self.ramp(state.max_steps)
        if self.schedule == "one-shot" or step > length or (step % every and step != length):
            return
        amount = amount_at(self.schedule, self.start, self.final, step, length)
        self._cut(kwargs["model"], amount)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Runs before `KeepCheckpoints` marks the checkpoint as complete."""
        if state.is_world_process_zero:
            with writing(f"the checkpoint of step {state.global_step}"):
                self.write(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def write(self, checkpoint: Path) -> None:
        """Put the masks into a checkpoint."""
        write_masks(self.masks, checkpoint / MASKS)

    def read(self, model: nn.Module, checkpoint: Path) -> None:
        """Take the masks of a checkpoint."""
        self.masks = read_masks(model, checkpoint / MASKS)

    def _cut(self, model: nn.Module, amount: float) -> None:
        training = model.training
        model.eval()
        masks = dict(self.cut_at(amount, self.masks))
        model.train(training)
        check_masks(model, masks)
        for name, before in self.masks.items():
            now = masks.get(name)
            back = ~before if now is None else now.to(before.device) & ~before
            if back.any():
                raise ValueError(
                    f"cut_at: at amount {amount:g} {int(back.sum())} weights of {name!r} are back "
                    "that were cut before; allowed are masks that cut these too"
                )
        _check_same_everywhere(masks, amount)
        self.masks = masks
        self._take(model)


class GradualCut(GradualMasks):
    """Gradual masks that come from cuts; `cut` is the latest, and in each checkpoint.

    Args:
        recut: (amount, the cut so far or None) -> the new cut, applied to the model or not.
        cut: an earlier cut to begin with.
        schedule: this and the others as in `GradualMasks`.
        final: the amount at the end.
        ramp_steps: of the ramp.
        every: steps between two cuts.
    """

    def __init__(
        self,
        recut: Callable[[float, Cut | None], Cut],
        cut: Cut | None,
        schedule: str,
        final: float,
        ramp_steps: int | None = None,
        every: int | None = None,
    ):
        start, masks = (cut.requested, cut.masks) if cut is not None else (0.0, {})
        super().__init__(self._cut_again, schedule, final, ramp_steps, every, start, masks)
        self.recut = recut
        self.cut = cut

    def _cut_again(self, amount: float, masks: Masks) -> Masks:
        self.cut = self.recut(amount, self.cut)
        return self.cut.masks

    def write(self, checkpoint: Path) -> None:
        """Put the cut into a checkpoint, where there is one by then."""
        if self.cut is not None:
            self.cut.save(checkpoint)

    def read(self, model: nn.Module, checkpoint: Path) -> None:
        """Take the cut of a checkpoint."""
        if (checkpoint / MANIFEST).is_file():
            self.cut = Cut.load(checkpoint)
            self.masks = dict(self.cut.masks)


def _check_same_everywhere(masks: Masks, amount: float) -> None:
    """Processes with different masks would train different models, and nothing would tell."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    digests: list[str] = [""] * dist.get_world_size()
    dist.all_gather_object(digests, masks_digest(masks))
    if len(set(digests)) > 1:
        raise RuntimeError(f"cut_at: the processes' masks differ at amount {amount:g}")
