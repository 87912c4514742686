"""What one cut is to be: what the user asked for, checked before weights are read."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from resprout.data.calibration import Calibration, read_calibration
from resprout.data.tokens import TokenSet
from resprout.models.description import skeleton
from resprout.models.device import resolve_device
from resprout.models.names import MANIFEST
from resprout.models.positions import position_limit
from resprout.models.quiet import quiet_transformers
from resprout.models.subject import load_configuration, load_tokenizer
from resprout.pruning.adapters import adapter_for
from resprout.pruning.api import check_previous, windows_for
from resprout.pruning.cut import Cut
from resprout.pruning.request import Request, read_request
from resprout.pruning.unit_scores import gates_of
from resprout.study.cut_asked import Asked, check_asked
from resprout.train.recovery import Recovery, check_recovery, recover

Notice = Callable[[str], None]


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
    check_asked(asked)
    device = resolve_device(asked.device)
    config = load_configuration(asked.model, asked.revision)
    before = skeleton(config).float()
    request = read_request(before, asked.method, asked.amount, **asked.cut_options())
    if request.method.score == "gate":
        adapter = adapter_for(before)
        gates_of(adapter, request.groups(adapter))  # refuses a model without gates
    previous = None
    if (Path(asked.model) / MANIFEST).is_file():
        previous = Cut.load(asked.model)
        check_previous(before, previous)
    tokenizer = None
    if request.method.calibrated or asked.tokens is not None:
        with quiet_transformers():
            tokenizer = load_tokenizer(asked.model, asked.revision)
    tokens, recovery = _recovery(asked, before, tokenizer)
    windows = _windows(asked, before, request, tokenizer, notice)
    return Plan(asked, before, request, previous, windows, recovery, tokens, device)


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
