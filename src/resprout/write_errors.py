"""What the system and the libraries say where a file cannot be written, made one and named."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from resprout.hints import first_line

# The names of what is being written. Only such names are ever cleared away after a kill.
TEMPORARY = ".resprout-unfinished-"
_TORCHS_FULL_DISK = ("inline_container.cc", "PytorchStreamWriter failed")


class WriteError(OSError):
    """What was made cannot be written: a full disk, most often."""


@contextmanager
def writing(what: str) -> Iterator[None]:
    """The libraries' several errors for a full disk become one.

    Raises:
        WriteError: naming `what`.
    """
    try:
        yield
    except WriteError:
        raise
    except MemoryError:
        raise
    except (OSError, SafetensorError, RuntimeError) as error:  # torch has only the last
        if type(error).__name__ == "OutOfMemoryError":  # torch's
            raise
        raise WriteError(f"{what} cannot be written ({reason_of(error)})") from error


def reason_of(error: BaseException) -> str:
    """Why something could not be written, without the name of a temporary file."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if any(sign in str(error) for sign in _TORCHS_FULL_DISK):
        return "a full disk most likely: torch could not write all of a file"
    return first_line(error)


def in_one_line(error: BaseException) -> str:
    """What was to be written, and why it cannot be."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return reason_of(error)


def is_unwritable(error: BaseException) -> bool:
    """Whether an error means that nothing more can be written: whoever goes on meets it again."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, WriteError) or (isinstance(link, OSError) and link.errno in full):
            return True
        link = link.__cause__ or link.__context__
    return False


@contextmanager
def named(path: Path) -> Iterator[None]:
    """The system's errors name what was to be written, not what it was called meanwhile."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename not in (None, *_within(path, error.filename)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _within(path: Path, name: object) -> tuple[object, ...]:
    return (name,) if str(name).startswith(f"{path.parent}/{TEMPORARY}") else ()
