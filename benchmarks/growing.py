"""Growing a study's subject from the study's own recipe and measuring it; shared by searches."""

from pathlib import Path

import torch
from transformers import PreTrainedModel

from resprout.measure.loss import window_losses
from resprout.study.spec import SubjectSpec
from resprout.study.subjects import Subjects
from resprout.train.trainer import TrainingResult, train


def grow(
    subjects: Subjects,
    subject: SubjectSpec,
    model: PreTrainedModel,
    seed: int,
    device: torch.device,
) -> tuple[float, TrainingResult]:
    """Train a new `model` in place; its held-out nats per token, and how the training went."""
    spec, tokens = subjects.spec, subjects.tokens(subject)
    result = train(
        model,
        tokens.train.tokens,
        spec.data.window,
        spec.training_of(subject),
        seed,
        Path(subjects.folder) / "work",
        device,
    )
    losses = window_losses(model, tokens.val, spec.data.window)
    return float(losses.nats.sum() / losses.tokens.sum()), result
