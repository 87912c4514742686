"""Pieces of text to token ids, on all cores, in the order that they came in."""

import os
import re
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from resprout.data.pieces import Item, Piece, Position, Skipped
from resprout.data.sources import is_held_out
from resprout.data.words import Words

# By size, not by number of documents, so that memory stays flat: an encoding takes some forty
# times its text while it is in the library's hands.
BATCH_BYTES = 2 * 2**20
# While one call hands its ids over to Python, on one core, another keeps the other cores busy.
CALLS_AT_ONCE = 2

# Remembered words take a ninth of the library's work, but Python does it on one core; from here on
# the library, on all of them, is faster.
FEW_CORES = 6

BYTE_TOKEN = re.compile("<0x[0-9A-F]{2}>")
SPACE_MARK = "\u2581"

Joint = Literal["plain", "prefixed", "none"]
Ids = NDArray[np.unsignedinteger]


@dataclass
class Batch:
    """Some pieces and what was left out among them: (index of the piece that followed, what)."""

    pieces: list[Piece] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    held: list[bool] = field(default_factory=list)
    skipped: list[tuple[int, Skipped]] = field(default_factory=list)
    position: Position | None = None
    text_bytes: int = 0

    def up_to(self, wanted: int) -> "Batch":
        """The first pieces, one or more, and what was left out before them."""
        pieces = self.pieces[:wanted]
        skipped = [(at, what) for at, what in self.skipped if at < wanted]
        return Batch(pieces, self.texts[:wanted], self.held[:wanted], skipped, pieces[-1].position)


class Encoder:
    """A tokenizer made ready for whole documents.

    Within a document its special tokens are plain text: one that holds the words `<|endoftext|>`
    does not end there.
    """

    def __init__(self, tokenizer: Tokenizer, end_of_text: int):
        self.tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self.tokenizer.encode_special_tokens = True
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.end_of_text = end_of_text
        # Not the number of entries: ids may have gaps, and a model's embedding needs the largest.
        ids = self.tokenizer.get_vocab(with_added_tokens=True).values()
        self.vocab_size = max([*ids, end_of_text]) + 1
        self.dtype = np.dtype(np.uint16 if self.vocab_size <= 2**16 else np.uint32)
        self.typecode = "H" if self.dtype.itemsize == 2 else "I"
        few = usable_cores() <= FEW_CORES
        self.words = Words.of(self.tokenizer, self.typecode) if few else None
        self.joint = self._joint()

    def _joint(self) -> Joint:
        """How the pieces of a long text are put to the tokenizer so that they give its tokens.

        `plain`: as they are. `prefixed`: the tokenizer puts a space before every text (Llama's
        does), so a piece goes without the space that it begins with. `none`: only whole.
        """
        probes = [("of words", " and more"), ("x = 12", " 34 in all"), ("Straße", " über alles")]
        lines = [("one line", "\nand another"), ("12", "\n34")]

        def same(pairs: list[tuple[str, str]], drop: int) -> bool:
            return all(
                self.encode(a + b) == self.encode(a) + self.encode(b[drop:]) for a, b in pairs
            )

        if same(probes + lines, 0):
            return "plain"
        return "prefixed" if same(probes, 1) else "none"

    def encode(self, text: str) -> list[int]:
        """Token ids of one text, without an end of text."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def encode_batch(self, batch: Batch) -> tuple[Ids, NDArray[np.int64]]:
        """(ids of all pieces one after another, number of ids of each piece).

        The end of text stands after a document's last piece and counts with it.
        """
        end = np.array([self.end_of_text], dtype=self.dtype).tobytes()
        parts, counts = [], []
        for piece, ids in zip(batch.pieces, self._encode_all(batch.texts), strict=True):
            parts.append(ids + end if piece.last else ids)
            counts.append(len(parts[-1]) // self.dtype.itemsize)
        joined = np.frombuffer(b"".join(parts), dtype=self.dtype)
        return joined, np.array(counts, dtype=np.int64)

    def _encode_all(self, texts: list[str]) -> list[bytes]:
        if self.words is not None:
            return self.words.encode(texts)
        encodings = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [array(self.typecode, encoding.ids).tobytes() for encoding in encodings]

    def token_bytes(self) -> NDArray[np.int64]:
        """(V,) how many bytes of text each token stands for; a byte-level one may be half a letter.

        Byte-level tokens have a letter per byte. In SentencePiece's a mark stands for a space, and
        `<0xE2>` for a byte; such a tokenizer may put a space before a text that is not in it.
        """
        from transformers.convert_slow_tokenizer import bytes_to_unicode

        letters = set(bytes_to_unicode().values())
        added = self.tokenizer.get_added_tokens_decoder()
        found = np.zeros(self.vocab_size, dtype=np.int64)
        byte_level = '"ByteLevel"' in self.tokenizer.to_str()
        for token, i in self.tokenizer.get_vocab(with_added_tokens=True).items():
            if i in added:
                found[i] = len(token.encode())
            elif byte_level and letters.issuperset(token):
                found[i] = len(token)
            elif BYTE_TOKEN.fullmatch(token):
                found[i] = 1
            else:
                found[i] = len(token.replace(SPACE_MARK, " ").encode())
        return found

    def encoded(
        self, items: Iterable[Item], held_out: float
    ) -> Iterator[tuple[Batch, Ids, NDArray[np.int64]]]:
        """All batches of a stream with their ids, in order; the next are read and encoded ahead."""
        waiting: deque[tuple[Batch, Future[Any]]] = deque()
        with ThreadPoolExecutor(CALLS_AT_ONCE, thread_name_prefix="encode") as pool:
            for batch in self.batches(items, held_out):
                waiting.append((batch, pool.submit(self.encode_batch, batch)))
                if len(waiting) > CALLS_AT_ONCE:
                    ready, ids = waiting.popleft()
                    yield ready, *ids.result()
            while waiting:
                ready, ids = waiting.popleft()
                yield ready, *ids.result()

    def batches(self, items: Iterable[Item], held_out: float) -> Iterator[Batch]:
        """Runs of pieces of about `BATCH_BYTES` in all; `held_out` 0 holds nothing out."""
        batch = Batch()
        begun: list[Piece] = []  # of a document that this tokenizer takes only whole
        goes_on, held, name = False, False, None
        for item in items:
            if isinstance(item, Skipped):
                batch.skipped.append((len(batch.pieces), item))
                batch.position = item.position
                continue
            if item.name != name or not goes_on:
                name, held = item.name, held_out > 0 and is_held_out(item.name, held_out)
            if self.joint == "none" and not (item.last and not begun):
                begun.append(item)
                if not item.last:
                    continue
                text = "".join(piece.text for piece in begun)
                size = sum(piece.text_bytes for piece in begun)
                item, begun = Piece(item.name, text, size, item.position), []
            drop = 1 if goes_on and self.joint == "prefixed" and item.text[0] == " " else 0
            goes_on = not item.last
            batch.pieces.append(item)
            batch.texts.append(item.text[drop:] if drop else item.text)
            batch.held.append(held)
            batch.position = item.position
            batch.text_bytes += item.text_bytes
            if batch.text_bytes >= BATCH_BYTES:
                yield batch
                batch = Batch()
        if batch.pieces or batch.skipped:
            yield batch


def usable_cores() -> int:
    """How many this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
