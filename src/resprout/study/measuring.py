"""The measures of one point: each timed as a stage, recorded with its figures or its failure."""

from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedModel

from resprout.hints import first_line
from resprout.measure.energy import EnergyOptions, measure_energy
from resprout.measure.figure import Measured
from resprout.measure.held_out_loss import measure_loss
from resprout.measure.loss_options import LossOptions
from resprout.measure.speed import SpeedOptions, check_speed, measure_speed
from resprout.measure.stage import stage
from resprout.measure.tasks.plan import TaskPlan, plan_tasks
from resprout.measure.tasks.running import run_tasks
from resprout.measure.text import Reference, TextOptions, measure_text
from resprout.models.device import check_precision
from resprout.models.identity import weights_digest
from resprout.study.checks import shape_of
from resprout.study.early import as_field, task_request
from resprout.study.kept_subjects import Grown
from resprout.study.points import Point
from resprout.study.precision import copy_in_precision, in_precision
from resprout.study.spec import StudySpec
from resprout.study.spec_measures import TextSpec, temperature_name
from resprout.study.subjects import Subjects

UNCUT = "uncut"

Notice = Callable[[str], None]


def tasks_of(spec: StudySpec) -> TaskPlan | None:
    """The tasks of a study, their data read and checked; None where it measures none.

    Raises:
        ValueError: naming the field.
    """
    if "tasks" not in spec.measures or spec.tasks is None:
        return None
    try:
        return plan_tasks(task_request(spec.tasks))
    except ValueError as error:
        raise as_field(error) from error


def text_options(text: TextSpec, seed: int, temperature: float) -> TextOptions:
    """A study's text measure for a point's seed, at one of its temperatures."""
    return TextOptions(
        prompts=text.prompts,
        new_tokens=text.new_tokens,
        temperature=temperature,
        top_k=text.top_k,
        seeds=(text.seed + seed,),
    )


def speed_options(spec: StudySpec, seed: int = 0) -> SpeedOptions:
    """A study's workloads; a point's seed draws the prompts."""
    return SpeedOptions(**(spec.speed.model_dump() if spec.speed is not None else {}), seed=seed)


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
        self.dtype = check_precision(spec.precision, device)
        self.measures: dict[str, Any] = {}

    def all(self, model: PreTrainedModel) -> None:
        """All measures of the study, after recovery; the weights take the study's precision."""
        in_precision(model, self.dtype)
        self.loss("loss", model)
        text = self.spec.text
        works: dict[str, Callable[[], Measured]] = {
            "tasks": lambda: self._tasks(model),
            "speed": lambda: self._in_turn(model),
            "text": lambda: self._text(model),
            "energy": lambda: self._energy(model),
        }
        for name, work in works.items():
            if name in self.spec.measures:
                self._measure(name, lambda work=work: work().as_json())  # type: ignore[misc]
        if text is not None and text.also_temperatures and "text" in self.spec.measures:
            self._text_at(model, text.also_temperatures)

    def loss(self, name: str, model: PreTrainedModel) -> None:
        """The loss over all held-out windows, as exact as the weights: points are compared."""

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
            self.measures[name] = _failed(error)

    def _uncut(self) -> PreTrainedModel:
        """The uncut subject as it is measured; one copy serves all its points."""
        kept = self.subject.kept
        if "uncut" not in kept:
            kept["uncut"] = copy_in_precision(self.subject.model, self.dtype)
        found = kept["uncut"]
        assert isinstance(found, PreTrainedModel)
        return found

    def _text(self, model: PreTrainedModel, temperature: float | None = None) -> Measured:
        assert self.spec.text is not None
        if temperature is None:
            temperature = self.spec.text.temperature
        options = text_options(self.spec.text, self.point.seed, temperature)
        tokenizer = self.subject.tokenizer
        judge = Reference(self._uncut(), tokenizer, UNCUT)
        key = ("text", self.point.seed, temperature)
        uncut = self.subject.kept.get(key)
        if uncut is None:
            uncut = measure_text(self._uncut(), tokenizer, options, judge)
            self.subject.kept[key] = uncut
        return measure_text(model, tokenizer, options, judge, uncut)

    def _text_at(self, model: PreTrainedModel, temperatures: list[float]) -> None:
        """Texts at further temperatures, each whole or failed by itself."""
        found: dict[str, Any] = {}
        with stage(self.stages, "text_at", self.device):
            for temperature in temperatures:
                try:
                    values = self._text(model, temperature).as_json()
                except Exception as error:
                    values = _failed(error)
                found[temperature_name(temperature)] = values
        self.measures["text_at"] = found

    def _tasks(self, model: PreTrainedModel) -> Measured:
        assert self.tasks is not None
        # By the weights: a killed run finds the tasks that were finished, and points of several
        # seeds share them where the seed changed no weight. Items stay there.
        named = weights_digest(model)
        folder = self.subjects.folder / "items" / named[:16]
        return run_tasks(
            model,
            self.subject.tokenizer,
            self.tasks,
            folder,
            model_digest=named,
            aside=self.subjects.notice,
        )

    def _in_turn(self, model: PreTrainedModel) -> Measured:
        """A cut model and its uncut subject in turn; the uncut point alone."""
        models = {self.point.label: model}
        if self.point.amount > 0:
            models = {UNCUT: self._uncut(), **models}
        return measure_speed(models, speed_options(self.spec, self.point.seed))[self.point.label]

    def _energy(self, model: PreTrainedModel) -> Measured:
        options = EnergyOptions(**(self.spec.energy.model_dump() if self.spec.energy else {}))
        workloads = speed_options(self.spec, self.point.seed)
        found = measure_energy({self.point.label: model}, workloads, options)
        return found[self.point.label]


def _failed(error: Exception) -> dict[str, str]:
    return {"failed": f"{type(error).__name__}: {first_line(error)}"}
