"""The last tokens of the training split become the validation split.

`paper` does so with the tail of the stream, as published, within a document where it falls so;
`fair` with the last document, where by their names none was held out.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resprout.data.encoder import Encoder, Ids
from resprout.data.writer import (
    DAMAGED,
    HEADER_BYTES,
    READ_BYTES,
    ROW_BYTES,
    SPLITS,
    Counts,
    Writer,
    output_errors,
    write_all,
)

COPY_BYTES = 8 * 2**20
ROWS_AT_ONCE = 2**16
TOKENS_AT_ONCE = 2**20


def plan_move(writer: Writer, encoder: Encoder, moved_tokens: int | None) -> dict[str, Any]:
    """What `move_tail` will do, as JSON, all figures worked out before a file is touched.

    Args:
        writer: with everything in its training split.
        encoder: that made the tokens, to tell how many bytes the halves of a cut document have.
        moved_tokens: how many become validation; None: the last document.
    """
    train = writer.counts["train"]
    if moved_tokens is None:
        start = int(_rows(writer, train.documents - 2, 1)[0, 0])
    else:
        start = train.tokens - moved_tokens
    kept, begin, kept_bytes = _documents_up_to(writer, start)
    halves = None
    if begin < start:
        end, size = (int(value) for value in _rows(writer, kept, 1)[0])
        first = min(size, _bytes_of(writer, encoder, begin, start))
        halves = {"end": end, "bytes": [first, size - first]}
        kept_bytes += first
    after = {
        "train": Counts(start, kept_bytes, kept + bool(halves)),
        "val": Counts(train.tokens - start, train.text_bytes - kept_bytes, train.documents - kept),
    }
    return {
        "start": start,
        "tokens": train.tokens,
        "documents": train.documents,
        "kept": kept,
        "halves": halves,
        "after": {name: asdict(counts) for name, counts in after.items()},
    }


def check_begun(writer: Writer, move: dict[str, Any], digests: dict[str, str] | None) -> None:
    """See that what a killed run left in the midst of `move_tail` is all that was there before.

    Each training file has its old length or its new one; what it has lost is then in the validation
    file, which was safe on the disk before anything was cut off.

    Args:
        writer: of the files as they were left.
        move: what was planned.
        digests: file -> sha256 of what was there before (an index without its header); None, of
            older unfinished work, compares lengths alone.

    Raises:
        ValueError: a file is not as it was written.
    """
    documents, kept = move["documents"], move["kept"]
    tokens = (move["tokens"], move["start"], move["tokens"] - move["start"])
    rows = (documents, kept + bool(move["halves"]), documents - kept)
    files = (
        ("bin", 0, writer.dtype.itemsize, tokens, _tokens_before),
        ("index.npy", HEADER_BYTES, ROW_BYTES, rows, _rows_before),
    )
    for kind, header, item, counts, read_before in files:
        train, val = (f"{name}.{kind}" for name in SPLITS)
        before, after, moved = (header + count * item for count in counts)
        with output_errors(writer.folder):
            sizes = [os.fstat(writer.files[name]).st_size for name in (train, val)]
            is_cut = sizes[0] == after != before
            whole = sizes[0] == before or (is_cut and sizes[1] == moved)
            if whole and digests is not None:
                total = hashlib.sha256()
                for part in read_before(writer, move, is_cut):
                    total.update(part)
                whole = total.hexdigest() == digests[train]
        if not whole:
            which = f"with its end in {val} is" if is_cut else "is"
            path = str(writer.folder / train)
            raise ValueError(DAMAGED.format(path, f"{which} not as it was written"))


def move_tail(writer: Writer, move: dict[str, Any]) -> None:
    """Do what `plan_move` said.

    Each step tells from its own file whether it was done before, so that a run that was killed
    among them comes to the same files.
    """
    start, kept, halves = move["start"], move["kept"], move["halves"]
    bins, indexes = (
        [writer.files[f"{name}.{kind}"] for name in SPLITS] for kind in ("bin", "index.npy")
    )
    item = writer.dtype.itemsize
    with output_errors(writer.folder):
        if os.fstat(bins[0]).st_size == move["tokens"] * item:
            os.ftruncate(bins[1], 0)
            os.lseek(bins[1], 0, os.SEEK_SET)
            for first in range(start * item, move["tokens"] * item, COPY_BYTES):
                write_all(bins[1], os.pread(bins[0], COPY_BYTES, first))
        if os.fstat(indexes[0]).st_size == HEADER_BYTES + move["documents"] * ROW_BYTES:
            os.ftruncate(indexes[1], HEADER_BYTES)
            os.lseek(indexes[1], HEADER_BYTES, os.SEEK_SET)
            for first in range(kept, move["documents"], ROWS_AT_ONCE):
                rows = _rows(writer, first, min(ROWS_AT_ONCE, move["documents"] - first)).copy()
                rows[:, 0] -= np.uint64(start)
                if halves and first == kept:
                    rows[0] = (halves["end"] - start, halves["bytes"][1])
                write_all(indexes[1], rows)
        for descriptor in writer.files.values():
            os.fsync(descriptor)
        if halves:
            row = np.array([start, halves["bytes"][0]], dtype="<u8")
            os.pwrite(indexes[0], row.tobytes(), HEADER_BYTES + kept * ROW_BYTES)
        os.ftruncate(indexes[0], HEADER_BYTES + (kept + bool(halves)) * ROW_BYTES)
        os.fsync(indexes[0])
        os.ftruncate(bins[0], start * item)
        os.fsync(bins[0])
    writer.counts = {name: Counts(**move["after"][name]) for name in SPLITS}
    writer.hash_again()


def _documents_up_to(writer: Writer, start: int) -> tuple[int, int, int]:
    """(documents that end at or before a token, where the last of them ends, their bytes)."""
    total = writer.counts["train"].documents
    kept = begin = size = 0
    for first in range(0, total, ROWS_AT_ONCE):
        rows = _rows(writer, first, min(ROWS_AT_ONCE, total - first))
        count = int(np.searchsorted(rows[:, 0], start, side="right"))
        if count:
            begin = int(rows[count - 1, 0])
            size += int(rows[:count, 1].sum())
        kept += count
        if count < len(rows):
            break
    return kept, begin, size


def _bytes_of(writer: Writer, encoder: Encoder, begin: int, end: int) -> int:
    """How many bytes the tokens from a document's beginning up to `end` stand for."""
    each = encoder.token_bytes()
    total = -1 if encoder.joint == "prefixed" else 0  # the space that the tokenizer put there
    for first in range(begin, end, TOKENS_AT_ONCE):
        total += int(each[_tokens(writer, first, min(end, first + TOKENS_AT_ONCE))].sum())
    return max(0, total)


def _tokens_before(writer: Writer, move: dict[str, Any], is_cut: bool) -> Iterator[bytes]:
    """The bytes of `train.bin` as they were before the move."""
    for name in SPLITS if is_cut else SPLITS[:1]:
        at = 0
        while part := os.pread(writer.files[f"{name}.bin"], READ_BYTES, at):
            yield part
            at += len(part)


def _rows_before(writer: Writer, move: dict[str, Any], is_cut: bool) -> Iterator[bytes]:
    """The rows of the training index as they were before the move.

    That of a document cut in two may hold its first half by now, and is put together again.
    """
    start, kept, halves = move["start"], move["kept"], move["halves"]
    for first in range(0, kept if is_cut else move["documents"], ROWS_AT_ONCE):
        end = min(first + ROWS_AT_ONCE, kept if is_cut else move["documents"])
        rows = _rows(writer, first, end - first).copy()
        if halves and first <= kept < end:
            rows[kept - first] = (halves["end"], sum(halves["bytes"]))
        yield rows.tobytes()
    for first in range(0, move["documents"] - kept if is_cut else 0, ROWS_AT_ONCE):
        count = min(ROWS_AT_ONCE, move["documents"] - kept - first)
        rows = _rows(writer, first, count, "val").copy()
        rows[:, 0] += np.uint64(start)
        if halves and first == 0:
            rows[0, 1] += np.uint64(halves["bytes"][0])
        yield rows.tobytes()


def _rows(writer: Writer, first: int, count: int, split: str = "train") -> NDArray[np.uint64]:
    """(count, 2) of a split's index."""
    at = HEADER_BYTES + first * ROW_BYTES
    data = os.pread(writer.files[f"{split}.index.npy"], count * ROW_BYTES, at)
    return np.frombuffer(data, dtype="<u8").reshape(-1, 2)


def _tokens(writer: Writer, first: int, end: int) -> Ids:
    """(end - first,) training tokens."""
    item = writer.dtype.itemsize
    data = os.pread(writer.files["train.bin"], (end - first) * item, first * item)
    return np.frombuffer(data, dtype=writer.dtype)


def one_document(source: str, target: int | None) -> str:
    """Why a single document cannot be divided; `target`: the tokens that it was enough for."""
    if target is not None:
        return (
            f"target_tokens: {target} is reached with the first document of {source!r}, which "
            "'fair' cannot divide; allowed is more, or --protocol paper"
        )
    return (
        f"protocol: {source!r} is a single document, which 'fair' cannot divide (it holds out "
        "whole documents); allowed is --protocol paper, which takes the end of the text for "
        "validation"
    )
