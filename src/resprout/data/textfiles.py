"""A file that is one document: read whole where it is small, streamed where it is not."""

import ast
import codecs
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from resprout.data.pieces import (
    MIN_DOCUMENT_CHARACTERS,
    PIECE_CHARACTERS,
    Item,
    Piece,
    Skipped,
    cut_at,
    pieces_of,
    utf8_bytes,
)

READ_WHOLE_BYTES = 4 * 2**20
BLOCK_BYTES = 2**20


def read_text(path: Path, name: str, before: Any, after: Any, given: int) -> Iterator[Item]:
    """The document of a text file: UTF-8, or what a Python file declares.

    A file with a byte that cannot be decoded is left out whole; the place is named. Line ends
    become newlines, as everywhere in Python, and a byte order mark is no text.
    """
    try:
        encoding = _encoding(path)
    except (SyntaxError, UnicodeDecodeError, LookupError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        yield Skipped("undecodable", f"{name} ({reason})", [after, 0])
        return
    if path.stat().st_size <= READ_WHOLE_BYTES:
        try:
            text = path.read_bytes().decode(encoding)
        except (UnicodeDecodeError, LookupError) as error:
            yield Skipped("undecodable", f"{name} ({_place(error, 0)})", [after, 0])
            return
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        yield from pieces_of(name, text, before, after, given)
        return
    if not given:  # an earlier run that gave pieces had looked through it
        fault, characters = _look_through(path, encoding)
        if fault:
            yield Skipped("undecodable", f"{name} ({fault})", [after, 0])
            return
        if characters < MIN_DOCUMENT_CHARACTERS:
            yield Skipped("short", name, [after, 0])
            return
    yield from _streamed(path, encoding, name, before, after, given)


def read_topics(path: Path) -> str:
    """The prose of `pydoc_data/topics.py`, a module that assigns one dict of help texts."""
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            return "\n\n".join(ast.literal_eval(node.value).values())
    raise ValueError(f"source: {path.name} of this Python has no dict of topics")


def _encoding(path: Path) -> str:
    if path.suffix != ".py":
        return "utf-8-sig"
    with path.open("rb") as file:
        declared = tokenize.detect_encoding(file.readline)[0]
    return "utf-8-sig" if declared == "utf-8" else declared


def _place(error: Exception, offset: int) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"byte {offset + error.start}: {error.reason}"
    return str(error)


def _look_through(path: Path, encoding: str) -> tuple[str | None, int]:
    """What cannot be decoded in a large file, if anything, and its characters."""
    decoder = codecs.getincrementaldecoder(encoding)()
    offset = characters = 0
    with path.open("rb") as file:
        while True:
            block = file.read(BLOCK_BYTES)
            waiting = len(decoder.getstate()[0])
            try:
                characters += len(decoder.decode(block, final=not block))
            except UnicodeDecodeError as error:
                return _place(error, offset - waiting), characters
            if not block:
                return None, characters
            offset += len(block)


def _streamed(
    path: Path, encoding: str, name: str, before: Any, after: Any, given: int
) -> Iterator[Item]:
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
    text, start, number, whole = "", 0, 0, False
    with path.open("rb") as file:
        while True:
            end = cut_at(text, start, whole) if len(text) - start > PIECE_CHARACTERS + 1 else None
            if end is None and whole:
                end = len(text)
            if end is None:
                block = file.read(BLOCK_BYTES)
                whole = not block
                text = text[start:] + decoder.decode(block, final=whole)
                start = 0
                continue
            number += 1
            last = whole and end == len(text)
            if number > given:
                piece = text[start:end]
                position = [after, 0] if last else [before, number]
                yield Piece(name, piece, utf8_bytes(piece) or 0, position, last)
            if last:
                return
            start = end
