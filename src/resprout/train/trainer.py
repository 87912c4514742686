"""Training on transformers' Trainer: fixed order of windows, masks held, resumable, distributed."""

import contextlib
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from transformers import PreTrainedModel, PrinterCallback, TrainerCallback, TrainingArguments

from resprout.data.tokens import Tokens
from resprout.models.loss import LossFunction
from resprout.models.quiet import quiet_transformers
from resprout.models.spread import refuse_spread
from resprout.pruning.cut import Cut
from resprout.train.callbacks import Bar, FiniteLosses, LogWhenSaving
from resprout.train.checkpoints import KeepCheckpoints, Notice, last_complete, logged
from resprout.train.distillation import DistillationLoss
from resprout.train.gates import GateLoss
from resprout.train.masks import HoldMasks
from resprout.train.memory import freed_memory_kept
from resprout.train.options import TrainingOptions
from resprout.train.processes import process_count
from resprout.train.running import Running
from resprout.train.throughput import Meter
from resprout.train.validation import Validation
from resprout.train.window_trainer import WindowDataset, WindowTrainer

# The last is oneDNN's word for it.
_OUT_OF_MEMORY = (
    "can't allocate memory", "not enough memory", "out of memory", "could not create a primitive",
)  # fmt: skip


@dataclass(frozen=True)
class TrainingResult:
    """What training did.

    Attributes:
        losses: along the way, (step, mean nats per token since the one before).
        tokens: predicted in all, before a resume too.
        seconds: of this process.
        validation: (step, held-out nats per token).
        history: the log with all its figures.
        state: the weights, where the model itself is spread over devices; else None.
        cut: what `recover` held at the end; None where nothing was cut.
    """

    losses: list[tuple[int, float]]
    tokens: int
    seconds: float
    validation: list[tuple[int, float]] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    state: dict[str, Tensor] | None = None
    cut: Cut | None = None


def train(
    model: PreTrainedModel,
    tokens: Tokens,
    window: int,
    options: TrainingOptions,
    seed: int,
    work_folder: Path,
    device: torch.device,
    masks: dict[str, Tensor] | HoldMasks | None = None,
    running: Running | None = None,
    validation: Validation | None = None,
    meter: Meter | None = None,
    notice: Notice = logged,
    loss_function: LossFunction | None = None,
) -> TrainingResult:
    """Train in place.

    Args:
        model: fp32 weights; with bf16 only the arithmetic is (autocast), never the optimiser.
        tokens: (n,) the training split's token ids.
        window: T, tokens predicted per window.
        options: steps, batch, schedule.
        seed: of the order of the data (and of dropout).
        work_folder: where checkpoints go; an unfinished run there is continued. At the end it is
            removed, unless `running.keep_work` leaves that to who writes the result.
        device: where to train.
        masks: parameter name -> boolean tensor, True = kept; the rest stays zero to the bit. Or
            masks that grow (`GradualMasks`).
        running: how it is run; none of it changes what is learned but for rounding.
        validation: taken every `running.evaluate_every` steps and at the end.
        meter: counts tokens per second.
        notice: told of checkpoints that are broken; default the log.
        loss_function: (model, inputs (B, T), targets (B, T)) -> scalar, in place of the shared
            loss; validation stays with that.

    Raises:
        ValueError: the masks do not fit the model, or the loss's teacher does not.
        FloatingPointError: the loss is not finite; the message says at which step.
        MemoryError: the device has too little memory; the message says at which step.
    """
    started = time.perf_counter()
    if options.steps == 0:
        return TrainingResult([], 0, 0.0)
    refuse_spread(model, "training")
    running = running or Running()
    holder = HoldMasks(masks) if isinstance(masks, dict) else masks
    sharded = running.sharding == "fsdp" and process_count() > 1
    if holder is not None:
        holder.check(model, options.steps, sharded)
    if isinstance(loss_function, DistillationLoss):
        loss_function.check(model)
    if isinstance(loss_function, GateLoss):
        loss_function.check(sharded)
    arguments = _arguments(options, seed, work_folder, device, running, validation is not None)
    # The Trainer writes its own into the configuration, which would be saved with the model.
    arguments.use_cache = bool(getattr(model.config, "use_cache", False))
    per_step = options.batch_windows * options.accumulation * arguments.world_size
    dataset = WindowDataset(tokens, window, options.steps * per_step, seed, options.order)
    callbacks: list[TrainerCallback] = [LogWhenSaving(), KeepCheckpoints(running.keep_checkpoints)]
    if holder is not None:
        callbacks.insert(0, holder)  # what it writes into a checkpoint comes before the marker
    if sys.stderr.isatty() and arguments.process_index == 0:
        callbacks.append(Bar())
    finite = FiniteLosses()
    trainer = WindowTrainer(
        model=model,
        args=arguments,
        train_dataset=dataset,
        eval_dataset=dataset if validation is not None else None,  # asked for; `evaluate` is ours
        callbacks=[finite, *callbacks, *running.callbacks],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.finite, trainer.validation, trainer.meter = finite, validation, meter
    trainer.loss_function = loss_function
    memory = freed_memory_kept() if device.type == "cpu" else contextlib.nullcontext(False)
    with memory, quiet_transformers(), _changed(model, running), _memory_told(trainer):
        trainer.train(resume_from_checkpoint=_checkpoint_for_all(work_folder, notice))
        state = trainer.full_state() if trainer.is_fsdp_enabled else None
    history = trainer.state.log_history
    losses, held_out = losses_of(history)
    model.eval()
    if not running.keep_work:
        shutil.rmtree(work_folder, ignore_errors=True)
    return TrainingResult(
        losses=losses,
        tokens=len(dataset) * window,
        seconds=time.perf_counter() - started,
        validation=held_out,
        history=history,
        state=state,
    )


Losses = list[tuple[int, float]]


def losses_of(log: list[dict[str, Any]]) -> tuple[Losses, Losses]:
    """(step, nats per token) in training and in validation, of the Trainer's log."""
    losses = [(entry["step"], entry["loss"]) for entry in log if "loss" in entry]
    return losses, [(entry["step"], entry["eval_loss"]) for entry in log if "eval_loss" in entry]


class _OneDeviceArguments(TrainingArguments):
    """Without the Trainer's own choice to spread a batch over all GPUs that it can see."""

    @property
    def n_gpu(self) -> int:
        """GPUs used by this process: one or none."""
        return min(1, super().n_gpu)


def _arguments(
    options: TrainingOptions,
    seed: int,
    work_folder: Path,
    device: torch.device,
    running: Running,
    validated: bool,
) -> TrainingArguments:
    several = process_count() > 1
    sharding: dict[str, Any] = {}
    if running.sharding == "fsdp" and several:
        sharding = {"fsdp": True, "fsdp_config": {"version": 2}}
    if several and device.type == "cpu":
        sharding["ddp_backend"] = "gloo"
    return _OneDeviceArguments(
        output_dir=str(work_folder),
        max_steps=options.steps,
        per_device_train_batch_size=options.batch_windows,
        gradient_accumulation_steps=options.accumulation,
        learning_rate=options.learning_rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": options.min_learning_rate_ratio},
        warmup_steps=min(options.warmup_steps, options.steps - 1),
        weight_decay=options.weight_decay,
        adam_beta1=options.beta1,
        adam_beta2=options.beta2,
        max_grad_norm=options.gradient_clip,
        optim="adamw_torch_fused",
        bf16=running.bf16(device),
        use_cpu=device.type == "cpu",
        torch_compile=running.compile,
        seed=seed,
        logging_steps=running.log_every or max(1, options.steps // 50),
        logging_nan_inf_filter=False,  # the filter would hide a diverged loss
        eval_strategy="steps" if validated and running.evaluate_every else "no",
        eval_steps=running.evaluate_every or None,
        save_strategy="steps" if options.checkpoint_every else "no",
        save_steps=options.checkpoint_every or 500,
        save_total_limit=None,  # KeepCheckpoints removes the old ones, after the new one is whole
        report_to=list(running.report_to) or "none",
        disable_tqdm=True,  # its bar prints every log line; ours does not
        remove_unused_columns=False,
        dataloader_pin_memory=device.type == "cuda",
        ddp_find_unused_parameters=False,  # WindowTrainer leaves the unused ones out
        **sharding,
    )


def _checkpoint_for_all(folder: Path, notice: Notice) -> str | None:
    """The checkpoint to go on from; looked for (and broken ones cleared) by the first process."""
    if not dist.is_initialized():
        found = last_complete(folder, notice)
        return str(found) if found else None
    box: list[str | None] = [None]
    if dist.get_rank() == 0:
        found = last_complete(folder, notice)
        box = [str(found) if found else None]
    dist.broadcast_object_list(box)
    return box[0]


@contextlib.contextmanager
def _changed(model: PreTrainedModel, running: Running) -> Iterator[None]:
    """Whatever training hangs on the model is taken off in the end.

    That is recomputation, by transformers' own switch under its newer or older name, and the
    autocast around its forward, without which a model trained in bf16 would be measured in bf16.
    """
    before = vars(model).get("forward")
    family = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    if running.gradient_checkpointing:
        getattr(model, f"{family}_checkpointing_enable")()
    try:
        yield
    finally:
        for name in ("forward", "_original_forward"):
            vars(model).pop(name, None)
        if before is not None:
            model.forward = before
        if running.gradient_checkpointing:
            getattr(model, f"{family}_checkpointing_disable")()


@contextlib.contextmanager
def _memory_told(trainer: WindowTrainer) -> Iterator[None]:
    """Every way of running out of memory is a MemoryError that names the step."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        told = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not told and not any(words in str(error) for words in _OUT_OF_MEMORY):
            raise
        step = trainer.state.global_step + 1
        raise MemoryError(f"out of memory on {trainer.args.device} at step {step}") from error
