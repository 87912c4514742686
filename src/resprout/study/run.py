"""Running a study: what is missing is done, point by point; what is done is kept."""

import copy
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from resprout.data.calibration import Calibration, read_calibration
from resprout.data.tokens import TokenSet
from resprout.measure.stage import stage
from resprout.measure.tasks.plan import TaskPlan
from resprout.models import agency
from resprout.models.device import check_precision
from resprout.models.quiet import quiet_transformers
from resprout.pruning.api import prune
from resprout.pruning.protocols import protocol as protocol_named
from resprout.study.checks import check_subjects
from resprout.study.counts import parameter_counts
from resprout.study.environment import environment
from resprout.study.kept_subjects import Grown
from resprout.study.measuring import Measuring, check_workloads, tasks_of
from resprout.study.points import RECORD_FORMAT, Point, plan
from resprout.study.spec import StudySpec
from resprout.study.store import Store, failed_measures
from resprout.study.subjects import Subjects
from resprout.train.trainer import train

# Recovery reads the training windows in another order than growing did, the same for every point.
RECOVERY_SEED_OFFSET = 1_000_003

Notice = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What a run came to: the records, and the points and measures that failed, with reasons."""

    records: list[dict[str, Any]]
    failures: dict[str, str]
    computed: int


def run_study(spec: StudySpec, folder: Path, device: torch.device, notice: Notice) -> Outcome:
    """Do all that is missing of a study.

    Args:
        spec: the study.
        folder: of the run; made if missing.
        device: where models are trained and measured.
        notice: called with one line as each step begins.

    Raises:
        ValueError: the study cannot be run (subjects, precision, folder); nothing was trained then.
    """
    check_precision(spec.precision, device)
    check_subjects(spec)
    check_workloads(spec, device, notice)
    tasks = tasks_of(spec)
    store = Store(folder)
    store.check_writable(spec.study)
    with store.locked(), quiet_transformers():
        subjects = Subjects(spec, folder, device, notice)
        recipes = {
            (subject.name, seed): subjects.recipe(subject, seed)
            for subject in spec.subjects
            for seed in spec.seeds
        }
        for subject in spec.subjects:
            subjects.check_lengths(subject)
        tokens = {subject.name: subjects.tokens(subject).digest for subject in spec.subjects}
        points = plan(spec, recipes, tokens, device.type)
        store.declare(spec, points)
        failures: dict[str, str] = {}
        missing = [point for point in points if not store.finished(point)]
        if len(missing) < len(points):
            notice(f"{len(points) - len(missing)} of {len(points)} points are there already")
        held: tuple[tuple[str, int], Grown | Exception] | None = None
        for number, point in enumerate(missing, start=1):
            key = (point.subject.name, point.seed)
            try:
                if held is None or held[0] != key:
                    held = None  # let the last subject's memory go first
                    held = (key, _subject_or_error(subjects, point))
                if isinstance(held[1], Exception):
                    raise held[1]  # a subject that cannot be had is not tried again for each level
                notice(f"point {number} of {len(missing)}: {point.label}")
                record = run_point(spec, point, held[1], subjects, device, tasks)
            except Exception as error:  # one point's failure must not lose the others
                reason = f"{type(error).__name__}: {error}"
                store.write_failure(point, reason, traceback.format_exc())
                failures[point.label] = reason
                continue
            store.write(record)
            for measure, reason in failed_measures(record).items():
                failures[f"{point.label}, {measure}"] = reason
        records = store.records(points)
        store.derive(records)
    return Outcome(records, failures, len(missing))


def _subject_or_error(subjects: Subjects, point: Point) -> Grown | Exception:
    try:
        return subjects.get(point.subject, point.seed)
    except Exception as error:
        return error


def _scored_on(spec: StudySpec, point: Point, tokens: TokenSet) -> TokenSet | Calibration:
    """What a method that needs text reads: what `prune` draws, or as much as the cut says."""
    wanted, window = point.cut.calibration_windows, spec.data.window
    if wanted is None:
        return tokens
    count = min(wanted, len(tokens.train.tokens) // window)
    return read_calibration(tokens.path, None, samples=count, length=window)


def run_point(
    spec: StudySpec,
    point: Point,
    subject: Grown,
    subjects: Subjects,
    device: torch.device,
    tasks: TaskPlan | None = None,
) -> dict[str, Any]:
    """Cut, recover and measure one point on a copy of its subject; returns its record."""
    stages: dict[str, Any] = dict(subject.stages)
    tokens = subjects.tokens(point.subject)
    model = copy.deepcopy(subject.model)

    measuring = Measuring(spec, point, subject, subjects, device, stages, tasks)

    with stage(stages, "cut", device):
        pattern = point.cut.pattern
        if pattern is not None and point.amount == 0:  # a pattern has one amount only
            cut = prune(model, "magnitude", 0, protocol=spec.protocol)
        else:
            cut = prune(
                model,
                point.cut.method,
                None if pattern else point.amount,
                protocol=spec.protocol,
                calibration=_scored_on(spec, point, tokens),
                seed=point.seed,
                **point.cut.options(),
            )
    measuring.loss("loss_before_recovery", model)
    recovers = point.amount > 0 or protocol_named(spec.protocol).recovers_uncut
    if recovers and spec.recovery.steps > 0:
        with stage(stages, "recovery", device):
            train(
                model,
                tokens.train.tokens,
                spec.data.window,
                spec.recovery,
                point.seed + RECOVERY_SEED_OFFSET,
                subjects.folder / "work" / point.id,
                device,
                masks=cut.masks or None,
            )
    more: dict[str, Any] = {}
    if agency.is_enabled(model):
        more["agency"] = agency.agency_report(model).as_json()
    if spec.precision != "float32":
        more["precision"] = spec.precision
    parameters = parameter_counts(model, cut)
    measuring.all(model)
    return {
        "format": RECORD_FORMAT,
        "id": point.id,
        "study": spec.study,
        "subject": point.subject.name,
        "model": point.subject.model,
        "method": point.cut.method,
        "unit": point.unit,
        "amount": point.amount,
        "achieved": cut.achieved,
        "seed": point.seed,
        "protocol": spec.protocol,
        "parameters": parameters,
        "dead_units": cut.dead_units,
        "recovered": recovers and spec.recovery.steps > 0,
        "measures": measuring.measures,
        "stages": stages,
        "digests": {
            "subject": subject.digest,
            "tokens": tokens.digest,
            "tokenizer": tokens.tokenizer_digest,
        },
        "identity": point.identity,
        "environment": environment(device),
        **more,
    }
