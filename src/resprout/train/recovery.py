"""`recover`: training after a cut, its mask held, at once or while the cut grows."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from transformers import PreTrainedModel

from resprout.data.tokens import Tokens, TokenSet
from resprout.models.positions import position_limit
from resprout.pruning.cut import Cut, check_cut
from resprout.refusals import (
    check_flag,
    check_language_model,
    check_one_of,
    check_seed,
    check_whole,
)
from resprout.train.distillation import DistillationLoss
from resprout.train.gates import check_gates, learning_gates
from resprout.train.gradual import GradualCut
from resprout.train.masks import HoldMasks, masks_digest
from resprout.train.options import Precision, TrainingOptions, training_options
from resprout.train.running import Running
from resprout.train.schedules import Schedule, check_schedule
from resprout.train.trainer import TrainingResult, train
from resprout.train.work_folder import ids_digest, weights_digest, work_in

Recut = Callable[[PreTrainedModel, float, Cut | None], Cut]


def recover(
    model: PreTrainedModel,
    cut: Cut | None,
    tokens: str | Path | TokenSet | ArrayLike,
    steps: int,
    *,
    window: int | None = None,
    batch_windows: int = 4,
    learning_rate: float = 1e-4,
    warmup_steps: int = 0,
    weight_decay: float = 0.01,
    seed: int = 0,
    schedule: Schedule = "one-shot",
    amount: float | None = None,
    recut: Recut | None = None,
    ramp_steps: int | None = None,
    every: int | None = None,
    teacher: PreTrainedModel | None = None,
    temperature: float = 2.0,
    distillation_weight: float = 0.5,
    gate_penalty: float | None = None,
    gate_learning_rate: float = 0.05,
    precision: Precision = "auto",
    work_folder: str | Path | None = None,
    checkpoint_every: int | None = None,
    keep_work: bool = False,
) -> TrainingResult:
    """Train a cut model in place; what was cut stays zero to the bit.

    The defaults are the published BioGPT recovery: AdamW at 1e-4, decay 0.01, 4 windows a step.

    Args:
        model: the model that was cut, in fp32.
        cut: what `prune` returned; None trains an uncut model alike (the fair control).
        tokens: a prepared folder (`train.bin`, `val.bin`, manifest), an opened `TokenSet`, or the
            token ids themselves, (n,) integers.
        steps: optimiser steps.
        window: tokens per window; default the model's context, at most 1,024.
        batch_windows: windows per step.
        learning_rate: the highest; cosine to a tenth of it.
        warmup_steps: linear warm-up before that.
        weight_decay: on matrices.
        seed: of the order of the windows.
        schedule: `one-shot` holds `cut` as it is; `linear` and `cubic` let it grow to `amount`
            along the first steps (`gradual.amount_at`).
        amount: at the end of the ramp, at least what `cut` asked for.
        recut: (model, amount, the cut so far or None) -> the cut of that amount, which cuts all
            that was cut before; deterministic.
        ramp_steps: of the ramp; default three quarters of `steps`.
        every: steps between two cuts of the ramp; default a twentieth of it.
        teacher: an uncut model to learn from too (`distillation.DistillationLoss`, which says
            what it costs in memory); not changed, but moved to the model's device.
        temperature: of the distillation, above 0.
        distillation_weight: of its part in the loss, 0 to 1.
        gate_penalty: of a model with agency: its gates are learned too, and open heads cost so many
            nats per token all together (`gates.learning_gates`); heads that close withdraw.
        gate_learning_rate: of these gates.
        precision: of the arithmetic: `auto` (bf16 on a GPU that has it, else fp32), `fp32` or
            `bf16` (autocast); weights stay fp32.
        work_folder: where checkpoints go. The same call on the same model then goes on where a
            killed one was; they are removed when all is done. None: there are none.
        checkpoint_every: steps between them; default a tenth of `steps`.
        keep_work: leave them there at the end too, the last one of the last step. Where the model
            cannot be saved then, the same call repeats nothing; remove them once it is.

    Returns:
        What training did; `cut` of it is what is held now: the one given, or the ramp's last.

    Raises:
        ValueError: the folder is not prepared data, a token lies outside the model's embedding,
            the model is not in fp32, the teacher has another vocabulary, `work_folder` holds
            another recovery, or a number is out of range.
        FloatingPointError: the loss became not finite.
    """
    work = check_recovery(**locals())
    learning: Any = nullcontext(work.loss)
    if gate_penalty is not None:
        learning = learning_gates(model, gate_penalty, gate_learning_rate, work.loss)
    with _work_folder(work) as folder, learning as loss:
        result = train(
            model,
            work.ids,
            work.window,
            work.options,
            int(seed),
            folder,
            model.device,
            masks=work.masks,
            running=Running(precision=precision, keep_work=True),  # `_work_folder` removes it
            loss_function=loss,
        )
    held = work.masks.cut if isinstance(work.masks, GradualCut) else cut
    return replace(result, cut=held)


@dataclass(frozen=True)
class Recovery:
    """A recovery that was checked, ready to be done; `request` says all that determines it."""

    ids: Tokens
    window: int
    options: TrainingOptions
    masks: HoldMasks | None
    loss: DistillationLoss | None
    folder: Path | None
    keep: bool
    request: Callable[[], dict[str, Any]]


def check_recovery(
    model: PreTrainedModel,
    cut: Cut | None,
    tokens: str | Path | TokenSet | ArrayLike,
    steps: int,
    window: int | None,
    batch_windows: int,
    learning_rate: float,
    warmup_steps: int,
    weight_decay: float,
    seed: int,
    schedule: Schedule,
    amount: float | None,
    recut: Recut | None,
    ramp_steps: int | None,
    every: int | None,
    teacher: PreTrainedModel | None,
    temperature: float,
    distillation_weight: float,
    gate_penalty: float | None,
    gate_learning_rate: float,
    precision: Precision,
    work_folder: str | Path | None,
    checkpoint_every: int | None,
    keep_work: bool,
) -> Recovery:
    """Check all that `recover` was given, before anything is done.

    Raises:
        ValueError: as `recover`.
    """
    check_language_model(model)
    check_cut(cut)
    opened = TokenSet.open(Path(tokens)) if isinstance(tokens, str | Path) else tokens
    ids = _token_ids(opened)
    rows = int(model.get_input_embeddings().weight.shape[0])
    if int(ids.max()) >= rows:
        raise ValueError(
            f"tokens: got id {int(ids.max())}, allowed are the model's 0 to {rows - 1}"
        )
    low = next((p.dtype for p in model.parameters() if p.dtype != torch.float32), None)
    if low is not None:
        raise ValueError(f"model: has weights in {low}; recovery needs fp32 (load with dtype=None)")
    limit = position_limit(model.config) or 1024
    if window is not None and not (type(window) is int and 1 <= window <= limit):
        raise ValueError(f"window: got {window!r}, allowed is 1 to the model's {limit} positions")
    check_seed(seed)
    check_one_of("precision", precision, get_args(Precision))
    options = training_options(
        steps=steps,
        batch_windows=batch_windows,
        learning_rate=learning_rate,
        warmup_steps=warmup_steps,
        weight_decay=weight_decay,
    )
    if checkpoint_every is not None:
        check_whole("checkpoint_every", checkpoint_every, 1)
        if work_folder is None:
            raise ValueError("checkpoint_every: needs a work_folder for the checkpoints")
    check_flag("keep_work", keep_work)
    if keep_work and work_folder is None:
        raise ValueError("keep_work: needs a work_folder, which is what is kept")
    if work_folder is not None:
        saved = {"checkpoint_every": checkpoint_every or max(1, steps // 10)}
        options = options.model_copy(update=saved)
    masks = _holder(model, cut, schedule, amount, recut, ramp_steps, every)
    if masks is not None:
        masks.check(model, steps, sharded=False)
    loss = None
    if teacher is not None:
        loss = DistillationLoss(teacher, temperature, distillation_weight)
        loss.check(model)
    if gate_penalty is not None:
        check_gates(model, gate_penalty, gate_learning_rate)
    length = window or min(limit, 1024)

    def request() -> dict[str, Any]:
        return {
            "model": weights_digest(model),
            "tokens": opened.digest if isinstance(opened, TokenSet) else ids_digest(ids),
            "window": length,
            "seed": int(seed),
            "options": options.identity(),
            "precision": precision,
            "cut": None if cut is None else masks_digest(cut.masks),
            "schedule": schedule,
            "amount": None if amount is None else float(amount),
            "ramp": list(masks.ramp(steps)) if isinstance(masks, GradualCut) else None,
            "teacher": None if teacher is None else weights_digest(teacher),
            "distillation": None if loss is None else [loss.temperature, loss.weight],
            "gates": None if gate_penalty is None else [gate_penalty, gate_learning_rate],
        }

    folder = Path(work_folder) if work_folder is not None else None
    return Recovery(ids, length, options, masks, loss, folder, keep_work, request)


def _holder(
    model: PreTrainedModel,
    cut: Cut | None,
    schedule: Schedule,
    amount: float | None,
    recut: Recut | None,
    ramp_steps: int | None,
    every: int | None,
) -> HoldMasks | None:
    """What holds the masks: as they are, or growing along a ramp."""
    check_schedule(schedule)
    ramp = {"amount": amount, "recut": recut, "ramp_steps": ramp_steps, "every": every}
    if schedule == "one-shot":
        given = [name for name, value in ramp.items() if value is not None]
        if given:
            raise ValueError(f"{given[0]}: only a schedule linear or cubic has it, not one-shot")
        return HoldMasks(cut.masks) if cut is not None else None
    if amount is None or recut is None:
        lacking = "amount" if amount is None else "recut"
        raise ValueError(f"schedule: got {schedule!r}, which needs {lacking} too")

    def again(amount: float, before: Cut | None) -> Cut:
        return recut(model, amount, before)

    return GradualCut(again, cut, schedule, amount, ramp_steps, every)


def _token_ids(tokens: TokenSet | ArrayLike) -> Tokens:
    """The training ids of whatever form the tokens came in."""
    if isinstance(tokens, TokenSet):
        return tokens.train.tokens
    if isinstance(tokens, torch.Tensor):
        if tokens.is_meta or tokens.layout != torch.strided:
            raise ValueError("tokens: got a meta or sparse tensor, allowed are ids in memory")
        tokens = tokens.detach().cpu()
        tokens = tokens.float() if tokens.is_floating_point() else tokens  # NumPy has no bf16
    ids = np.asarray(tokens)
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer) or ids.size < 2 or ids.min() < 0:
        raise ValueError(
            f"tokens: got an array of shape {ids.shape} and type {ids.dtype}, "
            "allowed are two or more ids, (n,) integers from 0"
        )
    return ids


@contextmanager
def _work_folder(work: Recovery) -> Iterator[Path]:
    """Where checkpoints go: one's own folder or a temporary one."""
    if work.folder is not None:
        with work_in(work.folder, "recovery", work.request, work.keep) as place:
            yield place
    else:
        with tempfile.TemporaryDirectory(prefix="resprout-") as temporary:
            yield Path(temporary) / "recovery"
