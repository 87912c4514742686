"""Subjects of a study: grown once per recipe and kept, or loaded; and the tokens each one reads."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel

from resprout.data import sources
from resprout.data.held_out import HeldOut, of_tokens
from resprout.data.prepare import prepare_documents
from resprout.data.sources import Document
from resprout.data.tokenizer import digest as tokenizer_digest
from resprout.data.tokenizer import for_transformers
from resprout.data.tokens import TokenSet
from resprout.files import file_sha256, set_aside
from resprout.hints import first_line
from resprout.measure.stage import stage
from resprout.measure.text.prompts import named_prompts
from resprout.models import sizes
from resprout.models.identity import shape_identity, weights_identity
from resprout.models.positions import position_limit
from resprout.models.sizes import SIZES, build
from resprout.models.subject import load, tokenizer_home
from resprout.study.adaptation import (
    adapt,
    adaptation_identity,
    calibration_windows,
    is_adapted,
)
from resprout.study.checks import shape_of
from resprout.study.kept_subjects import Grown, is_as_written, read_subject, write_subject
from resprout.study.points import digest
from resprout.study.spec import StudySpec, SubjectSpec
from resprout.train.options import TrainingOptions
from resprout.train.trainer import train

Notice = Callable[[str], None]


class Subjects:
    """The subjects of one study in one run's folder."""

    def __init__(self, spec: StudySpec, folder: Path, device: torch.device, notice: Notice):
        self.spec = spec
        self.folder = folder
        self.device = device
        self.notice = notice
        self._tokens: dict[str, TokenSet] = {}
        self._held_out: dict[str, HeldOut] = {}
        self._tokenizers: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}

    @cached_property
    def documents(self) -> list[Document]:
        """The study's text, read once."""
        return sources.read_source(self.spec.data.source)

    @cached_property
    def _documents_digest(self) -> str:
        return sources.digest(self.documents)

    def held_out(self, subject: SubjectSpec) -> HeldOut:
        """The validation split as the loss is measured on it, read once per tokenizer."""
        tokens = self.tokens(subject)
        if tokens.digest not in self._held_out:
            self._held_out[tokens.digest] = of_tokens(tokens, None, self.spec.data.source)
        return self._held_out[tokens.digest]

    def tokens(self, subject: SubjectSpec) -> TokenSet:
        """The study's text in the tokens of a subject, prepared once per tokenizer."""
        data = self.spec.data
        maker, named = self._tokenizer(subject)
        key = digest(
            {
                "documents": self._documents_digest,
                "held_out": data.held_out,
                "maker": named,
            }
        )
        if key not in self._tokens:
            path = self.folder / "data" / key
            if path.exists() and not _is_whole(path):
                self.notice(f"{path} is broken; set aside as {set_aside(path).name}")
            if not path.exists():
                self.notice(f"tokenising {data.source} for {subject.name}")
                prepare_documents(self.documents, path, data.held_out, source=data.source, **maker)
            self._tokens[key] = TokenSet.open(path)
        return self._tokens[key]

    def _tokenizer(self, subject: SubjectSpec) -> tuple[dict[str, Any], dict[str, Any]]:
        """What `prepare` is told of a subject's tokenizer, and what names that tokenizer."""
        if subject.name not in self._tokenizers:
            self._tokenizers[subject.name] = self._find_tokenizer(subject)
        return self._tokenizers[subject.name]

    def _find_tokenizer(self, subject: SubjectSpec) -> tuple[dict[str, Any], dict[str, Any]]:
        if subject.model in SIZES:
            size = self.spec.data.train_tokenizer
            return {"vocab_size": size}, {"train_tokenizer": size}
        home = tokenizer_home(subject.model)
        try:
            own = AutoTokenizer.from_pretrained(home, revision=subject.revision)
        except Exception as error:  # many libraries' errors, all meaning that it cannot be had
            raise ValueError(
                f"subject {subject.name!r}: no tokenizer ({first_line(error)})"
            ) from error
        if not own.is_fast or own.eos_token_id is None:
            raise ValueError(
                f"subject {subject.name!r}: its tokenizer has no fast form or no end of text"
            )
        end = own.eos_token_id
        named = {"tokenizer": tokenizer_digest(own.backend_tokenizer), "end_of_text": end}
        return {"tokenizer": own.backend_tokenizer, "end_of_text": end}, named

    def check_lengths(self, subject: SubjectSpec) -> None:
        """Refuse what only the tokens tell, before training: text or prompts of the wrong length.

        Raises:
            ValueError: a training split shorter than a window or than what agency is calibrated
                on, or a prompt that does not fit the context with its continuation, or is empty.
        """
        tokens = self.tokens(subject)
        window, found = self.spec.data.window, len(tokens.train.tokens)
        if found <= window:
            raise ValueError(
                f"data.window: got {window}, allowed is less than the training split's "
                f"{found} tokens"
            )
        if subject.agency is not None:
            windows = subject.agency.calibration_windows
            try:
                calibration_windows(tokens.train.tokens, window, windows)
            except ValueError as error:
                raise ValueError(f"subject {subject.name!r}: agency.{error}") from error
        text = self.spec.text
        if text is None or "text" not in self.spec.measures:
            return
        limit = position_limit(shape_of(subject))
        encoder = tokens.tokenizer()
        for prompt in named_prompts(text.prompts):
            needed = len(encoder.encode(prompt.text).ids) + text.new_tokens
            if needed == text.new_tokens:
                raise ValueError(
                    f"text.prompts.{prompt.name}: got no token, allowed is one or more"
                )
            if limit is not None and needed > limit:
                raise ValueError(
                    f"text.prompts.{prompt.name}: needs {needed} positions with its "
                    f"{text.new_tokens} new tokens, allowed are the {limit} of {subject.name!r}"
                )

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

    def get(self, subject: SubjectSpec, seed: int) -> Grown:
        """The subject as it is cut: grown and adapted now if it was not before."""
        if not is_adapted(self.spec, subject):
            return self._base(subject, seed)
        path = self._place(self.recipe(subject, seed))
        if not path.exists():
            self._adapt(subject, seed, path)
        return read_subject(path, self.device)

    def _base(self, subject: SubjectSpec, seed: int) -> Grown:
        """The subject before its adaptation; subjects of one recipe share it."""
        if subject.model not in SIZES:
            model, tokenizer = load(subject.model, subject.revision, device=self.device)
            if tokenizer is None:
                raise ValueError(f"subject {subject.name!r}: {subject.model!r} has no tokenizer")
            return Grown(model, tokenizer, weights_identity(subject.model, subject.revision), {})
        path = self._place(self._base_recipe(subject, seed))
        if not path.exists():
            self._grow(subject, seed, path)
        return read_subject(path, self.device)

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
        with stage(stages, "train", self.device):
            result = train(
                model,
                tokens.train.tokens,
                self.spec.data.window,
                options,
                seed,
                work,
                self.device,
            )
        tokenizer = for_transformers(tokens.tokenizer(), self._context(model))
        write_subject(path, model, tokenizer, self._base_recipe(subject, seed), result, stages)

    def _adapt(self, subject: SubjectSpec, seed: int, path: Path) -> None:
        base = self._base(subject, seed)
        stages = dict(base.stages)
        work = self._begin("adapting", subject, seed, self.spec.adaptation, path)
        with stage(stages, "adaptation", self.device):
            ids = self.tokens(subject).train.tokens
            result = adapt(base.model, self.spec, subject, ids, seed, work, self.device)
        recipe = self.recipe(subject, seed)
        write_subject(path, base.model, base.tokenizer, recipe, result, stages)

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
        work = self.folder / "work" / path.name
        again = ", continuing where a run was stopped" if work.exists() else ""
        self.notice(f"{doing} {subject.name}, seed {seed}: {amount:,} tokens{again}")
        return work

    def _context(self, model: PreTrainedModel) -> int:
        return position_limit(model.config) or self.spec.data.window


def _is_whole(path: Path) -> bool:
    """Whether prepared data is as it was written: every token, and the tokenizer."""
    try:
        tokens = TokenSet.open(path)
        same = tokenizer_digest(tokens.tokenizer()) == tokens.tokenizer_digest
        for name, entry in tokens.manifest["splits"].items():
            same = same and file_sha256(path / f"{name}.bin") == entry["sha256"]
    except Exception:  # whatever a broken file makes its reader raise
        return False
    return same
