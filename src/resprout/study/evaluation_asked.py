"""What an evaluation is to be, as the user asked for it: all that can be refused without torch."""

import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from resprout.data.held_out import check_held_out, check_share
from resprout.data.wikitext import NAME as WIKITEXT
from resprout.data.wikitext import check_wikitext
from resprout.hints import did_you_mean
from resprout.measure.energy.options import EnergyOptions
from resprout.measure.loss_options import LossOptions
from resprout.measure.names import read_measures
from resprout.measure.speed.options import SpeedOptions
from resprout.measure.tasks.request import TaskRequest, check_request
from resprout.measure.text.options import TextOptions
from resprout.models.by_name import check_device, check_dtype, check_length, check_tokenizer
from resprout.models.names import SIZES, check_subject
from resprout.refusals import check_revision
from resprout.study.evaluation_folder import EvaluationFolder

NEED_TOKENIZER = {"loss", "tasks", "text"}


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

    def revision_of(self, model: str) -> str | None:
        """Of a model of the Hub what was asked for; of a size or a local model none."""
        return None if model in SIZES or os.path.lexists(model) else self.revision

    @property
    def subjects(self) -> list[str]:
        """All models, each once; what the others are compared with stands first."""
        return list(
            dict.fromkeys([*([] if self.against is None else [self.against]), *self.models])
        )

    @property
    def task_request(self) -> TaskRequest:
        """What is asked for of tasks; raises ValueError on numbers that make no sense."""
        tasks = "glu13" if self.tasks is None else self.tasks
        batch_size = 1 if self.batch_size is None else self.batch_size
        return TaskRequest(tasks, self.limit, self.task_data, batch_size, self.shots)

    def tokenizer_of(self, model: str) -> str | None:
        """`tokenizer` is for models that have none: others come with the one they learned with."""
        if self.tokenizer is None:
            return None
        folder = Path(model)
        has_own = folder.is_dir() and any(folder.glob("tokenizer*"))
        several = self.against is not None or len(self.models) > 1
        return None if several and has_own else self.tokenizer


def check_asked(asked: Asked) -> tuple[str, ...]:
    """Refuse all that makes no sense, whatever the models hold; nothing is written.

    Returns:
        The measures, in the house's order.

    Raises:
        ValueError: naming the option, the value got and what is allowed.
    """
    measures = read_measures(asked.measures, asked.tasks)
    if not asked.models:
        raise ValueError("models: got none, allowed is one or more")
    if asked.name is not None and not re.fullmatch(r"(?!\.+$)[A-Za-z0-9._-]{1,100}", asked.name):
        raise ValueError(
            f"name: got {asked.name!r}, allowed are up to 100 letters, digits, '.', '_' and '-'"
        )
    if not math.isfinite(asked.tolerance) or not 0 <= asked.tolerance < 1:
        raise ValueError(f"tolerance: got {asked.tolerance}, allowed is 0 and below 1")
    check_dtype(asked.dtype)
    check_device(asked.device)
    EvaluationFolder(asked.out).check()
    if asked.revision is not None and not any(map(asked.revision_of, asked.subjects)):
        check_revision(asked.revision, asked.subjects[0], SIZES)
    for model in asked.subjects:
        check_subject(model, asked.revision)
        if NEED_TOKENIZER & set(measures):
            check_tokenizer(model, asked.tokenizer_of(model), asked.revision)
        if "loss" in measures and asked.loss.window is not None:
            check_length("window", asked.loss.window, model, asked.revision)
    if "loss" in measures:
        _check_data(asked)
    if "tasks" in measures:
        check_request(asked.task_request)
    return measures


def _check_data(asked: Asked) -> None:
    if asked.data == WIKITEXT:
        check_wikitext(asked.task_data)
        if asked.held_out is not None:
            raise ValueError(f"held_out: got {asked.held_out}, {WIKITEXT!r} is taken whole")
        return
    check_share(asked.data, asked.held_out)
    try:
        check_held_out(asked.data, asked.text_field, asked.held_out)
    except ValueError as error:
        raise ValueError(f"{error}{did_you_mean(asked.data, [WIKITEXT])}") from error
