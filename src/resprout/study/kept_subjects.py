"""A subject's folder in a run: written whole, with how it came to be, and checked when read."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from resprout.files import DIGESTS, first_damage, new_folder, read_json, write_json, writing
from resprout.models.identity import files_digest
from resprout.models.subject import load
from resprout.train.trainer import TrainingResult

HISTORY = "training.json"


@dataclass(frozen=True)
class Grown:
    """A subject ready to be cut: its model on the device, its tokenizer, and where it came from.

    `kept` holds what was found of the uncut model and serves all its points.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    digest: str
    stages: dict[str, Any]
    kept: dict[Any, Any] = field(default_factory=dict)


def write_subject(
    path: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    recipe: dict[str, Any],
    result: TrainingResult,
    stages: dict[str, Any],
) -> None:
    """Write a subject whole, or not at all.

    Args:
        path: of its folder, which is not there yet.
        model: trained.
        tokenizer: its own.
        recipe: all that determines its weights.
        result: of its (last) training.
        stages: what each stage of its making took.
    """
    with writing(str(path)), new_folder(path, digests=True) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        history = {
            "recipe": recipe,
            "losses": result.losses,
            "tokens": result.tokens,
            "stages": stages,
            "weights_sha256": files_digest(folder),
        }
        write_json(folder / HISTORY, history)


def read_subject(path: Path, device: torch.device) -> Grown:
    """A subject that was written, on the device."""
    model, tokenizer = load(path, device=device)
    assert tokenizer is not None
    history = read_json(path / HISTORY)
    stages = history.get("stages") or {"train": history["stage"]}  # as older runs wrote it
    return Grown(model, tokenizer, history["weights_sha256"], stages)


def is_as_written(path: Path) -> bool:
    """Whether a subject's files are those that were written."""
    try:
        if (path / DIGESTS).is_file():
            return first_damage(path) is None
        # An older one: configuration, weights and tokenizer alone.
        return bool(read_json(path / HISTORY)["weights_sha256"] == files_digest(path))
    except Exception:  # whatever a broken file makes its reader raise
        return False
