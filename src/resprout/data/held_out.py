"""Held-out text in a model's own tokens, document by document: what a loss is measured on."""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from resprout.data.encoder import Encoder
from resprout.data.pieces import MIN_DOCUMENT_CHARACTERS, Piece
from resprout.data.sources import DEFAULT_FIELD, find_source, is_held_out, refuse_unreadable
from resprout.data.tokens import MANIFEST, TokenSet
from resprout.hints import is_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Of these only a share is held out, as studies do by default: they are large, and the rest is what
# models here are grown on. All other text is taken whole.
SHARES = {"stdlib": 0.02, "installed": 0.005}

Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Documents in the tokens of one model.

    Attributes:
        documents: (n,) token ids of each, without an end of text.
        bytes: UTF-8 bytes of each document's text.
        words: of each, parted by white space; None where the text itself is not at hand.
        end_of_text: stands after each document in the stream; None where there is none.
        source: as the user named it.
        definition: which figure of the literature is made from it, if any (`wikitext2`).
    """

    documents: Sequence[Ids]
    bytes: NDArray[np.int64]
    words: NDArray[np.int64] | None
    end_of_text: int | None
    source: str
    definition: str | None = None

    @cached_property
    def stream(self) -> Ids:
        """(n,) all documents one after another, the end of text after each."""
        end = [] if self.end_of_text is None else [self.end_of_text]
        parts = [part for ids in self.documents for part in (ids, np.array(end, dtype=np.int64))]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    @cached_property
    def ends(self) -> Ids:
        """(n,) where each document ends in the stream, its end of text included."""
        extra = 0 if self.end_of_text is None else 1
        return np.cumsum([len(ids) + extra for ids in self.documents], dtype=np.int64)

    @property
    def text_bytes(self) -> int:
        """UTF-8 bytes of all documents."""
        return int(self.bytes.sum())

    @property
    def word_count(self) -> int | None:
        """Words of all documents."""
        return None if self.words is None else int(self.words.sum())

    @cached_property
    def digest(self) -> str:
        """16 hex digits of sha256 over the stream: equal digests, equal tokens."""
        return hashlib.sha256(self.stream.astype("<i8").tobytes()).hexdigest()[:16]


def check_held_out(
    source: str | Path, text_field: str = DEFAULT_FIELD, share: float | None = None
) -> None:
    """Refuse what is not there or not whole, before all of it is read.

    Raises:
        ValueError: no such source, or nothing of it is held out.
    """
    if (Path(source) / MANIFEST).is_file():
        TokenSet.open(Path(source), checked=True)  # sizes alone; digests when it is read
        return
    try:
        found = find_source(str(source), text_field)
        found.check()
    except ValueError as error:
        raise _named(error) from error
    if str(source) not in SHARES and os.path.lexists(source):
        next(_documents(str(source), share, text_field))


def check_share(source: str | Path, share: float | None) -> None:
    """Refuse a share that is none, or that a source cannot be divided by.

    Raises:
        ValueError: naming it.
    """
    if share is None:
        return
    if not 0 < share <= 1:
        raise ValueError(f"held_out: got {share}, allowed is above 0 and up to 1")
    if (Path(source) / MANIFEST).is_file():
        raise ValueError(
            f"held_out: got {share}, not allowed with the prepared folder {str(source)!r}, "
            "which has its own"
        )


def read_held_out(
    source: str | Path,
    tokenizer: "PreTrainedTokenizerBase | None",
    share: float | None = None,
    text_field: str = DEFAULT_FIELD,
) -> HeldOut:
    """The held-out documents of a source.

    Args:
        source: a folder of `resprout prepare`, of which the validation split is taken, or text as
            `resprout.data.sources.find_source` takes it: `stdlib`, `installed`, `hf:NAME`, a file,
            a folder.
        tokenizer: the subject's. Compared with that of a prepared folder.
        share: of text, the fraction of documents that is held out, chosen by a hash of their names;
            default all, of `stdlib` 0.02 and of `installed` 0.005.
        text_field: of JSON lines, Parquet and Hub data sets.

    Raises:
        ValueError: no such source; text that cannot be read; nothing held out; no tokenizer, or
            another than that of the prepared folder.
    """
    check_share(source, share)
    if (Path(source) / MANIFEST).is_file():
        return of_tokens(TokenSet.open(Path(source)), tokenizer)
    name = str(source)
    return of_texts(list(_documents(name, share, text_field)), tokenizer, name)


def of_texts(
    texts: Sequence[str],
    tokenizer: "PreTrainedTokenizerBase | None",
    source: str = "texts",
    *,
    originals: Sequence[str] | None = None,
    definition: str | None = None,
) -> HeldOut:
    """Texts as held-out documents.

    Args:
        texts: what the model reads.
        tokenizer: the subject's.
        source: how the user knows them.
        originals: the texts whose bytes and words count, where others are read.
        definition: see `HeldOut`.

    Raises:
        ValueError: no tokenizer, or one that cannot begin the pages of a definition; no text, or
            what cannot be written as UTF-8.
    """
    if tokenizer is None:
        raise ValueError("tokenizer: got none; text needs the subject's own")
    if not any(texts):
        raise ValueError(f"data: {source!r} holds no text")
    for number, text in enumerate(texts):
        if not is_text(text):  # which no tokenizer takes
            raise ValueError(
                f"data: {source!r}: document {number} holds half a surrogate pair; allowed is text "
                "that is UTF-8"
            )
    end = tokenizer.eos_token_id
    backend = getattr(tokenizer, "backend_tokenizer", None)
    # In text the words `<|endoftext|>` within a document are no end of it, as in training.
    # lm-eval's figures are made with the tokenizer as it is, and with the beginning that it adds.
    special = False
    if definition is not None:
        begin = tokenizer.bos_token
        if begin is None and end is None:
            raise ValueError(
                f"tokenizer: {definition!r} begins each page with the beginning or end of text, "
                "and this one names neither"
            )
        special = begin is None or not any(text.startswith(begin) for text in texts)

    def plain(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=special).input_ids)

    encode = plain
    if isinstance(backend, Tokenizer) and definition is None:
        encode = Encoder(backend, end or 0).encode

    counted = texts if originals is None else originals
    return HeldOut(
        documents=[np.array(encode(text), dtype=np.int64) for text in texts],
        bytes=np.array([len(text.encode("utf-8", "replace")) for text in counted]),
        words=np.array([count_words(text) for text in counted]),
        end_of_text=end,
        source=source,
        definition=definition,
    )


def count_words(text: str) -> int:
    """Words parted by white space; as lm-eval counts, empty ones at the ends too."""
    return len(re.split(r"\s+", text))


def of_tokens(
    tokens: TokenSet, tokenizer: "PreTrainedTokenizerBase | None", source: str | None = None
) -> HeldOut:
    """The validation split of a prepared folder.

    Args:
        tokens: the folder.
        tokenizer: the subject's, compared with the folder's; None is not.
        source: how the user knows the text; default the folder's path.

    Raises:
        ValueError: prepared with another tokenizer; nothing held out.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    own = getattr(tokenizer, "name_or_path", "")
    tokens.check_vocabulary(backend if isinstance(backend, Tokenizer) else None, "data", own)
    split = tokens.val
    ids = np.asarray(split.tokens, dtype=np.int64)
    if len(ids) < 2:
        raise ValueError(f"data: {str(tokens.path)!r} holds out {len(ids)} tokens, needs 2 or more")
    if split.index_path is not None:
        ends = [int(end) for end in split.index[:, 0]]
        sizes = np.asarray(split.index[:, 1], dtype=np.int64)
    else:
        ends, sizes = [len(ids)], np.array([split.text_bytes])
    # The last token of each is its end of text, but where the split was cut within a document.
    last = int(ids[-1])
    ended = all(int(ids[end - 1]) == last for end in ends)
    begins = [0, *ends[:-1]]
    documents = [
        ids[begin : end - ended] for begin, end in zip(begins, ends, strict=True) if end > begin
    ]
    decoder, end = tokens.tokenizer(), last if ended else None
    words = np.array([count_words(decoder.decode(list(part))) for part in documents])
    return HeldOut(documents, sizes, words, end, source or str(tokens.path))


def _documents(source: str, asked: float | None, text_field: str) -> Iterator[str]:
    """The texts of a source's held-out documents, whole.

    Raises:
        ValueError: there are none.
    """
    share = SHARES.get(source, 1.0) if asked is None else asked
    parts: list[str] = []
    some = False
    try:
        for item in find_source(source, text_field).pieces(None):
            if not isinstance(item, Piece):
                refuse_unreadable(source, item)
                continue
            if share < 1 and not is_held_out(item.name, share):
                continue
            parts.append(item.text)
            if item.last:
                yield "".join(parts)
                parts, some = [], True
    except ValueError as error:
        raise _named(error) from error
    if not some:
        least = f"{MIN_DOCUMENT_CHARACTERS} characters"
        raise ValueError(f"data: {source!r} has no held-out document of at least {least}")


def _named(error: ValueError) -> ValueError:
    """The same error under the option's own name."""
    return ValueError("data: " + str(error).removeprefix("source: "))
