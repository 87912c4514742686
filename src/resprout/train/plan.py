"""A checked request: what will be trained, on which tokens, and how. Nothing is written here."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from resprout.data.tokenizer import same_encoding
from resprout.data.tokens import TokenSet
from resprout.models.cost import Cost, count_cost
from resprout.models.description import parameter_total, skeleton
from resprout.models.device import available_bytes, has_fast_bf16, resolve_device
from resprout.models.identity import shape_identity, weights_identity
from resprout.models.memory_plan import BYTES_PER_PARAMETER, plan_memory
from resprout.models.positions import position_limit
from resprout.models.shapes import training_configuration
from resprout.models.sizes import build
from resprout.models.subject import load_configuration, load_model, load_tokenizer, tokenizer_home
from resprout.train.early import check_block, check_early, check_family, is_new, open_tokens
from resprout.train.options import TrainingOptions
from resprout.train.processes import is_first_process, process_count
from resprout.train.request import TrainRequest
from resprout.train.running import Running, check_report_to
from resprout.train.throughput import TRAINING_FLOPS, Meter, peak_of
from resprout.train.validation import Validation

Say = Callable[[str], None]

LONGEST_BLOCK = 1024  # of the published training, and the default where the model allows it
VOCABULARY_MULTIPLE = 64  # 50,277 tokens become the published 50,304; products like it so


@dataclass(frozen=True)
class Plan:
    """A checked request: what will be trained, on what, and how."""

    request: TrainRequest
    tokens: TokenSet
    config: PreTrainedConfig
    from_weights: bool
    block_size: int
    device: torch.device

    @property
    def world(self) -> int:
        """How many processes train together."""
        return process_count()

    @property
    def windows_per_step(self) -> int:
        """Of all processes together."""
        return self.request.batch_size * self.request.grad_accum * self.world

    @property
    def tokens_per_step(self) -> int:
        """Predicted by all processes together."""
        return self.windows_per_step * self.block_size

    @property
    def precision(self) -> str:
        """Of the arithmetic."""
        return "bf16" if Running(self.request.precision).bf16(self.device) else "fp32"

    @property
    def validation(self) -> Validation:
        """The held-out windows that are looked at while training."""
        return Validation(self.tokens.val, self.block_size, self.request.eval_tokens)

    @property
    def steps(self) -> int:
        """Optimiser steps to the target."""
        return math.ceil(self.request.target_tokens / self.tokens_per_step)

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """All that determines the weights."""
        request = self.request
        same = ("max_lr", "min_lr", "warmup_steps", "weight_decay", "grad_clip", "order", "seed")
        return {
            "tokenizer": self.tokens.tokenizer_digest,
            "data": self.tokens.digest,
            "model": request.model,
            "revision": request.revision,
            "weights": weights_identity(request.model, request.revision)
            if self.from_weights
            else None,
            "target_tokens": request.target_tokens,
            "block_size": self.block_size,
            "windows_per_step": self.windows_per_step,
            **{name: getattr(request, name) for name in same},
            "precision": self.precision,
            "shape": json.loads(json.dumps(shape_identity(self.config))),  # as it is read back
        }

    @cached_property
    def shapes(self) -> PreTrainedModel:
        """The model without memory, to count on."""
        return skeleton(self.config)

    @cached_property
    def cost(self) -> Cost | None:
        """Operations and activations; None where they cannot be counted on shapes alone."""
        try:
            return count_cost(self.shapes, self.block_size)
        except ValueError:
            return None

    def options(self, steps: int | None = None, checkpoint_every: int = 0) -> TrainingOptions:
        """The trainer's numbers."""
        request = self.request
        return TrainingOptions(
            steps=steps or self.steps,
            batch_windows=request.batch_size,
            accumulation=request.grad_accum,
            order=request.order,
            learning_rate=request.max_lr,
            min_learning_rate_ratio=request.min_lr / request.max_lr,
            warmup_steps=request.warmup_steps,
            weight_decay=request.weight_decay,
            gradient_clip=request.grad_clip,
            checkpoint_every=checkpoint_every,
        )

    def build(self) -> PreTrainedModel:
        """The model at its start."""
        if self.from_weights:
            return load_model(self.request.model, self.request.revision).train()
        return build(self.config, self.request.seed)

    def meter(self) -> Meter | None:
        """Tokens per second, and MFU; of the first process."""
        if not is_first_process():
            return None
        flops = TRAINING_FLOPS * self.cost.flops_per_token if self.cost else None
        peak = peak_of(self.device, self.precision).times(self.world)
        return Meter(self.tokens_per_step, flops, peak)

    def running(self, notice: Say, keep_work: bool = False) -> Running:
        """How it is run; says what was decided for the user."""
        request = self.request
        if request.precision == "auto" and self.device.type == "cpu" and has_fast_bf16():
            notice("training in fp32; this CPU has bf16 instructions: --precision bf16 is faster")
        if request.sharding == "fsdp" and self.world == 1:
            notice("one process has nothing to share: start several, with torchrun or accelerate")
        recompute = request.gradient_checkpointing == "on"
        if request.gradient_checkpointing == "auto":
            recompute = self._demands_checkpointing(notice)
        return Running(
            precision=request.precision,
            sharding=request.sharding,
            gradient_checkpointing=recompute,
            compile=request.compile,
            keep_checkpoints=request.keep_checkpoints,
            keep_work=keep_work,
            log_every=request.log_interval,
            evaluate_every=request.eval_interval,
            report_to=request.report_to,
        )

    def _demands_checkpointing(self, notice: Say) -> bool:
        """Whether training would not fit otherwise, as far as can be counted."""
        room = available_bytes(self.device)
        try:
            needed = self._needed_bytes()
        except ValueError:
            return False
        if room is None or needed <= room:
            return False
        notice(
            f"gradient checkpointing is on: without it training needs about {needed / 1e9:.1f} GB, "
            f"and {room / 1e9:.1f} GB are free on {self.device}"
        )
        return True

    def _needed_bytes(self) -> int:
        """Of one process, without checkpointing. ValueError where it cannot be counted."""
        batch = self.request.batch_size
        if self.precision == "bf16":
            plan = plan_memory(self.shapes, self.world, batch, self.block_size)
            return plan.total(self.request.sharding == "fsdp", False)
        if self.cost is None:
            raise ValueError("not countable")
        kept = batch * self.cost.activation_bytes
        return BYTES_PER_PARAMETER * parameter_total(self.shapes) + kept


def make_plan(request: TrainRequest) -> Plan:
    """Check all that can be checked without training.

    Raises:
        ValueError: naming the option, the value got and what is allowed.
    """
    check_early(request)
    tokens = open_tokens(request.data_dir)
    device = resolve_device(request.device)
    check_report_to(request.report_to)
    if request.precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ValueError("precision: got 'bf16', this GPU has none; allowed are auto and fp32")
    config, from_weights = _shape(request, tokens)
    check_family(request, config.model_type)
    limit = position_limit(config)
    block_size = request.block_size or min(limit or LONGEST_BLOCK, LONGEST_BLOCK)
    check_block(request, limit)
    found = len(tokens.train.tokens)
    if block_size >= found:
        raise ValueError(
            f"block_size: got {block_size}, allowed is less than the {found:,} training tokens of "
            f"{str(request.data_dir)!r}"
        )
    return Plan(request, tokens, config, from_weights, block_size, device)


def _shape(request: TrainRequest, tokens: TokenSet) -> tuple[PreTrainedConfig, bool]:
    """The configuration, and whether training starts from a trained model's weights."""
    vocabulary = int(tokens.manifest["vocab_size"])
    changes = {
        "n_passes": request.n_passes,
        "soma_ffn_expansion": request.soma_ffn_expansion,
        "init": request.init,
    }
    changes = {name: value for name, value in changes.items() if value is not None}
    if is_new(request):
        rounded = -(-vocabulary // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
        end = int(tokens.manifest["end_of_text"])
        return training_configuration(
            request.model, rounded, request.revision, end_of_text=end, **changes
        ), False
    try:
        config = load_configuration(request.model, request.revision)
    except ValueError as error:
        raise ValueError(f"model: {str(error).removeprefix('subject: ')}") from error
    rows = int(config.get_text_config(decoder=True).vocab_size)
    if vocabulary > rows:
        raise ValueError(
            f"data_dir: its tokens go up to {vocabulary - 1:,}, but {request.model!r} knows only "
            f"{rows:,}: it was prepared with another tokenizer"
        )
    _check_tokenizer(request, tokens)
    return config, True


def _check_tokenizer(request: TrainRequest, tokens: TokenSet) -> None:
    """Refuse data in another tokenizer's tokens; a model without one is taken at its word."""
    backend = getattr(load_tokenizer(request.model, request.revision), "backend_tokenizer", None)
    if backend is not None and not same_encoding(backend, tokens.tokenizer()):
        home = tokenizer_home(request.model)
        raise ValueError(
            f"data_dir: {str(request.data_dir)!r} was prepared with another tokenizer than "
            f"{request.model!r} has; allowed is data prepared with --tokenizer {home}"
        )
