"""Growing a study's subject from the study's own recipe and measuring it; shared by benchmarks."""

from pathlib import Path

import torch
from transformers import PreTrainedModel

from resprout.data.tokens import TokenSet
from resprout.measure.loss import window_losses
from resprout.study.spec import SubjectSpec
from resprout.study.subjects import Subjects
from resprout.train.trainer import TrainingResult, train


def held_out_loss(model: PreTrainedModel, tokens: TokenSet, window: int) -> float:
    """Nats per token over the whole held-out set."""
    losses = window_losses(model, tokens.val, window)
    return float(losses.nats.sum() / losses.tokens.sum())


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
    return held_out_loss(model, tokens, spec.data.window), result
