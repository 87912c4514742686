"""Training on transformers' Trainer: fixed order of windows, masks held, resumable."""

import shutil
import sys
import time
from collections.abc import Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.utils.data import Dataset, SequentialSampler
from tqdm import tqdm
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from resprout.data.tokens import Tokens
from resprout.data.windows import stack, training_starts
from resprout.files import write_text
from resprout.models.loss import LossFunction, choose_loss, logits_loss
from resprout.models.quiet import quiet_transformers
from resprout.train.masks import HoldMasks
from resprout.train.memory import give_back_freed_memory, keep_freed_memory
from resprout.train.options import TrainingOptions

WEIGHTS = "weights.safetensors"
COMPLETE = "complete"  # marker file: a checkpoint without it was being written when the run died


@dataclass(frozen=True)
class TrainingResult:
    """What training did: the loss along the way, (step, nats per token), tokens and time."""

    losses: list[tuple[int, float]]
    tokens: int
    seconds: float


class WindowDataset(Dataset[dict[str, Tensor]]):
    """The training windows in their fixed order; item = inputs and targets, (T,) each."""

    def __init__(self, tokens: Tokens, window: int, count: int, seed: int):
        self.tokens = tokens
        self.window = window
        self.starts = training_starts(len(tokens), window, count, seed)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        ids = torch.from_numpy(stack(self.tokens, [(int(self.starts[index]), self.window)])[0])
        return {"input_ids": ids[:-1], "targets": ids[1:]}


class WindowTrainer(Trainer):
    """transformers' Trainer with our loss, our order and weight decay on matrices only."""

    loss_function: LossFunction | None = None

    def compute_loss(
        self,
        model: PreTrainedModel,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The shared loss; the chunked one where it equals the model's own logits."""
        ids, targets = inputs["input_ids"], inputs["targets"]
        # accelerate puts autocast around the model's own forward only; the loss may go past it.
        with self.accelerator.autocast():
            if self.loss_function is None:
                # Under a wrapper such as DDP gradients are shared only through its own forward.
                plain = model is self.model
                self.loss_function = choose_loss(model, ids, targets) if plain else logits_loss
            return self.loss_function(model, ids, targets)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Matrices and kernels decay; biases, norms and gates (one dimension) do not."""
        return [name for name, parameter in model.named_parameters() if parameter.ndim >= 2]

    # A checkpoint's weights are written and read by safetensors alone, strictly. The Trainer's own
    # way writes GPT-NeoX's head under its old name (`embed_out`) and, reading, takes it for a
    # missing key and goes on with random weights.
    def _save(
        self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None
    ) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_model(self.model, str(folder / WEIGHTS))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_model(self.model, Path(resume_from_checkpoint) / WEIGHTS, strict=True)

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> SequentialSampler:
        return SequentialSampler(cast(Sized, self.train_dataset))


class _OneDeviceArguments(TrainingArguments):
    """Without the Trainer's own choice to spread a batch over all GPUs that it can see."""

    @property
    def n_gpu(self) -> int:
        """GPUs used by this process: one or none."""
        return min(1, super().n_gpu)


class _MarkComplete(TrainerCallback):
    """Marks each checkpoint when all of it is on disk."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        write_text(Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE, "")


class _Bar(TrainerCallback):
    """One line on a terminal: steps with rate and time left, and the latest loss."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, unit="step", leave=False)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "loss" in (logs or {}):
            self.bar.set_postfix_str(f"loss {logs['loss']:.3f}", refresh=False)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.close()


class _StopWhenNotFinite(TrainerCallback):
    """A loss that is not a number ends the run: nothing after it would mean anything."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        loss = (logs or {}).get("loss")
        if loss is not None and not torch.isfinite(torch.tensor(float(loss))):
            raise FloatingPointError(f"training loss is {loss} at step {state.global_step}")


def train(
    model: PreTrainedModel,
    tokens: Tokens,
    window: int,
    options: TrainingOptions,
    seed: int,
    work_folder: Path,
    device: torch.device,
    masks: dict[str, Tensor] | None = None,
) -> TrainingResult:
    """Train in place.

    Args:
        model: fp32 weights; bf16 autocast is used on CUDA, never a bf16 optimiser.
        tokens: (n,) the training split's token ids.
        window: T, tokens predicted per window.
        options: steps, batch, schedule.
        seed: of the order of the data (and of dropout).
        work_folder: where checkpoints go; an unfinished run there is continued, and it is
            removed at the end.
        device: where to train.
        masks: parameter name -> boolean tensor, True = kept; the rest stays zero to the bit.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    started = time.perf_counter()
    if options.steps == 0:
        return TrainingResult([], 0, 0.0)
    dataset = WindowDataset(tokens, window, options.steps * options.batch_windows, seed)
    arguments = _OneDeviceArguments(
        output_dir=str(work_folder),
        max_steps=options.steps,
        per_device_train_batch_size=options.batch_windows,
        learning_rate=options.learning_rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": options.min_learning_rate_ratio},
        warmup_steps=min(options.warmup_steps, options.steps - 1),
        weight_decay=options.weight_decay,
        adam_beta1=options.beta1,
        adam_beta2=options.beta2,
        max_grad_norm=options.gradient_clip,
        optim="adamw_torch_fused",
        bf16=device.type == "cuda" and torch.cuda.is_bf16_supported(),
        use_cpu=device.type == "cpu",
        seed=seed,
        logging_steps=max(1, options.steps // 50),
        logging_nan_inf_filter=False,  # the filter would hide a diverged loss
        save_strategy="steps" if options.checkpoint_every else "no",
        save_steps=options.checkpoint_every or 500,
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,  # its bar prints every log line; ours is below
        remove_unused_columns=False,
        dataloader_pin_memory=device.type == "cuda",
    )
    callbacks: list[TrainerCallback] = [_MarkComplete(), _StopWhenNotFinite()]
    if masks is not None:
        callbacks.append(HoldMasks(masks))
    if sys.stderr.isatty():
        callbacks.append(_Bar())
    trainer = WindowTrainer(model=model, args=arguments, train_dataset=dataset, callbacks=callbacks)
    trainer.remove_callback(PrinterCallback)
    if device.type == "cpu":
        keep_freed_memory()
    with quiet_transformers():
        trainer.train(resume_from_checkpoint=_last_complete_checkpoint(work_folder))
    if device.type == "cpu":
        give_back_freed_memory()
    losses = [(e["step"], e["loss"]) for e in trainer.state.log_history if "loss" in e]
    model.eval()
    shutil.rmtree(work_folder, ignore_errors=True)
    return TrainingResult(losses, len(dataset) * window, time.perf_counter() - started)


def _last_complete_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint with its marker; one without (killed while writing) is removed."""
    found = []
    for checkpoint in folder.glob("checkpoint-*"):
        if (checkpoint / COMPLETE).is_file():
            found.append((int(checkpoint.name.rpartition("-")[2]), str(checkpoint)))
        else:
            shutil.rmtree(checkpoint)
    return max(found)[1] if found else None
