"""The measures of one point: each timed as a stage, recorded with its figures or its failure."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from resprout.hints import first_line
from resprout.measure.energy import EnergyOptions, measure_energy
from resprout.measure.figure import Measured
from resprout.measure.held_out_loss import LossOptions, measure_loss
from resprout.measure.speed import SpeedOptions, check_speed, measure_speed
from resprout.measure.stage import stage
from resprout.measure.tasks.plan import TaskPlan, TaskRequest, plan_tasks
from resprout.measure.tasks.running import run_tasks
from resprout.measure.text import Reference, TextOptions, measure_text
from resprout.study.checks import shape_of
from resprout.study.points import Point, digest
from resprout.study.spec import StudySpec
from resprout.study.spec_measures import TextSpec
from resprout.study.subjects import Grown, Subjects

UNCUT = "uncut"

Notice = Callable[[str], None]


def tasks_of(spec: StudySpec) -> TaskPlan | None:
    """The tasks of a study, their data read and checked; None where it measures none.

    Raises:
        ValueError: naming the field.
    """
    if "tasks" not in spec.measures or spec.tasks is None:
        return None
    part = spec.tasks
    names = part.names if isinstance(part.names, str) else tuple(part.names)
    folder = Path(part.data) if part.data is not None else None
    try:
        request = TaskRequest(names, part.limit, folder, part.batch_size or 1, part.shots)
        return plan_tasks(request)
    except ValueError as error:
        # What the command calls `--tasks` and `--task-data` are fields here.
        option, _, said = str(error).partition(": ")
        field = {"tasks": "names", "task_data": "data"}.get(option, option)
        raise ValueError(f"tasks.{field}: {said}") from error


def text_options(text: TextSpec, seed: int) -> TextOptions:
    """A study's text measure for a point's seed."""
    return TextOptions(
        prompts=text.prompts,
        new_tokens=text.new_tokens,
        temperature=text.temperature,
        top_k=text.top_k,
        seeds=(text.seed + seed,),
    )


def speed_options(spec: StudySpec) -> SpeedOptions:
    """A study's workloads."""
    return SpeedOptions(**(spec.speed.model_dump() if spec.speed is not None else {}))


def check_workloads(spec: StudySpec, device: torch.device, notice: Notice) -> None:
    """Refuse workloads that a subject has no room for, or the device no means.

    Raises:
        ValueError: naming the field.
    """
    if not {"speed", "energy"} & set(spec.measures):
        return
    for subject in spec.subjects:
        try:
            check_speed(shape_of(subject), speed_options(spec), device, notice)
        except ValueError as error:
            raise ValueError(f"speed.{error} (subject {subject.name!r})") from error


class Measuring:
    """Measures a point's model and keeps what was found in `measures`.

    Args:
        spec: the study.
        point: the point.
        subject: its uncut subject; it judges texts, and speed is timed in turn with it.
        subjects: the study's.
        device: where models are.
        stages: what each took is written there.
        tasks: the study's, checked.
    """

    def __init__(
        self,
        spec: StudySpec,
        point: Point,
        subject: Grown,
        subjects: Subjects,
        device: torch.device,
        stages: dict[str, Any],
        tasks: TaskPlan | None,
    ):
        self.spec = spec
        self.point = point
        self.subject = subject
        self.subjects = subjects
        self.device = device
        self.stages = stages
        self.tasks = tasks
        self.measures: dict[str, Any] = {}

    def all(self, model: PreTrainedModel) -> None:
        """All measures of the study, after recovery."""
        self.loss("loss", model)
        works: dict[str, Callable[[], Measured]] = {
            "tasks": lambda: self._tasks(model),
            "speed": lambda: self._in_turn(model),
            "text": lambda: self._text(model),
            "energy": lambda: self._energy(model),
        }
        for name, work in works.items():
            if name in self.spec.measures:
                self._measure(name, lambda work=work: work().as_json())  # type: ignore[misc]

    def loss(self, name: str, model: PreTrainedModel) -> None:
        """The loss over all held-out windows; exact, since points are compared."""

        def work() -> dict[str, Any]:
            held_out = self.subjects.held_out(self.point.subject)
            options = LossOptions(
                window=self.spec.data.window, precision="fp32", seed=self.point.seed
            )
            found = measure_loss(model, None, held_out, options).as_json()
            # What a model that knows only how often each token occurs would have.
            unigram = self.subjects.tokens(self.point.subject).unigram_nats_per_token
            return found | {"unigram_nats_per_token": unigram}

        self._measure(name, work)

    def _measure(self, name: str, work: Callable[[], dict[str, Any]]) -> None:
        """A measure that fails is recorded as failed, with its reason; the others go on."""
        try:
            with stage(self.stages, name, self.device):
                self.measures[name] = work()
        except Exception as error:
            self.measures[name] = {"failed": f"{type(error).__name__}: {first_line(error)}"}

    def _text(self, model: PreTrainedModel) -> Measured:
        assert self.spec.text is not None
        options = text_options(self.spec.text, self.point.seed)
        tokenizer = self.subject.tokenizer
        judge = Reference(self.subject.model, tokenizer, UNCUT)
        uncut = self.subject.kept.get(("text", self.point.seed))
        if uncut is None:
            uncut = measure_text(self.subject.model, tokenizer, options, judge)
            self.subject.kept["text", self.point.seed] = uncut
        return measure_text(model, tokenizer, options, judge, uncut)

    def _tasks(self, model: PreTrainedModel) -> Measured:
        assert self.tasks is not None
        # Per point, so that a killed run finds the tasks that were finished; items stay there.
        folder = self.subjects.folder / "items" / self.point.id
        named = digest([self.point.identity, self.subject.digest])
        return run_tasks(model, self.subject.tokenizer, self.tasks, folder, model_digest=named)

    def _in_turn(self, model: PreTrainedModel) -> Measured:
        """A cut model and its uncut subject in turn; the uncut point alone."""
        models = {self.point.label: model}
        if self.point.amount > 0:
            models = {UNCUT: self.subject.model, **models}
        return measure_speed(models, speed_options(self.spec))[self.point.label]

    def _energy(self, model: PreTrainedModel) -> Measured:
        options = EnergyOptions(**(self.spec.energy.model_dump() if self.spec.energy else {}))
        found = measure_energy({self.point.label: model}, speed_options(self.spec), options)
        return found[self.point.label]
