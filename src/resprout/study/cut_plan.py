"""What one cut is to be: what the user asked for, checked before weights are read."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from resprout.data.calibration import SAMPLES, WINDOW_TOKENS, Calibration, read_calibration
from resprout.data.tokens import TokenSet
from resprout.files import unwritable
from resprout.models.description import skeleton
from resprout.models.device import resolve_device
from resprout.models.positions import position_limit
from resprout.models.quiet import quiet_transformers
from resprout.models.subject import (
    MANIFEST,
    load_configuration,
    load_tokenizer,
    resolve_dtype,
)
from resprout.pruning.adapters import adapter_for
from resprout.pruning.api import check_previous, windows_for
from resprout.pruning.cut import Cut
from resprout.pruning.request import Request, check_not_quantised, read_request
from resprout.pruning.saving import check_new
from resprout.pruning.unit_scores import gates_of
from resprout.train.cycles import check_growing, check_growth
from resprout.train.gradual import check_whole
from resprout.train.recovery import Recovery, check_recovery, recover

Notice = Callable[[str], None]


@dataclass(frozen=True)
class Asked:
    """What the user asked for.

    Attributes:
        model: as `resprout.load` takes it.
        out: the folder to make.
        method: of `resprout.prune`, as all down to `sequential`.
        calibration: a prepared folder or a source of text, of which `samples` windows of `length`
            tokens are drawn.
        tokens: a prepared folder to recover on, in `recover_steps` steps; further arguments of
            `resprout.recover` follow. None = its own default.
        cycles: of cutting and recovering.
        distill: learn from the uncut model too.
        sparse: of `resprout.save`, as `portable`.
        revision: of a Hub model.
        dtype: of the weights that are cut and saved; `auto` = the checkpoint's.
    """

    model: str
    out: Path
    method: str
    amount: float | None = None
    expansion_rate: float | None = None
    cut: str = "mask"
    scope: str | None = None
    round_to: int | None = None
    head_unit: str = "group"
    seed: int = 0
    protocol: str = "fair"
    dead_threshold: float | None = None
    dead_unit: str | None = None
    sequential: bool = False
    calibration: str | None = None
    samples: int = SAMPLES
    length: int = WINDOW_TOKENS
    recover_steps: int | None = None
    tokens: Path | None = None
    learning_rate: float | None = None
    batch_windows: int | None = None
    window: int | None = None
    schedule: str | None = None
    cycles: int | None = None
    distill: bool = False
    temperature: float | None = None
    distillation_weight: float | None = None
    sparse: bool = False
    portable: bool = False
    revision: str | None = None
    device: str = "auto"
    dtype: str = "auto"

    def cut_options(self) -> dict[str, Any]:
        """Those of `read_request`, besides method and amount."""
        names = signature(read_request).parameters.keys() - {"model", "method", "amount"}
        return {name: getattr(self, name) for name in names}

    def recovery_options(self) -> dict[str, Any]:
        """Those of `recover` that were given."""
        names = ("learning_rate", "batch_windows", "window", "temperature", "distillation_weight")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return given | {"seed": self.seed, "work_folder": self.work_folder}

    @property
    def grows(self) -> bool:
        """Whether the cut is made bit by bit while the model trains."""
        return (self.cycles or 1) > 1 or self.schedule not in (None, "one-shot")

    @property
    def work_folder(self) -> Path:
        """Where the checkpoints of a recovery are until the folder is there."""
        out = self.out.resolve()
        return out.with_name(f".{out.name}.work")


@dataclass(frozen=True)
class Plan:
    """A cut that was checked, with all that it needs but the weights."""

    asked: Asked
    before: PreTrainedModel
    request: Request
    previous: Cut | None
    windows: Calibration | None
    recovery: Recovery | None
    tokens: TokenSet | None
    device: torch.device


def plan_cut(asked: Asked, notice: Notice) -> Plan:
    """Check everything on shapes; no weight is read and nothing is written.

    Args:
        asked: what is to be done.
        notice: told what is done otherwise than asked.

    Raises:
        ValueError: naming the option, the value got and what is allowed.
    """
    _check_together(asked)
    check_new(asked.out, "out")
    if (nearest := unwritable(asked.out)) is not None:
        raise ValueError(f"out: {str(asked.out)!r} cannot be written, because of {str(nearest)!r}")
    resolve_dtype(asked.dtype)
    device = resolve_device(asked.device)
    config = load_configuration(asked.model, asked.revision)
    check_not_quantised(config)
    before = skeleton(config).float()
    request = read_request(before, asked.method, asked.amount, **asked.cut_options())
    _check_method(asked, request, before)
    previous = None
    if (Path(asked.model) / MANIFEST).is_file():
        previous = Cut.load(asked.model)
        check_previous(before, previous)
    tokenizer = None
    if request.method.calibrated and asked.calibration is None:
        windows_for(before, request, None, None)  # refuses
    if request.method.calibrated or asked.tokens is not None:
        with quiet_transformers():
            tokenizer = load_tokenizer(asked.model, asked.revision)
    tokens, recovery = _recovery(asked, before, tokenizer)
    windows = _windows(asked, before, request, tokenizer, notice)
    return Plan(asked, before, request, previous, windows, recovery, tokens, device)


def _check_together(asked: Asked) -> None:
    """Refuse options that make no sense together."""
    training = (
        "tokens", "learning_rate", "batch_windows", "window", "schedule", "cycles", "distill",
    )  # fmt: skip
    if asked.recover_steps is None:
        given = [name for name in training if getattr(asked, name) not in (None, False)]
        if given:
            raise ValueError(f"{given[0]}: allowed only with recover_steps, which was not given")
    else:
        check_whole("recover_steps", asked.recover_steps, 1)
        if asked.tokens is None:
            raise ValueError("tokens: missing, recover_steps needs a prepared folder to train on")
        check_growth(asked.schedule or "one-shot", asked.cycles or 1, asked.recover_steps)
    for name in ("temperature", "distillation_weight"):
        if getattr(asked, name) is not None and not asked.distill:
            raise ValueError(f"{name}: allowed only with distill, which was not given")
    if asked.expansion_rate is not None and asked.grows:
        which = "schedule" if (asked.cycles or 1) == 1 else "cycles"
        raise ValueError(f"expansion_rate: not allowed with {which}; give an amount, which grows")
    if asked.sparse and (asked.cut == "remove" or asked.portable):
        other = "portable" if asked.portable else "cut remove"
        raise ValueError(f"sparse: not allowed with {other}; it stores the zeros of a mask")
    if asked.portable and asked.cut != "remove":
        raise ValueError(f"portable: got with cut {asked.cut!r}, allowed only with cut remove")


def _check_method(asked: Asked, request: Request, before: PreTrainedModel) -> None:
    """Refuse options that mean nothing to the method, and a method that has nothing to go by."""
    if request.method.score == "gate":
        adapter = adapter_for(before)
        gates_of(adapter, request.groups(adapter))
    if asked.grows:
        check_growing(request)
    if asked.sequential and request.method.name != "wanda":
        raise ValueError(
            f"sequential: allowed only for wanda, got it with {asked.method} (sparsegpt always is)"
        )
    if asked.head_unit == "query" and "head" not in (request.method.unit, request.dead_unit):
        raise ValueError(f"head_unit: got 'query', but {asked.method} cuts no heads")


def _recovery(
    asked: Asked, before: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None
) -> tuple[TokenSet | None, Recovery | None]:
    """The prepared data opened and compared, and what `recover` would refuse refused."""
    if asked.recover_steps is None or asked.tokens is None:
        return None, None
    tokens = TokenSet.open(asked.tokens)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    name = getattr(tokenizer, "name_or_path", "")
    tokens.check_vocabulary(backend if isinstance(backend, Tokenizer) else None, "tokens", name)
    teacher = copy.deepcopy(before) if asked.distill else None
    # The skeleton stands in for the cut model: no more than its shapes is looked at.
    given = signature(recover).bind(
        before, None, tokens, asked.recover_steps, teacher=teacher, **asked.recovery_options()
    )
    given.apply_defaults()
    return tokens, check_recovery(**given.arguments)


def _windows(
    asked: Asked,
    before: PreTrainedModel,
    request: Request,
    tokenizer: PreTrainedTokenizerBase | None,
    notice: Notice,
) -> Calibration | None:
    """The calibration text that the method needs, read."""
    if not request.method.calibrated:
        if asked.calibration is not None:
            notice(f"calibration: not read, {asked.method} needs none")
        return None
    assert asked.calibration is not None
    limit = position_limit(before.config) or asked.length
    rows = int(before.get_input_embeddings().weight.shape[0])
    length = min(asked.length, limit)
    found = read_calibration(
        asked.calibration, tokenizer, asked.samples, length, asked.seed, vocabulary=rows
    )
    windows = windows_for(before, request, found, tokenizer)
    if limit < asked.length:
        notice(f"calibration: windows of {limit} tokens, the model has no more positions")
    return windows
