"""From a source to tokens on disk: one way for a study's few megabytes and for the whole Pile."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

from resprout.data import splitting
from resprout.data import tokenizer as bpe
from resprout.data.encoder import Batch, Encoder
from resprout.data.folder import FORMAT, MANIFEST, OutputFolder
from resprout.data.manifest import manifest_of
from resprout.data.pieces import (
    MIN_DOCUMENT_CHARACTERS,
    Skipped,
    Source,
    describe_skipped,
)
from resprout.data.request import Request
from resprout.data.sources import is_held_out
from resprout.data.writer import (
    DAMAGED,
    PROGRESS,
    SPLITS,
    Counts,
    OutputError,
    Writer,
    output_errors,
)
from resprout.files import write_json
from resprout.seals import sealed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# A kill costs at most this much work; a commit costs a few fsyncs.
COMMIT_SECONDS = 2.0

Notice = Callable[[str], None]
Progress = Callable[[int, int], None]  # told tokens and bytes of text, all in all


@dataclass(frozen=True)
class Words:
    """A tokenizer with the id of its end of text, as transformers loaded it where it did."""

    tokenizer: Tokenizer
    end_of_text: int
    pretrained: "PreTrainedTokenizerFast | None" = None


@dataclass
class State:
    """What `progress.json` remembers beside the request and the splits' counts."""

    position: Any = None
    pinned: Any = None
    pieces: int = 0
    skipped: dict[str, dict[str, Any]] = field(default_factory=dict)
    read: bool = False  # nothing more is to be read
    exhausted: bool = False  # because the source has ended
    move: dict[str, Any] | None = None
    moved: bool = False
    tokenizer_sha256: str | None = None  # of the one that is being written with


class Run:
    """One preparation, new or taken up again, in a folder that is locked for it."""

    def __init__(
        self,
        out: OutputFolder,
        request: Request,
        source: Source,
        words: Words | None,
        notice: Notice = print,
        progress: Progress = lambda tokens, text_bytes: None,
    ):
        """Args: `words`: None where a tokenizer is to be trained on the text."""
        self.out = out
        self.request = request
        self.source = source
        self.words = words
        self.notice = notice
        self.progress = progress
        self.state = State()
        self.kept_tokens = 0

    def run(self) -> None:
        """Do what is left to do.

        Raises:
            ValueError: the text is of no use, or has not the field that was asked for.
            OutputError: the disk is full; says how many tokens are kept.
            ConnectionLostError: the Hub is gone; what was committed is kept.
        """
        try:
            self._run()
        except OutputError as error:
            error.kept_tokens = self.kept_tokens
            raise

    def _run(self) -> None:
        if self.out.ready:
            self.out.deliver()
            return
        found = self.out.progress()
        counts = {name: Counts() for name in SPLITS}
        if found is None:
            self.out.begin()
            self._note_begin()
        else:
            self.state = State(**found["state"])
            if found["counts"]:
                counts = {name: Counts(**found["counts"][name]) for name in SPLITS}
            self.source.pin(self.state.pinned)
        self.kept_tokens = sum(split.tokens for split in counts.values())
        words = self._words()
        self.state.tokenizer_sha256 = bpe.digest(words.tokenizer)
        if found is None or not found["counts"]:
            self._note_begin()
        encoder = Encoder(words.tokenizer, words.end_of_text)
        digests = found.get("digests") if found else None  # older unfinished work has none
        move = self.state.move  # of a tail: a killed run may be in the midst of it
        writer = Writer(self.out.work, encoder.dtype, counts, move is None, digests)
        try:
            if move is not None:
                splitting.check_begun(writer, move, digests)
            if not self.state.read:
                self._read(writer, encoder)
            try:
                self._split(writer, encoder)
            except ValueError:  # the whole text is of no use: nothing half-written stays
                self.out.discard()
                raise
            writer.describe()
        finally:
            writer.close()
        with output_errors(self.out.path):
            manifest = manifest_of(
                self.out.work, self.request, self.source, words, encoder, writer, self.state
            )
            write_json(self.out.work / MANIFEST, manifest)
        self.out.deliver()

    def _note_begin(self) -> None:
        with output_errors(self.out.path):
            said = sealed(self._described() | {"counts": None})
            write_json(self.out.work / PROGRESS, said)

    def _described(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "request": self.request.described(),
            "state": vars(self.state),
        }

    def _commit(self, writer: Writer) -> None:
        self.state.pinned = self.source.pinned()
        writer.commit(self._described())
        self.kept_tokens = sum(split.tokens for split in writer.counts.values())

    def _words(self) -> Words:
        """The tokenizer, written into the work: a resumed run goes on with the same."""
        path = self.out.work / bpe.TOKENIZER
        if self.words is not None:
            words = self.words
        elif path.is_file():  # written last of its files, and whole
            words = self._own_words(path)
        else:
            size = self.request.train_tokenizer
            assert size is not None
            self.notice(f"training a tokenizer of {size:,} entries on the text")
            tokenizer = bpe.train_bpe(self._sample(), size)
            words = Words(tokenizer, bpe.end_of_text_id(tokenizer))
        with output_errors(self.out.path):  # again: nobody compares what stands beside it
            bpe.save(self.out.work, words.tokenizer, words.end_of_text, words.pretrained)
        return words

    def _own_words(self, path: Path) -> Words:
        """The tokenizer that an earlier run trained and went on with."""
        expected = self.state.tokenizer_sha256
        try:
            tokenizer = bpe.load(path)
        except Exception:  # the tokenizers' own, of no narrower class
            tokenizer = None
        if tokenizer is None or (expected and bpe.digest(tokenizer) != expected):
            raise ValueError(DAMAGED.format(str(path), "is not as it was written"))
        return Words(tokenizer, bpe.end_of_text_id(tokenizer))

    def _sample(self) -> Iterator[str]:
        """Text to train a tokenizer on: of documents that are not held out."""
        limit = self.request.train_tokenizer_bytes
        used, name, held = 0, None, False
        for item in self.source.sample(limit):
            if isinstance(item, Skipped):
                continue
            if item.name != name:
                name = item.name
                held = self.request.held_out > 0 and is_held_out(name, self.request.held_out)
            if not held:
                used += item.text_bytes
                yield item.text
            if used >= limit:
                return

    def _read(self, writer: Writer, encoder: Encoder) -> None:
        committed = time.monotonic()
        self._tell(writer)
        items = self.source.pieces(self.state.position)
        for batch, ids, counts in encoder.encoded(items, self.request.held_out):
            wanted = self._wanted(batch, counts, writer)
            if wanted < len(batch.pieces):
                ids, counts = ids[: int(counts[:wanted].sum())], counts[:wanted]
            if self.state.read:
                batch = batch.up_to(wanted)
            self._count(batch)
            if batch.pieces:
                writer.append(batch, ids, counts)
            self.state.position = batch.position
            self._tell(writer)
            if self.state.read:
                break
            if time.monotonic() - committed >= COMMIT_SECONDS:
                self._commit(writer)
                committed = time.monotonic()
        else:
            self.state.read = self.state.exhausted = True
        self._commit(writer)

    def _wanted(self, batch: Batch, counts: np.ndarray, writer: Writer) -> int:
        """How many pieces are wanted, up to the document with which the target is reached."""
        target = self.request.target_tokens
        if target is None:
            return len(batch.pieces)
        have = sum(split.tokens for split in writer.counts.values())
        last = np.array([piece.last for piece in batch.pieces], dtype=bool)
        reached = np.flatnonzero(last & (have + np.cumsum(counts) >= target))
        if not len(reached):
            return len(batch.pieces)
        self.state.read = True
        return int(reached[0]) + 1

    def _count(self, batch: Batch) -> None:
        self.state.pieces += len(batch.pieces)
        for _, skipped in batch.skipped:
            where = skipped.where.encode("utf-8", "replace").decode()
            entry = self.state.skipped.setdefault(skipped.reason, {"count": 0, "first": where})
            entry["count"] += 1

    def _tell(self, writer: Writer) -> None:
        counts = writer.counts.values()
        self.progress(sum(c.tokens for c in counts), sum(c.text_bytes for c in counts))

    def _split(self, writer: Writer, encoder: Encoder) -> None:
        """Give validation its part where that was not done document by document."""
        if self.state.moved:
            return
        if self.state.move is None:
            self.state.move = self._planned(writer, encoder)
            if self.state.move is None:
                return
            self._commit(writer)
        splitting.move_tail(writer, self.state.move)
        self.state.move, self.state.moved = None, True
        self._commit(writer)

    def _planned(self, writer: Writer, encoder: Encoder) -> dict[str, Any] | None:
        train, val = (writer.counts[name] for name in SPLITS)
        documents, fraction = train.documents + val.documents, self.request.val_fraction
        if not documents:
            left_out = describe_skipped(self.state.skipped)
            raise ValueError(
                f"source: {self.source.description!r} holds no document of at least "
                f"{MIN_DOCUMENT_CHARACTERS} characters"
                + (f"; left out: {left_out}" if left_out else "")
            )
        if self.request.protocol == "paper":
            return splitting.plan_move(writer, encoder, max(1, int(train.tokens * fraction)))
        if not train.documents:
            raise ValueError(
                f"val_fraction: {fraction} of {documents} documents leaves the train split empty; "
                "allowed is a fraction that gives each split at least one document"
            )
        if val.documents:
            return None
        if documents == 1:
            target = None if self.state.exhausted else self.request.target_tokens
            raise ValueError(splitting.one_document(self.source.description, target))
        return splitting.plan_move(writer, encoder, None)
