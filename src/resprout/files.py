"""Writing files so that a kill at any moment leaves either the old one or the new one, whole.

And telling, by digests written beside them, whether they are still as they were written.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from resprout.write_errors import TEMPORARY as TEMPORARY
from resprout.write_errors import WriteError as WriteError
from resprout.write_errors import in_one_line as in_one_line
from resprout.write_errors import is_unwritable as is_unwritable
from resprout.write_errors import named
from resprout.write_errors import writing as writing

# Beside the files of a model folder of our making: what they were when they were written.
DIGESTS = "digests.json"


def write_text(path: Path, text: str) -> None:
    """Write a text file whole: temporary file beside it, fsync, rename.

    Raises:
        OSError: it cannot be written; names the file.
    """
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
    except RecursionError as error:
        raise ValueError(f"{path}: not a JSON file that is read here (nested too deep)") from error
    except ValueError as error:  # not UTF-8, not JSON, a number of thousands of digits
        raise ValueError(f"{path}: not a JSON file ({error})") from error


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush_to_disk(path: Path) -> None:
    """Have the system write a file's bytes out now, so that a power cut cannot lose them."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def note_digests(folder: Path, name: str = DIGESTS) -> None:
    """Bring all files of a folder to the disk, then write down their sizes and sha256.

    Args:
        folder: whose files; those in folders within it too.
        name: of the file that they are noted in.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / name:
            flush_to_disk(path)
            shown = path.relative_to(folder).as_posix()
            files[shown] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    write_json(folder / name, files)


def first_damage(
    folder: Path, name: str = DIGESTS, among: Collection[str] | None = None
) -> str | None:
    """The first file of a folder that is not as noted in `name` (or is itself `name`), else None.

    Args:
        folder: in which `note_digests` noted.
        name: of that note.
        among: look at these alone.
    """
    try:
        for shown, entry in read_json(folder / name).items():
            if among is not None and shown not in among:
                continue
            path = folder / shown
            if ".." in path.parts or not path.is_relative_to(folder):
                return name
            if not path.is_file() or path.stat().st_size != entry["bytes"]:
                return str(shown)
            if file_sha256(path) != entry["sha256"]:
                return str(shown)
    except (OSError, ValueError, AttributeError, KeyError, TypeError):  # whatever a broken note has
        return name
    return None


def check_digests(folder: Path, option: str, among: Collection[str] | None = None) -> None:
    """Refuse a folder of our making that has changed since; one without digests passes.

    Args:
        folder: any.
        option: what the user calls it.
        among: look at these files alone.

    Raises:
        ValueError: naming the first file that differs.
    """
    if not (folder / DIGESTS).is_file():
        return
    damaged = first_damage(folder, among=among)
    if damaged is not None:
        raise ValueError(
            f"{option}: {str(folder / damaged)!r} is damaged, it is not as it was written; allowed "
            f"is a whole one (if you changed it yourself, remove {DIGESTS} beside it)"
        )


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


def check_new(path: Path, option: str = "path") -> None:
    """Refuse a place where something is. `option`: what the user calls it.

    Raises:
        ValueError: `path` exists and is not an empty folder.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{option}: {str(path)!r} exists; allowed is a new or an empty folder")


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

    Raises:
        OSError: it cannot be written; names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with named(path):
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
def new_folder(path: Path, digests: bool = False, replace: bool = True) -> Iterator[Path]:
    """A folder that appears under `path` only when the block ends well, replacing an older one.

    Yields a temporary folder beside `path` to write into.

    Args:
        path: of the folder.
        digests: note in it what its files were when they were written (`check_digests`).
        replace: False keeps what another has put there meanwhile, and raises.

    Raises:
        OSError: it cannot be written; or, without `replace`, there is more than an empty folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with named(path):
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=TEMPORARY))
        try:
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    file.chmod(0o644)  # some writers leave 0600: hidden from colleagues
                    flush_to_disk(file)
            if digests:
                note_digests(temporary)
            temporary.chmod(0o755)
            if replace and path.exists():
                shutil.rmtree(path)
            temporary.rename(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
