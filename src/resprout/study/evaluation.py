"""Carrying an evaluation out: each model loaded once, each measure kept as soon as it is there."""

import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from transformers import PreTrainedModel

from resprout.hints import first_line
from resprout.measure.energy import measure_energy
from resprout.measure.figure import Measured
from resprout.measure.held_out_loss import measure_loss
from resprout.measure.speed import measure_speed
from resprout.measure.stage import stage
from resprout.measure.tasks.kept import all_there
from resprout.measure.tasks.plan import TaskPlan
from resprout.measure.tasks.plan import digests as data_digests
from resprout.measure.tasks.running import run_tasks
from resprout.measure.text import Reference, measure_text
from resprout.models.identity import weights_identity
from resprout.models.quiet import quiet_transformers
from resprout.models.subject import load_model
from resprout.study.environment import environment
from resprout.study.evaluation_folder import TASKS
from resprout.study.evaluation_plan import Notice, Plan, Subject
from resprout.study.evaluation_results import Results, write_results
from resprout.study.points import digest

Document = dict[str, Any]


class Evaluation:
    """A plan on its way: which models are loaded, what has been found.

    Args:
        plan: what was checked.
        notice: told what is being done, in one line.
    """

    def __init__(self, plan: Plan, notice: Notice):
        self.plan = plan
        self.notice = notice
        self.digests = {
            s.name: weights_identity(s.model, plan.asked.revision) for s in plan.subjects
        }
        self.environment = environment(plan.device)
        self.found: dict[str, dict[str, Document]] = {}
        self._loaded: dict[str, PreTrainedModel] = {}

    def carry_out(self) -> Results:
        """Measure what is missing and write all results.

        Raises:
            ValueError: the folder is in use; weights that cannot be loaded.
        """
        plan = self.plan
        with plan.folder.locked(), quiet_transformers():
            plan.folder.declare(self._described())
            order = sorted(plan.subjects, key=lambda s: s is not plan.baseline)
            for subject in order:
                self.found[subject.name] = {
                    measure: self._measure(subject, measure) for measure in plan.measures
                }
                for name in [n for n in self._loaded if n != self._kept]:
                    del self._loaded[name]  # one model at a time, beside the one to compare with
            return write_results(plan, self.digests, self.found)

    @property
    def _kept(self) -> str | None:
        """Who is needed beside the others: to be timed in turn, and to judge their texts."""
        return self.plan.baseline.name if self.plan.baseline is not None else None

    def _measure(self, subject: Subject, measure: str) -> Document:
        plan, folder = self.plan, self.plan.folder
        identity = self._identity(subject, measure)
        known = folder.read(subject.name, measure, identity, self.notice)
        if known is not None and self._is_whole(subject, measure, known["measured"]):
            self.notice(f"{subject.name}: {measure} is there already")
            return known
        model = self._model(subject)
        self.notice(f"{subject.name}: {measure}")
        work: Callable[[Subject, PreTrainedModel], Measured] = getattr(self, f"_{measure}")
        document: Document = {
            "measure": measure,
            "identity": identity,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        stages: dict[str, Any] = {}
        began = time.perf_counter()
        try:
            with stage(stages, measure, plan.device):
                document["measured"] = work(subject, model).as_json()
        except Exception as error:  # one measure's failure must not lose the others
            document["failed"] = f"{type(error).__name__}: {first_line(error)}"
        seconds = time.perf_counter() - began
        document |= {
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "stage": stages.get(measure, {"seconds": round(seconds, 3)}),
            "environment": self.environment,
        }
        folder.write(subject.name, measure, document)
        return document

    def _is_whole(self, subject: Subject, measure: str, measured: Document) -> bool:
        """Whether nothing of a kept measure is left to do, or to be done again."""
        if measured.get("failed"):
            return False
        if measure != TASKS:
            return True
        # Comparisons and tables read the tasks themselves, not what was made from them.
        folder = self.plan.folder.tasks_of_model(subject.name)
        return all_there(folder, measured["tasks"], self.notice)

    def _model(self, subject: Subject) -> PreTrainedModel:
        if subject.name not in self._loaded:
            asked = self.plan.asked
            self.notice(f"{subject.name}: loading")
            revision = asked.revision_of(subject.model)
            model = load_model(subject.model, revision, self.plan.device, asked.dtype)
            self._loaded[subject.name] = model
        return self._loaded[subject.name]

    def _loss(self, subject: Subject, model: PreTrainedModel) -> Measured:
        assert subject.held_out is not None
        return measure_loss(model, subject.tokenizer, subject.held_out, self.plan.asked.loss)

    def _tasks(self, subject: Subject, model: PreTrainedModel) -> Measured:
        assert self.plan.tasks is not None and subject.tokenizer is not None
        return run_tasks(
            model,
            subject.tokenizer,
            self.plan.tasks,
            self.plan.folder.tasks_of_model(subject.name),
            model_digest=self.digests[subject.name],
            notice=lambda line: self.notice(f"{subject.name}: {line}"),
        )

    def _speed(self, subject: Subject, model: PreTrainedModel) -> Measured:
        models = {subject.name: model}
        baseline = self.plan.baseline
        if baseline is not None and baseline is not subject:
            models = {baseline.name: self._model(baseline), **models}
        return measure_speed(models, self.plan.asked.speed)[subject.name]

    def _text(self, subject: Subject, model: PreTrainedModel) -> Measured:
        assert subject.tokenizer is not None
        baseline = self.plan.baseline
        judge, uncut = None, None
        if baseline is not None:
            assert baseline.tokenizer is not None
            judge = Reference(self._model(baseline), baseline.tokenizer, baseline.name)
            if baseline is not subject:
                uncut = self.found[baseline.name]["text"].get("measured")
        return measure_text(model, subject.tokenizer, self.plan.asked.text, judge, uncut)

    def _energy(self, subject: Subject, model: PreTrainedModel) -> Measured:
        asked = self.plan.asked
        return measure_energy({subject.name: model}, asked.speed, asked.energy)[subject.name]

    def _identity(self, subject: Subject, measure: str) -> dict[str, Any]:
        """All that decides a measure's result, but for the libraries, which are recorded."""
        asked, baseline = self.plan.asked, self.plan.baseline
        identity: dict[str, Any] = {
            "model": self.digests[subject.name],
            "dtype": asked.dtype,
            "device": self.plan.device.type,
        }
        if measure in ("speed", "text") and baseline is not None and baseline is not subject:
            identity["baseline"] = self.digests[baseline.name]
        if measure == "text" and baseline is subject:
            identity["judges_itself"] = True
        if measure == "loss":
            assert subject.held_out is not None
            identity["data"] = [subject.held_out.source, subject.held_out.digest]
            identity["options"] = asdict(asked.loss)
            identity["intervals"] = "over documents"  # earlier versions drew windows
        elif measure == "tasks":
            assert self.plan.tasks is not None
            identity["options"] = _of_tasks(self.plan.tasks)
        elif measure == "text":
            identity["options"] = asdict(asked.text)
        else:
            identity["options"] = asdict(asked.speed)
        if measure == "energy":
            identity["energy"] = asdict(asked.energy)
        if subject.tokenizer is not None and measure in ("tasks", "text"):
            identity["tokenizer"] = digest(sorted(subject.tokenizer.get_vocab().items()))
        return identity

    def _described(self) -> dict[str, Any]:
        """What the folder is of."""
        plan = self.plan
        return {
            "measures": list(plan.measures),
            "baseline": self._kept,
            "models": [
                {
                    "name": s.name,
                    "model": s.model,
                    "digest": self.digests[s.name],
                    "percentage": s.percentage,
                    "achieved": s.achieved,
                    "method": s.method,
                }
                for s in plan.subjects
            ],
        }


def _of_tasks(tasks: TaskPlan) -> dict[str, Any]:
    """What decides the results of tasks, beside model and tokenizer."""
    request = tasks.request
    return {
        "tasks": [[one.name, one.shots] for one in tasks.wanted],
        "limit": request.limit,
        "batch_size": request.batch_size,
        "lm_eval": tasks.lm_eval,
        "data": digest({name: data_digests(data) for name, data in tasks.data.items()}),
    }


def evaluate(plan: Plan, notice: Notice) -> Results:
    """Carry a plan out; give the same again to go on where it was stopped.

    Args:
        plan: what `plan_evaluation` made.
        notice: told what is being done, in one line.

    Returns:
        What was found and written.

    Raises:
        ValueError: the folder is in use; weights that cannot be loaded.
    """
    return Evaluation(plan, notice).carry_out()
