"""A folder of unfinished work, of one request by one process: resumed by the same, no other's.

Work stays until its result is on disk: who writes the result removes the work after that.
"""

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from resprout.data.tokens import Tokens
from resprout.files import TEMPORARY, only_one, read_json, set_aside, write_json, writing
from resprout.measure.stage import stage
from resprout.train.processes import is_first_process

# Beside the checkpoints of a training that came to its end: what it took.
COST = "cost.json"

logger = logging.getLogger(__name__)


@contextmanager
def work_in(
    folder: Path, name: str, request: Callable[[], dict[str, Any]], keep: bool = False
) -> Iterator[Path]:
    """Yields `folder/name`; it is removed when the block ends well, and nothing else is.

    Args:
        folder: made where it is not there; locked meanwhile.
        name: of what is worked in; beside it, `NAME.json` says of which request it is.
        request: all that determines the outcome, as JSON holds it; asked in the first process.
        keep: leave it there, for a caller who removes it when the result is on disk.

    Raises:
        ValueError: `folder/name` is of another request or of something else, or in use.
    """
    place, note = folder / name, folder / f"{name}.json"
    if not is_first_process():
        yield place
        return
    with only_one(folder, "work_folder"):
        shutil.rmtree(_removed(place), ignore_errors=True)
        _claim(place, note, request())
        yield place
        if not keep:
            remove_work(place)


def remove_work(place: Path) -> None:
    """Remove work whose result is on disk, then the note that says of which request it was.

    It goes under another name at once, so that no half of it is ever taken for work.
    """
    aside = _removed(place)
    shutil.rmtree(aside, ignore_errors=True)  # what a kill left there
    with suppress(OSError):
        place.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)
    if not place.exists():
        place.with_name(f"{place.name}.json").unlink(missing_ok=True)


def _removed(place: Path) -> Path:
    """What work is called while it is removed."""
    return place.with_name(f"{TEMPORARY}{place.name}")


@contextmanager
def training_stage(
    stages: dict[str, Any], name: str, device: torch.device, work: Path
) -> Iterator[None]:
    """A `stage` that trains and leaves its checkpoints until the result is written.

    What it took stays with them. A later process that makes up for the writing alone tells that,
    and not the moment in which it read the last checkpoint.

    Args:
        stages: as of `stage`, like `name` and `device`.
        name: of the stage.
        device: where it is trained.
        work: the folder of the checkpoints.
    """
    with stage(stages, name, device):
        yield
    if not any(work.glob("checkpoint-*")) or not is_first_process():
        return
    before = _cost(work / COST)
    if before is not None:
        stages[name] = before
        return
    with writing(str(work / COST)):
        write_json(work / COST, stages[name])


def _cost(note: Path) -> dict[str, Any] | None:
    """What a training took that came to its end before; None where none did."""
    try:
        found = read_json(note)
    except (OSError, ValueError):
        return None
    whole = isinstance(found, dict) and {"seconds", "peak_bytes", "memory"} <= found.keys()
    return found if whole else None


def _claim(place: Path, note: Path, request: dict[str, Any]) -> None:
    if place.exists():
        named = f"work_folder: {str(place)!r}"
        before = _noted(place, note) if note.is_file() else None
        if not place.exists():
            return write_json(note, request)
        if not isinstance(before, dict):
            raise ValueError(f"{named} is there but not by us; allowed is a folder without it")
        other = [key for key in request if before.get(key, ...) != request[key]]
        if other:
            raise ValueError(f"{named} is of another request ({other[0]} differs); remove it first")
    write_json(note, request)


def _noted(place: Path, note: Path) -> Any:
    """Of which request a folder is; one whose note is broken is set aside with it."""
    try:
        return read_json(note)
    except ValueError:
        aside = set_aside(place).name, set_aside(note).name
        logger.warning("%s is broken; set aside as %s, and its folder as %s", note, *aside[::-1])
        return None


def weights_digest(model: nn.Module) -> str:
    """sha256 over all that a model's folder would hold: parameters, states of heads, names."""
    total = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        total.update(name.encode())
        values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        total.update(values.numpy().tobytes())
    return total.hexdigest()


def ids_digest(ids: Tokens) -> str:
    """sha256 over token ids, whatever integers they are held in."""
    return hashlib.sha256(np.ascontiguousarray(ids, dtype=np.int64).tobytes()).hexdigest()
