"""What an evaluation is to be: what the user asked for, compared with the models, not yet read."""

import itertools
import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from resprout.data.held_out import HeldOut, read_held_out
from resprout.data.tokenizer import digest
from resprout.data.wikitext import NAME as WIKITEXT
from resprout.data.wikitext import read_wikitext
from resprout.measure.held_out_loss import check_loss, window_of
from resprout.measure.loss_options import LossOptions
from resprout.measure.speed import check_speed
from resprout.measure.tasks.plan import TaskPlan, plan_tasks
from resprout.measure.text import check_lengths
from resprout.models.description import skeleton
from resprout.models.device import resolve_device
from resprout.models.names import MANIFEST
from resprout.models.quiet import quiet_transformers
from resprout.models.subject import load_configuration
from resprout.models.tokenizers import check_begin, check_vocabulary, find_tokenizer
from resprout.pruning.cut import Cut
from resprout.study.evaluation_asked import NEED_TOKENIZER, Asked, check_asked
from resprout.study.evaluation_folder import EvaluationFolder

Notice = Callable[[str], None]


@dataclass(frozen=True)
class Subject:
    """One model to measure.

    Attributes:
        name: its folder's, unique in the evaluation.
        model: as the user named it.
        percentage: of the units that its cut was asked to take, 0 to 100.
        method: of the cut; None where the model is whole.
        held_out: the loss's text in its tokens.
    """

    name: str
    model: str
    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase | None
    percentage: float
    method: str | None
    achieved: float
    held_out: HeldOut | None


@dataclass(frozen=True)
class Plan:
    """An evaluation that was checked. `baseline` is one of the subjects, or None."""

    asked: Asked
    measures: tuple[str, ...]
    subjects: tuple[Subject, ...]
    baseline: Subject | None
    tasks: TaskPlan | None
    device: torch.device
    folder: EvaluationFolder
    name: str


def plan_evaluation(asked: Asked, notice: Notice) -> Plan:
    """Check everything that can be checked without weights; nothing is written.

    Args:
        asked: what is to be done.
        notice: told what is done otherwise than asked.

    Raises:
        ValueError: naming the option, the value got and what is allowed.
    """
    measures = check_asked(asked)
    device = resolve_device(asked.device)
    models = asked.subjects
    configs = {model: load_configuration(model, asked.revision) for model in models}
    tasks = None
    if "tasks" in measures:
        tasks = plan_tasks(asked.task_request)
    if len(models) > 1 and asked.loss.precision == "auto":
        # A paired interval can be narrower than a loss's own: what is compared is exact.
        asked = replace(asked, loss=replace(asked.loss, precision="fp32"))
    if "loss" in measures and asked.data != WIKITEXT:
        asked = replace(asked, loss=_common_window(asked.loss, list(configs.values())))
    subjects: list[Subject] = []
    texts: dict[str, HeldOut] = {}
    for model in models:
        subject = _subject(asked, model, configs[model], measures, [s.name for s in subjects])
        subjects.append(_with_text(asked, subject, measures, texts, device, notice))
    baseline = _baseline(asked, subjects)
    name = asked.name or file_name(subjects[0].name)
    folder = EvaluationFolder(asked.out)
    return Plan(asked, measures, tuple(subjects), baseline, tasks, device, folder, name)


def file_name(name: str) -> str:
    """`Llama-3.2-1B` as the published files are named: `llama_3.2_1b`."""
    return re.sub(r"[^a-z0-9.]+", "_", name.lower()).strip("_.") or "model"


def _common_window(loss: LossOptions, configs: Sequence[PreTrainedConfig]) -> LossOptions:
    """One window for all models, so that they are compared window by window."""
    windows = {window_of(config, loss, None) for config in configs}
    return loss if len(windows) == 1 else replace(loss, window=min(windows))


def _subject(
    asked: Asked, model: str, config: PreTrainedConfig, measures: Sequence[str], taken: list[str]
) -> Subject:
    tokenizer = None
    if NEED_TOKENIZER & set(measures):
        # Quiet: a tokenizer's remarks on its own files are nothing that the user can act on.
        with quiet_transformers():
            tokenizer = find_tokenizer(model, asked.tokenizer_of(model), asked.revision)
        try:
            check_vocabulary(tokenizer, config)
            if "tasks" in measures:
                check_begin(tokenizer)
        except ValueError as error:
            raise ValueError(f"{error} (model {model!r})") from error
    percentage, achieved, method = 0.0, 0.0, None
    if (Path(model) / MANIFEST).is_file():
        cut = Cut.load(model)
        percentage, achieved, method = 100 * cut.requested, cut.achieved, cut.method
    name = new_name(model, taken)
    return Subject(name, model, config, tokenizer, round(percentage, 6), method, achieved, None)


def new_name(model: str, taken: Collection[str]) -> str:
    """The last part of a path or Hub id; as many before it as tell it from those that are taken."""
    normal = os.path.normpath(model)
    parts = [part for part in Path(normal).parts if part not in (os.sep, os.pardir)]
    parts = parts or [Path(normal).resolve().name]
    names = [
        re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(parts[-count:])).strip(".-") or "model"
        for count in range(1, len(parts) + 1)
    ]
    numbered = (f"{names[0]}-{number}" for number in itertools.count(2))
    return next(name for name in itertools.chain(names, numbered) if name not in taken)


def _with_text(
    asked: Asked,
    subject: Subject,
    measures: Sequence[str],
    texts: dict[str, HeldOut],
    device: torch.device,
    notice: Notice,
) -> Subject:
    """The subject with its held-out text; what its model has no room for is refused."""
    config = subject.config
    try:
        if "speed" in measures or "energy" in measures:
            check_speed(config, asked.speed, device, notice)
        if "text" in measures:
            assert subject.tokenizer is not None
            check_lengths(
                skeleton(config), subject.tokenizer, asked.text.prompts, asked.text.new_tokens
            )
        if "loss" not in measures:
            return subject
        assert subject.tokenizer is not None
        definition = WIKITEXT if asked.data == WIKITEXT else None
        check_loss(config, asked.loss, definition)
    except ValueError as error:
        raise ValueError(f"{error} (model {subject.model!r})") from error
    backend = getattr(subject.tokenizer, "backend_tokenizer", None)
    key = digest(backend) if isinstance(backend, Tokenizer) else subject.name
    if key not in texts:
        if definition is not None:
            texts[key] = read_wikitext(subject.tokenizer, asked.task_data)
        else:
            texts[key] = read_held_out(
                asked.data, subject.tokenizer, asked.held_out, asked.text_field
            )
    return replace(subject, held_out=texts[key])


def _baseline(asked: Asked, subjects: Sequence[Subject]) -> Subject | None:
    """What the others are compared with: the model asked for, else the first that is whole."""
    if asked.against is not None:
        return subjects[0]
    if len(subjects) < 2:
        return None
    return next((s for s in subjects if s.method is None), None)
