"""What goes along with a training: progress to be seen, and a stop where it makes no sense."""

import datetime
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import TrainerCallback


class LogWhenSaving(TrainerCallback):
    """Each checkpoint ends an interval of the log, so that a resumed run logs the same means."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Runs after the Trainer's own callback, which decides when to save."""
        if control.should_save or control.should_evaluate:
            control.should_log = True


class SaveByTime(TrainerCallback):
    """A checkpoint every so often, however slow the steps are. For one process."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.last = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask for one when it is time."""
        if time.monotonic() - self.last >= self.seconds:
            control.should_save = control.should_log = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Any checkpoint counts."""
        self.last = time.monotonic()


class AfterValidation(TrainerCallback):
    """Gives the log so far to a function, in the first process."""

    def __init__(self, do: Callable[[list[dict[str, Any]]], None]):
        self.do = do

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called when the figures are in the log."""
        if state.is_world_process_zero:
            self.do(state.log_history)


class FiniteLosses(TrainerCallback):
    """A loss or gradient that is not finite ends the run: nothing after it would mean anything.

    Each forward pass notes on the device whether its loss is finite; the note is read when the
    step is logged or saved, so that no step waits for the device, and before a checkpoint is
    written.
    """

    def __init__(self) -> None:
        self.first_bad: Tensor | None = None

    def note(self, loss: Tensor, step: int) -> None:
        """Remember the first step whose loss is not finite."""
        if self.first_bad is None:
            self.first_bad = torch.full((), -1, dtype=torch.long, device=loss.device)
        bad = (self.first_bad < 0) & ~torch.isfinite(loss.detach())
        self.first_bad = torch.where(bad, step, self.first_bad)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Logging comes before validation and saving."""
        if self.first_bad is not None and int(self.first_bad) >= 0:
            raise FloatingPointError(f"the training loss is not finite at step {self.first_bad}")
        norm = (logs or {}).get("grad_norm")
        if norm is not None and not math.isfinite(norm):
            raise FloatingPointError(f"the gradient is not finite at step {state.global_step}")


class Bar(TrainerCallback):
    """One line on a terminal: steps, loss, tokens per second, MFU and time left."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open it where a resumed run goes on."""
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, unit="step", leave=False)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move it."""
        self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Put the latest figures behind it."""
        if "loss" in (logs or {}):
            self.bar.set_postfix_str(_figures(logs), refresh=False)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close it."""
        self.bar.close()


class Lines(TrainerCallback):
    """A line per validation and, for logs and pipes, per logged step."""

    def __init__(self, say: Callable[[str], None], steps: bool):
        self.say = say
        self.steps = steps

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Called for training figures and for validation alike."""
        if not state.is_world_process_zero or not logs:
            return
        step = f"step {state.global_step:,}/{state.max_steps:,}"
        if "loss" in logs and self.steps:
            left = logs.get("seconds_left")
            ends = f"  left {datetime.timedelta(seconds=round(left))}" if left is not None else ""
            rate = f"  lr {logs['learning_rate']:.2e}"
            self.say(f"{step}  {_figures(logs)}{rate}{ends}")
        elif "eval_loss" in logs:
            self.say(
                f"{step}  validation {logs['eval_loss']:.4f} nats per token, "
                f"{logs['eval_bits_per_byte']:.4f} bits per byte"
            )


def _figures(logs: dict[str, float]) -> str:
    parts = [f"loss {logs['loss']:.4f}"]
    if "tokens_per_second" in logs:
        parts.append(f"{logs['tokens_per_second']:,.0f} tokens/s")
    if "mfu" in logs:
        parts.append(f"MFU {logs['mfu']:.0%}")
    return "  ".join(parts)
