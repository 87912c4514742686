"""Where a cut is worked on until its folder is there: beside it, by one process, kept after a kill.

`.OUT.work/` holds the checkpoints of a recovery, and what is being written; it goes when `OUT` is
there. `outcome` becomes `OUT` by one renaming, before which `delivered` is written: `delivered`
without `outcome` says that nothing in the folder is needed any more.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from resprout.files import TEMPORARY, WriteError, check_new, only_one, writing
from resprout.study.cut_asked import Asked
from resprout.train.checkpoints import COMPLETE
from resprout.train.work_folder import remove_work

# What `recover` and `prune_and_recover` call their work.
RECOVERY, CYCLES = "recovery", "cycles"
_OUTCOME = "outcome"
_DELIVERED = "delivered"
_LOCK = ".out.lock"  # of all that is done here; a recovery has a lock of its own within


def training_place(asked: Asked) -> Path | None:
    """Where the checkpoints of the recovery are; None where none was asked for."""
    if asked.recover_steps is None:
        return None
    return asked.work_folder / (CYCLES if (asked.cycles or 1) > 1 else RECOVERY)


@contextmanager
def cut_work(asked: Asked) -> Iterator[Path]:
    """Yields a new path to write the folder to; it becomes `out` when the block ends well.

    However it ends, nothing of what was written stays; the checkpoints of a recovery stay where it
    ends badly.

    Raises:
        ValueError: another process works on the same `out`; it is there by now; a recovery of
            another kind is unfinished for it.
        WriteError: the folder cannot be written, or something came to `out` meanwhile.
    """
    work, outcome = asked.work_folder, asked.work_folder / _OUTCOME
    with only_one(work, "out", _LOCK):
        try:
            check_new(asked.out, "out")  # another process may have made it meanwhile
            _clear(work)
            _check_unfinished(asked)
            yield outcome
            (work / _DELIVERED).touch()
            with writing(str(asked.out)):
                outcome.rename(asked.out.resolve())
        except WriteError as error:  # named as the user calls it
            raise WriteError(str(error).replace(str(outcome), str(asked.out))) from error
        finally:
            _clear(work)
            _remove_empty(work)


def _clear(work: Path) -> None:
    """Remove what is of no use: all, where the outcome was delivered; else what was not."""
    delivered, outcome = work / _DELIVERED, work / _OUTCOME
    if delivered.exists() and not outcome.exists():
        for path in work.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name not in (_DELIVERED, _LOCK):
                path.unlink()
    delivered.unlink(missing_ok=True)
    for leftover in (outcome, *work.glob(f"{TEMPORARY}*")):
        shutil.rmtree(leftover, ignore_errors=True)


def _check_unfinished(asked: Asked) -> None:
    """Refuse to go over the checkpoints of a recovery that this request would not go on with.

    Raises:
        ValueError: there are some.
    """
    place = training_place(asked)
    own = place.name if place is not None else None
    for path in asked.work_folder.iterdir():
        others = path.name.partition(".")[0] != own  # a broken one is aside as `NAME.corrupt-N`
        if others and path.is_dir() and any(path.rglob(COMPLETE)):
            raise ValueError(
                f"out: {str(asked.out)!r} has an unfinished recovery in {str(path)!r}; allowed is "
                "the command that began it, to go on with it, or another out, or to remove that "
                "folder first"
            )
    for name in {RECOVERY, CYCLES} - {own}:
        remove_work(asked.work_folder / name)  # killed before its first checkpoint


def _remove_empty(work: Path) -> None:
    """The folder goes, its locks last, where it holds no work."""
    if any((work / name).exists() for name in (RECOVERY, CYCLES)):
        return
    for name in (RECOVERY, CYCLES):
        remove_work(work / name)  # a note of a recovery that wrote nothing
    for lock in (".lock", _LOCK):
        (work / lock).unlink(missing_ok=True)
    with suppress(OSError):  # something that is not ours, or the next process already
        work.rmdir()
