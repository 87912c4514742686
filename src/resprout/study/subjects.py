"""Subjects of a study: grown once per recipe and kept, or loaded; and the tokens each one reads."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from resprout.data import sources
from resprout.data.held_out import HeldOut, of_tokens
from resprout.data.prepare import prepare_documents
from resprout.data.sources import Document
from resprout.data.tokenizer import digest as tokenizer_digest
from resprout.data.tokenizer import for_transformers
from resprout.data.tokens import TokenSet
from resprout.files import file_sha256, new_folder, read_json, set_aside, write_json
from resprout.hints import first_line
from resprout.measure.stage import stage
from resprout.measure.text.prompts import named_prompts
from resprout.models import sizes
from resprout.models.identity import files_digest, shape_identity, weights_identity
from resprout.models.positions import position_limit
from resprout.models.sizes import SIZES, build
from resprout.models.subject import load, tokenizer_home
from resprout.study.checks import shape_of
from resprout.study.points import digest
from resprout.study.spec import StudySpec, SubjectSpec
from resprout.train.trainer import train

Notice = Callable[[str], None]
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
            ValueError: a training split shorter than a window, or a prompt that does not fit the
                context with its continuation, or is empty.
        """
        tokens = self.tokens(subject)
        window, found = self.spec.data.window, len(tokens.train.tokens)
        if found <= window:
            raise ValueError(
                f"data.window: got {window}, allowed is less than the training split's "
                f"{found} tokens"
            )
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
        """All that determines a subject's weights."""
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
        """The subject, grown now if it was not before."""
        if subject.model not in SIZES:
            model, tokenizer = load(subject.model, subject.revision, device=self.device)
            if tokenizer is None:
                raise ValueError(f"subject {subject.name!r}: {subject.model!r} has no tokenizer")
            return Grown(model, tokenizer, weights_identity(subject.model, subject.revision), {})
        name = digest(self.recipe(subject, seed))
        path = self.folder / "subjects" / name
        if path.exists() and not _is_as_grown(path):
            self.notice(f"{path} is broken; set aside as {set_aside(path).name}")
        if not path.exists():
            self._grow(subject, seed, path)
        model, tokenizer = load(path, device=self.device)
        assert tokenizer is not None
        history = read_json(path / HISTORY)
        return Grown(model, tokenizer, history["weights_sha256"], {"train": history["stage"]})

    def _grow(self, subject: SubjectSpec, seed: int, path: Path) -> None:
        tokens = self.tokens(subject)
        options = self.spec.training_of(subject)
        model = build(self.configuration(subject), seed)
        stages: dict[str, Any] = {}
        amount = options.steps * options.batch_windows * self.spec.data.window
        work = self.folder / "work" / path.name
        again = ", continuing where a run was stopped" if work.exists() else ""
        self.notice(f"growing {subject.name}, seed {seed}: {amount:,} tokens{again}")
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
        with new_folder(path) as folder:
            model.save_pretrained(folder)
            tokenizer = for_transformers(tokens.tokenizer(), self._context(model))
            tokenizer.save_pretrained(folder)
            history = {
                "recipe": self.recipe(subject, seed),
                "losses": result.losses,
                "tokens": result.tokens,
                "stage": stages["train"],
                "weights_sha256": files_digest(folder),
            }
            write_json(folder / HISTORY, history)

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


def _is_as_grown(path: Path) -> bool:
    """Whether a grown subject's files are those that were written."""
    try:
        return bool(read_json(path / HISTORY)["weights_sha256"] == files_digest(path))
    except Exception:  # whatever a broken file makes its reader raise
        return False
