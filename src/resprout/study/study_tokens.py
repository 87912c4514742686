"""The text of a study in the tokens of each subject: prepared once per tokenizer, or given."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer

from resprout.data import sources
from resprout.data.held_out import HeldOut, of_tokens
from resprout.data.prepare import prepare_documents
from resprout.data.sources import Document
from resprout.data.tokenizer import digest as tokenizer_digest
from resprout.data.tokens import TokenSet
from resprout.files import set_aside
from resprout.hints import first_line
from resprout.measure.text.prompts import named_prompts
from resprout.models.positions import position_limit
from resprout.models.sizes import SIZES
from resprout.models.subject import tokenizer_home
from resprout.study.adaptation import calibration_windows
from resprout.study.checks import shape_of
from resprout.study.points import digest
from resprout.study.source_early import check_apart, check_split, check_tokens, of_data
from resprout.study.spec import StudySpec, SubjectSpec

Notice = Callable[[str], None]


class StudyTokens:
    """The tokens of one study in one run's folder.

    Args:
        spec: the study.
        folder: of the run.
        notice: called with one line as each step begins.
        ready: subject's name -> the folder of its tokens, where another process has prepared and
            checked them; the study's text is not read then.
    """

    def __init__(
        self, spec: StudySpec, folder: Path, notice: Notice, ready: dict[str, Path] | None = None
    ):
        self.spec = spec
        self.folder = folder
        self.notice = notice
        self._ready = ready or {}
        self._tokens: dict[str, TokenSet] = {}
        self._held_out: dict[str, HeldOut] = {}
        self._tokenizers: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}

    @cached_property
    def documents(self) -> list[Document]:
        """The study's text, read once.

        Raises:
            ValueError: it cannot be read, or holds no document.
        """
        try:
            return sources.read_source(self.spec.data.source)
        except (ValueError, OSError) as error:
            raise of_data(error) from error

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
        if subject.name in self._ready:
            path = self._ready[subject.name]
            if str(path) not in self._tokens:
                self._tokens[str(path)] = TokenSet.open(path, checked=True)
            return self._tokens[str(path)]
        data = self.spec.data
        if data.is_prepared:
            return self._prepared(subject)
        assert data.held_out is not None
        path, maker = self.place_of_tokens(subject)
        key = path.name
        if key not in self._tokens:
            if path.exists() and not is_whole(path):
                self.notice(f"{path} is broken; set aside as {set_aside(path).name}")
            if not path.exists():
                self.notice(f"tokenising {data.source} for {subject.name}")
                prepare_documents(self.documents, path, data.held_out, source=data.source, **maker)
            self._tokens[key] = TokenSet.open(path, checked=True)
        return self._tokens[key]

    def place_of_tokens(self, subject: SubjectSpec) -> tuple[Path, dict[str, Any]]:
        """Where the study's text is kept in a subject's tokens; what `prepare` is told of them."""
        maker, named = self._tokenizer(subject)
        key = digest(
            {
                "documents": self._documents_digest,
                "held_out": self.spec.data.held_out,
                "maker": named,
            }
        )
        return self.folder / "data" / key, maker

    def _prepared(self, subject: SubjectSpec) -> TokenSet:
        """The tokens that the study was given.

        Raises:
            ValueError: they are another tokenizer's than the subject's, or not whole.
        """
        if subject.name not in self._tokens:
            found = TokenSet.open(Path(self.spec.data.source))
            if subject.model not in SIZES:
                own = self._tokenizer(subject)[0]["tokenizer"]
                found.check_vocabulary(own, "data.source", subject.model)
            self._tokens[subject.name] = found
        return self._tokens[subject.name]

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

    def check_text(self) -> None:
        """Refuse text and tokenizers that cannot be used, before anything is written.

        What only the text in a subject's tokens tells is left to `check_lengths`.

        Raises:
            ValueError: text that cannot be read, that the run's folder lies in, or of which a split
                is empty; prepared data in other tokens; a subject without a tokenizer.
        """
        data = self.spec.data
        check_apart("out", self.folder, "data.source", data.source)
        if data.is_prepared:
            for subject in self.spec.subjects:
                self.check_lengths(subject)
            return
        assert data.held_out is not None
        try:
            check_split([document.name for document in self.documents], data.held_out)
        except ValueError as error:
            raise of_data(error) from error
        for subject in self.spec.subjects:
            maker, _ = self._tokenizer(subject)
            if "tokenizer" in maker:
                self._check_prompts(subject, maker["tokenizer"])

    def check_lengths(self, subject: SubjectSpec) -> None:
        """Refuse what only the tokens tell, before training: text or prompts of the wrong length.

        Raises:
            ValueError: a training split shorter than a window or than what agency is calibrated
                on, held-out text of one window, or a prompt that does not fit the context with its
                continuation, or is empty.
        """
        tokens, window = self.tokens(subject), self.spec.data.window
        try:
            check_tokens(tokens, window)
        except ValueError as error:
            raise of_data(error) from error
        if subject.agency is not None:
            windows = subject.agency.calibration_windows
            try:
                calibration_windows(tokens.train.tokens, window, windows)
            except ValueError as error:
                raise ValueError(f"subject {subject.name!r}: agency.{error}") from error
        self._check_prompts(subject, tokens.tokenizer())

    def _check_prompts(self, subject: SubjectSpec, encoder: Tokenizer) -> None:
        text = self.spec.text
        if text is None or "text" not in self.spec.measures:
            return
        limit = position_limit(shape_of(subject))
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


def is_whole(path: Path) -> bool:
    """Whether prepared data is as it was written: every token, and the tokenizer."""
    try:
        tokens = TokenSet.open(path)
        return tokenizer_digest(tokens.tokenizer()) == tokens.tokenizer_digest
    except Exception:  # whatever a broken file makes its reader raise
        return False
