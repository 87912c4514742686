"""Subjects of a study: grown once per recipe and kept, or loaded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from resprout.data.tokenizer import for_transformers
from resprout.files import set_aside
from resprout.models import sizes
from resprout.models.identity import shape_identity, weights_identity
from resprout.models.positions import position_limit
from resprout.models.sizes import SIZES, build
from resprout.models.subject import load
from resprout.study.adaptation import (
    adapt,
    adaptation_identity,
    is_adapted,
)
from resprout.study.kept_subjects import Grown, is_as_written, read_subject, write_subject
from resprout.study.points import digest
from resprout.study.spec import StudySpec, SubjectSpec
from resprout.study.store import WORK
from resprout.study.study_tokens import StudyTokens
from resprout.train.options import TrainingOptions
from resprout.train.running import Running
from resprout.train.trainer import train
from resprout.train.work_folder import remove_work, training_stage

Notice = Callable[[str], None]


class Subjects(StudyTokens):
    """The subjects of one study in one run's folder, and the tokens that each one reads.

    Args:
        spec: the study.
        folder: of the run.
        device: where models are trained and measured.
        notice: called with one line as each step begins.
        ready: see `StudyTokens`.
    """

    def __init__(
        self,
        spec: StudySpec,
        folder: Path,
        device: torch.device,
        notice: Notice,
        ready: dict[str, Path] | None = None,
    ):
        super().__init__(spec, folder, notice, ready)
        self.device = device

    def recipe(self, subject: SubjectSpec, seed: int) -> dict[str, Any]:
        """All that determines a subject's weights as they are cut."""
        base = self._base_recipe(subject, seed)
        if not is_adapted(self.spec, subject):
            return base
        return {
            "base": base,
            **adaptation_identity(self.spec, subject),
            "tokens": self.tokens(subject).digest,
            "window": self.spec.data.window,
            "seed": seed,
            "device": self.device.type,
        }

    def _base_recipe(self, subject: SubjectSpec, seed: int) -> dict[str, Any]:
        """All that determines a subject's weights before its adaptation."""
        if subject.model not in SIZES:
            return {
                "model": subject.model,
                "weights": weights_identity(subject.model, subject.revision),
            }
        return {
            "config": shape_identity(self.configuration(subject)),
            "training": self.spec.training_of(subject).identity(),
            "tokens": self.tokens(subject).digest,
            "window": self.spec.data.window,
            "seed": seed,
            "device": self.device.type,
        }

    def configuration(self, subject: SubjectSpec) -> PreTrainedConfig:
        """The shape of a subject to grow, with the vocabulary of the study's own tokenizer."""
        manifest = self.tokens(subject).manifest
        changes = subject.config | {
            "vocab_size": manifest["vocab_size"],
            "bos_token_id": manifest["end_of_text"],
            "eos_token_id": manifest["end_of_text"],
        }
        return sizes.configuration(subject.model, **changes)

    def unmade(self, subject: SubjectSpec, seed: int) -> list[tuple[Literal["grow", "adapt"], str]]:
        """What must be done before the subject can be had, in order, each with what names it."""
        steps: list[tuple[Literal["grow", "adapt"], str]] = []
        if is_adapted(self.spec, subject):
            path = self._place(self.recipe(subject, seed))
            if path.exists():
                return []
            steps.append(("adapt", path.name))
        if subject.model in SIZES:
            path = self._place(self._base_recipe(subject, seed))
            if not path.exists():
                steps.insert(0, ("grow", path.name))
        return steps

    def grow(self, subject: SubjectSpec, seed: int) -> None:
        """Grow a subject, if that was not done before; subjects of one recipe share it."""
        path = self._place(self._base_recipe(subject, seed))
        if not path.exists():
            self._grow(subject, seed, path)

    def adapt(self, subject: SubjectSpec, seed: int) -> None:
        """Adapt a subject, if that was not done before."""
        path = self._place(self.recipe(subject, seed))
        if not path.exists():
            self._adapt(subject, seed, path)

    def get(self, subject: SubjectSpec, seed: int) -> Grown:
        """The subject as it is cut: grown and adapted now if it was not before."""
        if not is_adapted(self.spec, subject):
            return self._base(subject, seed)
        self.adapt(subject, seed)
        return read_subject(self._place(self.recipe(subject, seed)), self.device)

    def _base(self, subject: SubjectSpec, seed: int) -> Grown:
        """The subject before its adaptation."""
        if subject.model not in SIZES:
            model, tokenizer = load(subject.model, subject.revision, device=self.device)
            if tokenizer is None:
                raise ValueError(f"subject {subject.name!r}: {subject.model!r} has no tokenizer")
            return Grown(model, tokenizer, weights_identity(subject.model, subject.revision), {})
        self.grow(subject, seed)
        return read_subject(self._place(self._base_recipe(subject, seed)), self.device)

    def _place(self, recipe: dict[str, Any]) -> Path:
        """Where a subject of that recipe is kept; what is broken there is set aside."""
        path = self.folder / "subjects" / digest(recipe)
        if path.exists() and not is_as_written(path):
            self.notice(f"{path} is broken; set aside as {set_aside(path).name}")
        return path

    def _grow(self, subject: SubjectSpec, seed: int, path: Path) -> None:
        tokens = self.tokens(subject)
        options = self.spec.training_of(subject)
        model = build(self.configuration(subject), seed)
        stages: dict[str, Any] = {}
        work = self._begin("growing", subject, seed, options, path)
        with training_stage(stages, "train", self.device, work):
            result = train(
                model,
                tokens.train.tokens,
                self.spec.data.window,
                options,
                seed,
                work,
                self.device,
                running=Running(keep_work=True),
                notice=self.notice,
            )
        tokenizer = for_transformers(tokens.tokenizer(), self._context(model))
        write_subject(path, model, tokenizer, self._base_recipe(subject, seed), result, stages)
        remove_work(work)

    def _adapt(self, subject: SubjectSpec, seed: int, path: Path) -> None:
        base = self._base(subject, seed)
        stages = dict(base.stages)
        work = self._begin("adapting", subject, seed, self.spec.adaptation, path)
        with training_stage(stages, "adaptation", self.device, work):
            ids = self.tokens(subject).train.tokens
            result = adapt(base.model, self.spec, subject, ids, seed, work, self.device)
        recipe = self.recipe(subject, seed)
        write_subject(path, base.model, base.tokenizer, recipe, result, stages)
        remove_work(work)

    def _begin(
        self,
        doing: str,
        subject: SubjectSpec,
        seed: int,
        options: TrainingOptions | None,
        path: Path,
    ) -> Path:
        """Say what begins; where it is worked."""
        amount = 0
        if options is not None:
            windows = options.steps * options.batch_windows * options.accumulation
            amount = windows * self.spec.data.window
        work = self.work_of(path.name)
        again = ", continuing where a run was stopped" if work.exists() else ""
        self.notice(f"{doing} {subject.name}, seed {seed}: {amount:,} tokens{again}")
        return work

    def work_of(self, name: str) -> Path:
        """Where the checkpoints of a subject or a point are until that is written."""
        return self.folder / WORK / name

    def _context(self, model: PreTrainedModel) -> int:
        return position_limit(model.config) or self.spec.data.window
