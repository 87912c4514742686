"""One point: a copy of its subject is cut, recovers and is measured; the record of it."""

import copy
from typing import Any

import torch

from resprout.data.calibration import Calibration, read_calibration
from resprout.data.tokens import TokenSet
from resprout.measure.stage import stage
from resprout.measure.tasks.plan import TaskPlan
from resprout.models import agency
from resprout.pruning.api import prune
from resprout.pruning.protocols import protocol as protocol_named
from resprout.study.counts import parameter_counts
from resprout.study.cut_map import cut_map
from resprout.study.environment import environment
from resprout.study.kept_subjects import Grown
from resprout.study.measuring import Measuring
from resprout.study.points import RECORD_FORMAT, Point
from resprout.study.spec import StudySpec
from resprout.study.subjects import Subjects
from resprout.train.running import Running
from resprout.train.trainer import train
from resprout.train.work_folder import training_stage

# Recovery reads the training windows in another order than growing did, the same for every point.
RECOVERY_SEED_OFFSET = 1_000_003


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
    """Cut, recover and measure one point on a copy of its subject; returns its record.

    The checkpoints of its recovery stay, for the caller to remove when the record is written.
    """
    stages: dict[str, Any] = dict(subject.stages)
    tokens = subjects.tokens(point.subject)
    model = copy.deepcopy(subject.model)

    measuring = Measuring(spec, point, subject, subjects, device, stages, tasks)

    with stage(stages, "cut", device):
        pattern = point.cut.pattern
        if pattern is not None and point.amount == 0:  # a pattern has one amount only
            cut = prune(model, "magnitude", 0, protocol=point.protocol)
        else:
            cut = prune(
                model,
                point.cut.method,
                None if pattern else point.amount,
                protocol=point.protocol,
                calibration=_scored_on(spec, point, tokens),
                seed=point.seed,
                **point.cut.options(),
            )
    measuring.loss("loss_before_recovery", model)
    recovers = point.amount > 0 or protocol_named(point.protocol).recovers_uncut
    if recovers and spec.recovery.steps > 0:
        work = subjects.work_of(point.id)
        with training_stage(stages, "recovery", device, work):
            train(
                model,
                tokens.train.tokens,
                spec.data.window,
                spec.recovery,
                point.seed + RECOVERY_SEED_OFFSET,
                work,
                device,
                masks=cut.masks or None,
                running=Running(keep_work=True),
            )
    more: dict[str, Any] = {"cut_map": cut_map(model, cut)}
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
        "protocol": point.protocol,
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
