"""A folder of unfinished work, of one request by one process: resumed by the same, no other's."""

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from resprout.data.tokens import Tokens
from resprout.files import only_one, read_json, set_aside, write_json
from resprout.train.processes import is_first_process

logger = logging.getLogger(__name__)


@contextmanager
def work_in(folder: Path, name: str, request: Callable[[], dict[str, Any]]) -> Iterator[Path]:
    """Yields `folder/name`; it is removed when the block ends well, and nothing else is.

    Args:
        folder: made where it is not there; locked meanwhile.
        name: of what is worked in; beside it, `NAME.json` says of which request it is.
        request: all that determines the outcome, as JSON holds it; asked in the first process.

    Raises:
        ValueError: `folder/name` is of another request or of something else, or in use.
    """
    place, note = folder / name, folder / f"{name}.json"
    if not is_first_process():
        yield place
        return
    with only_one(folder, "work_folder"):
        _claim(place, note, request())
        yield place
        shutil.rmtree(place, ignore_errors=True)
        note.unlink()


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
