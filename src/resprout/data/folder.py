"""The folder that prepared text goes into: whose it is, who works in it, what is done there."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from resprout.data.writer import (
    DAMAGED,
    HEADER_BYTES,
    PROGRESS,
    SPLITS,
    OutputError,
    index_header,
    output_errors,
)
from resprout.files import TEMPORARY, only_one, read_json, unwritable, write_text
from resprout.seals import seal_holds

MANIFEST = "manifest.json"
WORK = "unfinished"
LOCK = ".lock"
# There from before the first of our files is removed until all of them are.
STARTING_OVER = ".starting-over"
FORMAT = 2  # of manifest and progress; the first had no index
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                   "chat_template.jinja", "added_tokens.json")  # fmt: skip
PRODUCTS = (*(f"{split}{kind}" for split in SPLITS for kind in (".bin", ".index.npy")),
            *TOKENIZER_FILES)  # fmt: skip


class OutputFolder:
    """`OUT`, and `OUT/unfinished` while work is going on."""

    def __init__(self, path: Path):
        self.path = path
        self.work = path / WORK

    def check(self, start_over: bool) -> None:
        """Refuse what cannot be written, and what is not ours, without touching anything.

        Args:
            start_over: whether what is ours is to be removed; remains of it alone, without the
                manifest or the record that says what they are, are refused otherwise.

        Raises:
            ValueError: a file, an unwritable place, a folder that holds something else.
        """
        shown = repr(str(self.path))
        if os.path.lexists(self.path) and not self.path.is_dir():
            raise ValueError(f"out_dir: {shown} is a file; allowed is a folder")
        if obstacle := unwritable(self.path):
            raise ValueError(
                f"out_dir: {shown} cannot be written (see {str(obstacle)!r}); "
                "allowed is a folder that can"
            )
        for parent in self.path.absolute().parents:
            known = (parent / MANIFEST).is_file() or (parent / WORK / PROGRESS).is_file()
            if known and OutputFolder(parent)._is_ours():
                raise ValueError(
                    f"out_dir: {shown} lies in the prepared folder {str(parent)!r}; allowed is a "
                    "folder of its own"
                )
        names = sorted(path.name for path in self._visible())
        foreign = [name for name in names if name not in (*PRODUCTS, MANIFEST, WORK)]
        if names and not foreign and not self._is_ours():
            if not self._holds_indexes():
                foreign = names
            elif not start_over and MANIFEST not in names:
                raise ValueError(
                    f"out_dir: {shown} holds remains of prepared text, such as {names[0]!r}, "
                    "without a record of what it was; allowed is another out_dir, or --start_over "
                    "to remove what is there"
                )
        if foreign:
            raise ValueError(
                f"out_dir: {shown} holds {foreign[0]!r}, which is not of this program's making; "
                "allowed is a new or empty folder, or one that was prepared before"
            )

    def _visible(self) -> list[Path]:
        """What is there but for the lock and other hidden files."""
        found = self.path.iterdir() if self.path.is_dir() else []
        return [path for path in found if path.name[0] != "."]

    def _is_ours(self) -> bool:
        """A manifest of ours, or work of ours: what `begin` makes before anything else."""
        if self.is_starting_over:
            return True
        manifest = _read(self.path / MANIFEST)
        if manifest is not None:
            return "tokenizer_sha256" in manifest and "splits" in manifest
        if (self.path / MANIFEST).exists() or not self.work.is_dir():
            return False
        inside = [path.name for path in self.work.iterdir()]
        return PROGRESS in inside or all(name.startswith(TEMPORARY) for name in inside)

    def _holds_indexes(self) -> bool:
        """Whether an index of ours is there; what bears our names beside it is then ours too."""
        names = [f"{split}.index.npy" for split in SPLITS]
        if any(_is_index(self.path / name) for name in names):
            return True
        inside = [path.name for path in self.work.iterdir()] if self.work.is_dir() else []
        known = all(name in (*PRODUCTS, MANIFEST) or name.startswith(TEMPORARY) for name in inside)
        return known and any(name in inside for name in names)  # they have no header yet

    @property
    def is_starting_over(self) -> bool:
        """Whether a call that was to start over was stopped before all was removed."""
        return (self.path / STARTING_OVER).exists()

    def finished(self) -> dict[str, Any] | None:
        """The manifest of finished work, None where there is none.

        Raises:
            ValueError: it is damaged; what it says is then not believed.
        """
        path = self.path / MANIFEST
        found = _read(path)
        if (found is None and path.exists()) or not seal_holds(found):
            raise ValueError(
                f"out_dir: {str(path)!r} is damaged, it is not as it was written; allowed is "
                "another out_dir, or --start_over to remove what is there"
            )
        return found

    def progress(self) -> dict[str, Any] | None:
        """How far unfinished work has come, None where there is none.

        Raises:
            ValueError: its record is damaged; what it says is then not believed.
        """
        path = self.work / PROGRESS
        found = _read(path)
        if (found is None and path.exists()) or not seal_holds(found):
            raise ValueError(DAMAGED.format(str(path), "is not as it was written"))
        return found

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and keep others out of it; the system lifts the lock however we end.

        Raises:
            ValueError: another process prepares text into it; it cannot be made.
        """
        with only_one(self.path, "out_dir", LOCK):
            for leftover in self.path.glob(f"{TEMPORARY}*"):
                if leftover.is_dir():
                    shutil.rmtree(leftover, ignore_errors=True)
                else:
                    leftover.unlink(missing_ok=True)
            try:
                yield
            except ValueError:
                # Refused before anything was read: no trace stays. What was read before is kept.
                progress = self.progress()
                if not self.ready and not (progress and progress["counts"]):
                    self.discard()
                raise

    def begin(self) -> None:
        """Make room for new work."""
        with output_errors(self.path):
            self.work.mkdir(exist_ok=True)

    def start_over(self) -> None:
        """Remove what we made, finished or not, and nothing else."""
        with output_errors(self.path):
            write_text(self.path / STARTING_OVER, "")
            _sync(self.path)
            # The manifest first: without it the rest is never taken for finished work.
            for name in (MANIFEST, *PRODUCTS):
                (self.path / name).unlink(missing_ok=True)
            if self.work.is_dir():
                shutil.rmtree(self.work)
            _sync(self.path)
            (self.path / STARTING_OVER).unlink()

    def discard(self) -> None:
        """Remove unfinished work, and the folder where it held nothing else."""
        aside = self.path / f"{TEMPORARY}{WORK}"
        with suppress(OSError):
            self.work.rename(aside)  # at once: a kill leaves no half of it that nobody knows
        for path in (aside, self.work):
            shutil.rmtree(path, ignore_errors=True)
        if self.path.is_dir() and {path.name for path in self.path.iterdir()} <= {LOCK}:
            (self.path / LOCK).unlink(missing_ok=True)
            self.path.rmdir()

    @property
    def ready(self) -> bool:
        """Whether the work is whole and only has to be put into its place."""
        return (self.work / MANIFEST).is_file()

    def deliver(self) -> None:
        """Put whole work into its place, the manifest last; may be done again after a kill."""
        with output_errors(self.path):
            for name in (*PRODUCTS, MANIFEST):
                if (self.work / name).exists():
                    (self.work / name).replace(self.path / name)
                    _sync(self.path)
            shutil.rmtree(self.work)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _is_index(path: Path) -> bool:
    """Whether a file begins as an index of ours does, whatever its number of rows."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    return head.startswith(index_header(0).partition(b"(")[0]) and b", 2)" in head


def _sync(folder: Path) -> None:
    """Make renames in a folder last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


__all__ = ["FORMAT", "MANIFEST", "PRODUCTS", "WORK", "OutputError", "OutputFolder"]
