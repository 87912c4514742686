"""transformers' Trainer with our loss, our order of windows, our validation and our checkpoints."""

import time
from collections.abc import Sized
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, SequentialSampler
from transformers import PreTrainedModel, Trainer, TrainerControl

from resprout.data.tokens import Tokens
from resprout.data.windows import stack, training_starts
from resprout.files import writing
from resprout.models.loss import LossFunction, choose_loss, logits_loss
from resprout.train.callbacks import FiniteLosses
from resprout.train.checkpoints import WEIGHTS, read_weights, write_weights
from resprout.train.gates import GateLoss
from resprout.train.throughput import Meter
from resprout.train.validation import Validation


class WindowDataset(Dataset[dict[str, Tensor]]):
    """The training windows in their fixed order; item = inputs and targets, (T,) each."""

    def __init__(self, tokens: Tokens, window: int, count: int, seed: int, order: str = "shuffle"):
        self.tokens = tokens
        self.window = window
        self.starts = training_starts(len(tokens), window, count, seed, order)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        ids = torch.from_numpy(stack(self.tokens, [(int(self.starts[index]), self.window)])[0])
        return {"input_ids": ids[:-1], "targets": ids[1:]}


class WindowTrainer(Trainer):
    """The one trainer. What is declared first here is given to it before it starts."""

    finite: FiniteLosses
    control: TrainerControl
    validation: Validation | None = None
    meter: Meter | None = None
    loss_function: LossFunction | None = None

    def compute_loss(
        self,
        model: PreTrainedModel,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The loss it was given, or the shared one: in chunks where the head is a plain product."""
        ids, targets = inputs["input_ids"], inputs["targets"]
        # accelerate puts autocast around the model's own forward only; the loss may go past it.
        with self.accelerator.autocast():
            if self.loss_function is None:
                # Under a wrapper (DDP, compile) only its own forward does what it is there for,
                # and FSDP2 gathers the head's weights only in the whole model's forward.
                plain = model is self.model and not self.is_fsdp_enabled
                self.loss_function = choose_loss(model, ids, targets) if plain else logits_loss
            loss = self.loss_function(model, ids, targets)
        self.finite.note(loss, self.state.global_step + 1)
        return loss

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Matrices and kernels decay; biases, norms and gates (one dimension) do not."""
        return [name for name, parameter in model.named_parameters() if parameter.ndim >= 2]

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Gates that are learned have a learning rate of their own, and no weight decay."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(*args, **kwargs)
        if isinstance(self.loss_function, GateLoss):
            openings = {id(heads.opening): heads.opening for heads in self.loss_function.heads}
            for group in optimizer.param_groups:
                group["params"] = [p for p in group["params"] if id(p) not in openings]
            own = {"weight_decay": 0.0, "lr": self.loss_function.learning_rate}
            optimizer.add_param_group({"params": list(openings.values()), **own})
        return optimizer

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> SequentialSampler:
        return SequentialSampler(cast(Sized, self.train_dataset))

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        if self.args.world_size > 1:
            # DDP waits for a gradient of every parameter, and some get none.
            for parameter in self._unused_parameters():
                parameter.requires_grad_(False)
        prepared = super()._prepare_for_training(*args, **kwargs)
        if self.meter is not None:
            self.meter.start(self.state.global_step)
        return prepared

    def _unused_parameters(self) -> list[nn.Parameter]:
        """Those that the loss does not depend on (such as BioGPT's feedback with one pass)."""
        model = cast(PreTrainedModel, self.model).eval()
        ids = torch.zeros(1, 2, dtype=torch.long, device=self.args.device)
        trained = [p for p in model.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(logits_loss(model, ids, ids), trained, allow_unused=True)
        return [p for p, g in zip(trained, gradients, strict=True) if g is None]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """With what the meter shows."""
        if "loss" in logs and self.meter is not None:
            logs |= self.meter.look(self.state.global_step, self.state.max_steps)
        super().log(logs, start_time)

    # Validation over our fixed windows instead of the Trainer's batches, whose mean of means is
    # off where the last window is shorter.
    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """`eval_loss`, nats per token, and `eval_bits_per_byte`; logged like all figures."""
        assert self.validation is not None
        started = time.perf_counter()
        model = self.model_wrapped if self.is_fsdp_enabled else self.model
        try:
            metrics = self.validation.figures(cast(PreTrainedModel, model), self.is_fsdp_enabled)
        except FloatingPointError as error:
            step = self.state.global_step
            raise FloatingPointError(f"the validation loss is not finite at step {step}") from error
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        if self.meter is not None:
            self.meter.pause(time.perf_counter() - started)
        return metrics

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        started = time.perf_counter()
        with writing(f"the checkpoint of step {self.state.global_step} in {self.args.output_dir}"):
            super()._save_checkpoint(*args, **kwargs)
        if self.meter is not None:
            self.meter.pause(time.perf_counter() - started)

    # A checkpoint's weights are written and read by safetensors alone, strictly. The Trainer's own
    # way writes GPT-NeoX's head under its old name (`embed_out`) and, reading, takes it for a
    # missing key and goes on with random weights.
    def _save(
        self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None
    ) -> None:
        folder = Path(output_dir or str(self.args.output_dir))
        if not self.args.should_save:
            return
        folder.mkdir(parents=True, exist_ok=True)
        if state_dict is None:
            state_dict = cast(PreTrainedModel, self.model).state_dict()
        write_weights(state_dict, folder / WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        path = Path(resume_from_checkpoint) / WEIGHTS
        read_weights(cast(PreTrainedModel, model or self.model), path, self.is_fsdp_enabled)

    def full_state(self) -> dict[str, Tensor]:
        """All weights of a model that is spread over the processes; whole in the first one."""
        state: dict[str, Tensor] = self.accelerator.get_state_dict(self.model)
        return state
