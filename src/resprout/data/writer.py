"""Two splits growing on disk: tokens and indexes, up to a point that is known to be whole."""

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resprout.data.encoder import Batch, Ids
from resprout.files import write_json
from resprout.seals import sealed

SPLITS = ("train", "val")
PROGRESS = "progress.json"
HEADER_BYTES = 128  # of an .npy file with two columns, whatever its number of rows
ROW_BYTES = 16  # (end in tokens, bytes), both uint64
READ_BYTES = 1 << 24


DAMAGED = (
    "out_dir: {!r} {}; allowed is the unfinished work as it was left, or to start over "
    "(--start_over)"
)


class OutputError(OSError):
    """The output cannot be written on (a full disk): what was committed is kept."""

    kept_tokens = 0


@dataclass
class Counts:
    """What a split holds so far."""

    tokens: int = 0
    text_bytes: int = 0
    documents: int = 0
    open_bytes: int = 0  # of a long document whose end has not come yet

    @property
    def index_bytes(self) -> int:
        """Of the index file."""
        return HEADER_BYTES + ROW_BYTES * self.documents


class Writer:
    """`train.bin`, `val.bin` and their indexes in a folder of unfinished work."""

    def __init__(
        self,
        folder: Path,
        dtype: np.dtype[Any],
        counts: dict[str, Counts],
        cut: bool,
        digests: dict[str, str] | None = None,
    ):
        """Take up the files where `counts` says they are whole.

        Args:
            folder: of the unfinished work.
            dtype: of a token.
            counts: split -> what was committed.
            cut: whether to cut what lies behind that. Not while a tail is being moved.
            digests: file -> sha256 of what was committed of it (an index without its header), to
                compare it with.

        Raises:
            ValueError: a file is shorter than what was committed, or differs from it.
        """
        self.folder = folder
        self.dtype = dtype
        self.counts = counts
        self.files: dict[str, int] = {}
        self.hashes = {name: hashlib.sha256() for name in self._sizes()}
        with output_errors(folder):
            for name, size in self._sizes().items():
                self.files[name] = self._open(name, size, cut)
            if cut:
                self.hash_again()
        for name, expected in (digests or {}).items():
            if cut and self.hashes[name].hexdigest() != expected:
                self.close()
                raise ValueError(DAMAGED.format(str(folder / name), "is not as it was written"))

    def _sizes(self) -> dict[str, int]:
        sizes = {}
        for name, counts in self.counts.items():
            sizes[f"{name}.bin"] = counts.tokens * self.dtype.itemsize
            sizes[f"{name}.index.npy"] = counts.index_bytes
        return sizes

    def _open(self, name: str, size: int, cut: bool) -> int:
        descriptor = os.open(self.folder / name, os.O_RDWR | os.O_CREAT, 0o644)
        if cut:
            if size > HEADER_BYTES and os.fstat(descriptor).st_size < size:
                os.close(descriptor)
                raise ValueError(DAMAGED.format(str(self.folder / name), "has lost its end"))
            os.ftruncate(descriptor, size)  # a new index gets room for its header
        os.lseek(descriptor, 0, os.SEEK_END)
        return descriptor

    def hash_again(self) -> None:
        """Take the digests from the files: of work taken up again, and after a move."""
        for name, descriptor in self.files.items():
            self.hashes[name] = hashlib.sha256()
            at = HEADER_BYTES if name.endswith(".npy") else 0
            while part := os.pread(descriptor, READ_BYTES, at):
                self.hashes[name].update(part)
                at += len(part)

    def append(self, batch: Batch, ids: Ids, counts: NDArray[np.int64]) -> None:
        """Write the pieces of a batch behind what is there, each into its split.

        Args:
            batch: P pieces.
            ids: (n,) of all pieces.
            counts: (P,) ids of each piece.
        """
        held = np.array(batch.held, dtype=bool)
        last = np.array([piece.last for piece in batch.pieces], dtype=bool)
        sizes = np.array([piece.text_bytes for piece in batch.pieces], dtype=np.int64)
        with output_errors(self.folder):
            for name, mine in (("train", ~held), ("val", held)):
                if not mine.any():
                    continue
                split, ended = self.counts[name], last[mine]
                chosen = ids if mine.all() else ids[np.repeat(mine, counts)]
                ends = (split.tokens + np.cumsum(counts[mine]))[ended]
                read = split.open_bytes + np.cumsum(sizes[mine])
                rows = np.column_stack([ends, np.diff(read[ended], prepend=0)])
                self._write(f"{name}.bin", chosen)
                self._write(f"{name}.index.npy", rows.astype("<u8"))
                split.tokens += len(chosen)
                split.documents += len(rows)
                split.text_bytes += int(sizes[mine].sum())
                split.open_bytes = int(read[-1] - (read[ended][-1] if len(rows) else 0))

    def _write(self, name: str, data: NDArray[Any]) -> None:
        write_all(self.files[name], data)
        self.hashes[name].update(data.data)

    def commit(self, progress: dict[str, Any]) -> None:
        """Make all that was written safe, and then say so, with what else there is to remember."""
        with output_errors(self.folder):
            for descriptor in self.files.values():
                os.fsync(descriptor)
            counts = {name: asdict(split) for name, split in self.counts.items()}
            digests = {name: found.hexdigest() for name, found in self.hashes.items()}
            said = progress | {"counts": counts, "digests": digests}
            write_json(self.folder / PROGRESS, sealed(said))

    def close(self) -> None:
        """Let go of the files."""
        for descriptor in self.files.values():
            os.close(descriptor)
        self.files = {}

    def describe(self) -> None:
        """Write the indexes' headers, now that their lengths are known."""
        with output_errors(self.folder):
            for name, split in self.counts.items():
                header = index_header(split.documents)
                os.pwrite(self.files[f"{name}.index.npy"], header, 0)
            for descriptor in self.files.values():
                os.fsync(descriptor)


def index_header(rows: int) -> bytes:
    """How an .npy file of that many rows of two uint64 begins; 128 bytes."""
    out = io.BytesIO()
    described = {"descr": "<u8", "fortran_order": False, "shape": (rows, 2)}
    np.lib.format.write_array_header_1_0(out, described)
    assert out.tell() == HEADER_BYTES
    return out.getvalue()


def write_all(descriptor: int, data: Any) -> None:
    """Write every byte of bytes or of an array; a system call may take only a part of them."""
    view = memoryview(data).cast("B") if len(data) else memoryview(b"")
    while view:
        view = view[os.write(descriptor, view) :]


@contextmanager
def output_errors(folder: Path) -> Iterator[None]:
    """The system's errors in writing the output, told from those in reading a source."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(error.errno, error.strerror, str(folder)) from error
