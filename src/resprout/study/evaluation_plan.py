"""What an evaluation is to be: what the user asked for, checked before weights are read."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from resprout.data.held_out import HeldOut, check_held_out, read_held_out
from resprout.data.tokenizer import digest
from resprout.data.wikitext import NAME as WIKITEXT
from resprout.data.wikitext import check_wikitext, read_wikitext
from resprout.hints import did_you_mean
from resprout.measure.energy import EnergyOptions
from resprout.measure.held_out_loss import LossOptions, check_loss, window_of
from resprout.measure.names import read_measures
from resprout.measure.speed import SpeedOptions, check_speed
from resprout.measure.tasks.plan import TaskPlan, TaskRequest, plan_tasks
from resprout.measure.text import TextOptions, check_lengths
from resprout.models.description import skeleton
from resprout.models.device import resolve_device
from resprout.models.quiet import quiet_transformers
from resprout.models.subject import MANIFEST, load_configuration, resolve_dtype
from resprout.models.tokenizers import check_begin, check_vocabulary, find_tokenizer
from resprout.pruning.cut import Cut
from resprout.study.evaluation_folder import EvaluationFolder

_NEED_TOKENIZER = {"loss", "tasks", "text"}

Notice = Callable[[str], None]


@dataclass(frozen=True)
class Asked:
    """What the user asked for.

    Attributes:
        models: as `resprout.load` takes them.
        out: the folder.
        measures: names; None = `tasks` where tasks are named, else all others.
        against: a model that the others are compared with; it is measured too.
        data: held-out text of the loss (`read_held_out`), or `wikitext2`.
        held_out: share of it that is held out.
        text_field: of JSON lines, Parquet and Hub data sets.
        tasks: of lm-eval, or `glu13`, `standard`; None = `glu13` where tasks are measured.
        task_data: a folder with the tasks' rows; None = from the Hub.
        limit: the first so many items of each task.
        shots: for all tasks instead of their own.
        batch_size: rows per forward pass of tasks.
        name: of the published files; default the first model's.
        tolerance: of the rule that finds the best level.
        tokenizer: for models that have none of their own.
        revision: of Hub models.
    """

    models: tuple[str, ...]
    out: Path
    measures: tuple[str, ...] | None = None
    against: str | None = None
    data: str = "stdlib"
    held_out: float | None = None
    text_field: str = "text"
    loss: LossOptions = field(default_factory=LossOptions)
    tasks: str | None = None
    task_data: Path | None = None
    limit: int | None = None
    shots: int | None = None
    batch_size: int | None = None
    speed: SpeedOptions = field(default_factory=SpeedOptions)
    text: TextOptions = field(default_factory=TextOptions)
    energy: EnergyOptions = field(default_factory=EnergyOptions)
    name: str | None = None
    tolerance: float = 0.05
    tokenizer: str | None = None
    revision: str | None = None
    device: str = "auto"
    dtype: str = "float32"


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
    measures = read_measures(asked.measures, asked.tasks)
    if not asked.models:
        raise ValueError("models: got none, allowed is one or more")
    if asked.name is not None and not re.fullmatch(r"[A-Za-z0-9._-]+", asked.name):
        raise ValueError(f"name: got {asked.name!r}, allowed are letters, digits, '.', '_' and '-'")
    if not 0 <= asked.tolerance < 1:
        raise ValueError(f"tolerance: got {asked.tolerance}, allowed is 0 and below 1")
    folder = EvaluationFolder(asked.out)
    folder.check()
    resolve_dtype(asked.dtype)
    device = resolve_device(asked.device)
    if "loss" in measures:
        if asked.data == WIKITEXT:
            check_wikitext(asked.task_data)
            if asked.held_out is not None:
                raise ValueError(f"held_out: got {asked.held_out}, {WIKITEXT!r} is taken whole")
        else:
            try:
                check_held_out(asked.data, asked.text_field)
            except ValueError as error:
                raise ValueError(f"{error}{did_you_mean(asked.data, [WIKITEXT])}") from error
    models = list(dict.fromkeys([*([asked.against] if asked.against else []), *asked.models]))
    configs = {model: load_configuration(model, asked.revision) for model in models}
    tasks = None
    if "tasks" in measures:
        batch_size = 1 if asked.batch_size is None else asked.batch_size
        request = TaskRequest(
            "glu13" if asked.tasks is None else asked.tasks,
            asked.limit,
            asked.task_data,
            batch_size,
            asked.shots,
        )
        tasks = plan_tasks(request)
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
    if _NEED_TOKENIZER & set(measures):
        # Quiet: a tokenizer's remarks on its own files are nothing that the user can act on.
        with quiet_transformers():
            tokenizer = find_tokenizer(model, _tokenizer_of(asked, model), asked.revision)
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
    base = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(model).absolute().name).strip(".") or "model"
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    return Subject(name, model, config, tokenizer, round(percentage, 6), method, achieved, None)


def _tokenizer_of(asked: Asked, model: str) -> str | None:
    """`--tokenizer` is for models that have none: others come with the one they learned with."""
    if asked.tokenizer is None:
        return None
    folder = Path(model)
    has_own = folder.is_dir() and any(folder.glob("tokenizer*"))
    several = asked.against is not None or len(asked.models) > 1
    return None if several and has_own else asked.tokenizer


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
