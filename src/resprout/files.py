"""Writing files so that a kill at any moment leaves either the old one or the new one, whole."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

# The names of what is being written. Only such names are ever cleared away after a kill.
TEMPORARY = ".resprout-unfinished-"


def write_text(path: Path, text: str) -> None:
    """Write a text file whole: temporary file beside it, fsync, rename."""
    with new_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole; NaN and infinities are refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: the file is not JSON; the message names it.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not a JSON file ({error})") from error


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush_to_disk(path: Path) -> None:
    """Have the system write a file's bytes out now, so that a power cut cannot lose them."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def set_aside(path: Path) -> Path:
    """Rename what is broken to a free `NAME.corrupt-N`, so that it is never used and never lost."""
    number = 1
    while (aside := path.with_name(f"{path.name}.corrupt-{number}")).exists():
        number += 1
    return path.rename(aside)


def unwritable(folder: Path) -> Path | None:
    """What keeps a folder from being made or written to: the nearest that is there; else None."""
    nearest = folder.absolute()
    while not os.path.lexists(nearest):
        nearest = nearest.parent
    fine = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    return None if fine else nearest


@contextmanager
def only_one(folder: Path, option: str, lock_name: str = ".lock") -> Iterator[None]:
    """Keep other processes out of a folder; the system lifts the lock however this one ends.

    Args:
        folder: made where it is not there.
        option: what the user calls it, for the error.
        lock_name: of the file that is locked.

    Raises:
        ValueError: another process holds it; it cannot be made.
    """
    named = f"{option}: {str(folder)!r}"
    lock = FileLock(folder / lock_name, timeout=0)  # the other may go on for days
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise ValueError(f"{named} is in use by another run; allowed is one at a time") from error
    except OSError as error:
        raise ValueError(f"{named} cannot be written ({error.strerror})") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A file that appears under `path` only when the block ends well, replacing an older one.

    Yields a temporary path beside it to write to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        flush_to_disk(temporary)
        temporary.chmod(0o644)  # mkstemp's 0600 would hide it from colleagues
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder that appears under `path` only when the block ends well, replacing an older one.

    Yields a temporary folder beside `path` to write into.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=TEMPORARY))
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                file.chmod(0o644)  # some writers leave 0600, which would hide it from colleagues
                flush_to_disk(file)
        temporary.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
