"""Adaptation: what subjects go through before any cut: agency, and further training for all."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from resprout.data.tokens import Tokens
from resprout.models import agency
from resprout.models.agency import AgencyOptions
from resprout.study.spec import StudySpec
from resprout.study.spec_subjects import AgencySpec, SubjectSpec
from resprout.train.gates import learning_gates
from resprout.train.running import Running
from resprout.train.trainer import TrainingResult, train

# An order of the training windows of its own: neither growing's nor recovery's.
ADAPTATION_SEED_OFFSET = 2_000_003


def is_adapted(spec: StudySpec, subject: SubjectSpec) -> bool:
    """Whether a subject is cut in another form than it was grown or loaded in."""
    return spec.adapts or subject.agency is not None


def adaptation_identity(spec: StudySpec, subject: SubjectSpec) -> dict[str, Any]:
    """What is done to a subject, as far as the study file decides it."""
    done: dict[str, Any] = {}
    if spec.adaptation is not None and spec.adapts:
        done["adaptation"] = spec.adaptation.identity()
    if subject.agency is not None:
        done["agency"] = subject.agency.model_dump()
    return done


def agency_options(part: AgencySpec) -> AgencyOptions:
    """The rules of the states."""
    return AgencyOptions(
        overloaded_above=part.overloaded_above,
        misaligned_below=part.misaligned_below,
        recovery_steps=part.recovery_steps,
        states=part.states,
    )


def calibration_windows(tokens: Tokens, window: int, count: int) -> Tensor:
    """(N, T) the first adjoining windows of the training split.

    Raises:
        ValueError: it has fewer.
    """
    most = len(tokens) // window
    if count > most:
        raise ValueError(
            f"calibration_windows: got {count}, allowed are up to the {most} windows of "
            f"{window} tokens that the training split has"
        )
    return torch.as_tensor(tokens[: count * window].astype("int64")).view(count, window)


def adapt(
    model: PreTrainedModel,
    spec: StudySpec,
    subject: SubjectSpec,
    tokens: Tokens,
    seed: int,
    work_folder: Path,
    device: torch.device,
) -> TrainingResult:
    """Give a model what its subject has of agency, then train it further; in place.

    Args:
        model: as it was grown or loaded, in fp32.
        spec: the study.
        subject: whose model it is.
        tokens: (n,) the training split.
        seed: the point's.
        work_folder: where checkpoints go; an unfinished adaptation there is continued. They stay,
            for the caller to remove when the model is written.
        device: where the model is.

    Raises:
        ValueError: the model's attention cannot carry agency, or the text is too short.
    """
    part, window = subject.agency, spec.data.window
    if part is not None:
        agency.enable(model, agency_options(part))
        agency.calibrate(model, calibration_windows(tokens, window, part.calibration_windows))
    if spec.adaptation is None or not spec.adapts:
        return TrainingResult([], 0, 0.0)
    order, running = seed + ADAPTATION_SEED_OFFSET, Running(keep_work=True)
    if part is None or part.gate_penalty is None:
        return train(
            model, tokens, window, spec.adaptation, order, work_folder, device, running=running
        )
    rate = part.gate_learning_rate
    with learning_gates(model, penalty=part.gate_penalty, learning_rate=rate) as loss:
        return train(
            model,
            tokens,
            window,
            spec.adaptation,
            order,
            work_folder,
            device,
            running=running,
            loss_function=loss,
        )
