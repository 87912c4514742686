"""Lines of JSON, plain or compressed, one document each; what is damaged is named, not fatal."""

import codecs
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from resprout.data.pieces import DamagedError, Item, Skipped, pieces_of
from resprout.hints import first_line

BLOCK_BYTES = 2**20
# Small, since zstd can make thousands of bytes of one: what a block gives has to fit in memory.
ZSTD_BLOCK_BYTES = 4096
LONGEST_LINE_BYTES = 64 * 2**20
SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst")


def read_lines(
    path: Path, name: str, field: str, index: int, base: list[int] | None, given: int
) -> Iterator[Item]:
    """The documents of a file of JSON lines.

    Args:
        path: the file.
        name: of the file; a document's name is `FILE:LINE`, counted from 1.
        field: of each object, that holds its text.
        index: of the file in its source; the base of a position is `[index, [offset, lines]]`.
        base: `[offset, lines]` already read, None at the beginning; bytes of the decompressed file.
        given: pieces already given of the document there.
    """
    offset, number = base or (0, 0)
    before = [index, [offset, number]]
    try:
        for line, end in _split(_blocks(path, offset), offset):
            number += 1
            if number == 1 and line:
                line = line.removeprefix(codecs.BOM_UTF8)
            after = [index, [end, number]]
            yield from _document(line, f"{name}:{number}", field, before, after, given)
            before, given = after, 0
    except DamagedError as error:
        # Past the end, so that a run that goes on from here does not count the damage again.
        after = [index + 1, None]
        yield Skipped("corrupt", f"{name} from line {number + 1} on ({error})", [after, 0])


def _document(
    line: bytes | None, where: str, field: str, before: Any, after: Any, given: int
) -> Iterator[Item]:
    if line is None:
        reason = f"{where} (a line of more than {LONGEST_LINE_BYTES >> 20} MiB)"
        yield Skipped("corrupt", reason, [after, 0])
        return
    if not line.strip():
        return
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError as error:
        fault = f"{where} (byte {error.start} of the line: {error.reason})"
        yield Skipped("undecodable", fault, [after, 0])
        return
    except (ValueError, RecursionError) as error:
        yield Skipped("corrupt", f"{where} ({first_line(error)})", [after, 0])
        return
    text = row.get(field) if isinstance(row, dict) else None
    if not isinstance(text, str):
        yield Skipped("no_text", where, [after, 0])
        return
    yield from pieces_of(where, text, before, after, given)


def first_rows(path: Path, count: int = 100) -> list[Any]:
    """The first rows of a file that are JSON, at most `count`, from its first MiB or so."""
    rows = []
    try:
        for line, end in _split(_blocks(path, 0), 0):
            try:
                rows.append(json.loads(line or b""))
            except (ValueError, RecursionError):
                continue
            finally:
                done = len(rows) >= count or end > BLOCK_BYTES
            if done:
                break
    except DamagedError:
        pass
    return rows


def _split(blocks: Iterator[bytes], offset: int) -> Iterator[tuple[bytes | None, int]]:
    """(line without its end, offset after it); None for a line that is too long to hold."""
    parts: list[bytes] = []
    held = 0
    for block in blocks:
        lines = block.split(b"\n")
        rest = lines.pop()
        for line in lines:
            whole: bytes | None = b"".join((*parts, line)) if parts else line
            offset += held + len(line) + 1
            if held + len(line) > LONGEST_LINE_BYTES:
                whole = None
            parts, held = [], 0
            yield whole, offset
        held += len(rest)
        if held > LONGEST_LINE_BYTES:
            parts = []  # only its length matters from here on
        elif rest:
            parts.append(rest)
    if held:
        yield b"".join(parts) if held <= LONGEST_LINE_BYTES else None, offset + held


def _blocks(path: Path, offset: int) -> Iterator[bytes]:
    """The file's bytes from `offset` on; a compressed one is read up to there and that thrown."""
    if path.suffix not in (".gz", ".zst"):
        with path.open("rb") as file:
            file.seek(offset)
            while block := file.read(BLOCK_BYTES):
                yield block
        return
    unpack = _unpack_gzip if path.suffix == ".gz" else _unpack_zstd
    for block in unpack(path):
        if offset >= len(block):
            offset -= len(block)
        elif offset:
            yield block[offset:]
            offset = 0
        else:
            yield block


def _unpack_gzip(path: Path) -> Iterator[bytes]:
    def fresh() -> Any:
        return zlib.decompressobj(wbits=31)

    with path.open("rb") as file:
        unpacker, begun = fresh(), False
        while block := file.read(BLOCK_BYTES):
            while block:
                if not begun:
                    block = block.lstrip(b"\0")  # members may be padded with zeros
                    if not block:
                        break
                begun = True
                yield from _some(unpacker.decompress, block, BLOCK_BYTES)
                block = unpacker.unconsumed_tail
                if unpacker.eof:
                    block, unpacker, begun = unpacker.unused_data, fresh(), False
    if begun:
        yield from _some(unpacker.flush)
        raise DamagedError("it ends too soon")


def _unpack_zstd(path: Path) -> Iterator[bytes]:
    import zstandard

    maker = zstandard.ZstdDecompressor(max_window_size=2**31)
    with path.open("rb") as file:
        unpacker, begun = maker.decompressobj(), False
        while block := file.read(ZSTD_BLOCK_BYTES):
            while block:
                begun = True
                yield from _some(unpacker.decompress, block)
                block = b""
                if unpacker.eof:
                    block = unpacker.unused_data
                    unpacker, begun = maker.decompressobj(), False
    if begun:
        raise DamagedError("it ends too soon")


def _some(unpack: Callable[..., bytes], *given: Any) -> Iterator[bytes]:
    """What a call unpacks, if anything; the libraries' own errors as `DamagedError`."""
    try:
        found = unpack(*given)
    except Exception as error:  # zlib.error, zstandard.ZstdError: neither shares a useful parent
        raise DamagedError(first_line(error)) from error
    if found:
        yield found
