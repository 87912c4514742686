"""Checkpoints that are whole or not used: marked when all of them is on disk, checked before use.

A checkpoint is the folder that transformers' Trainer writes (weights, optimiser, schedule, random
states, its own state), with weights by safetensors alone and a marker, `complete.json`, written
last: name, size and sha256 of every file.
"""

import logging
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerCallback

from resprout.files import first_damage, note_digests, set_aside, writing

WEIGHTS = "weights.safetensors"
COMPLETE = "complete.json"
_NAME = re.compile(r"checkpoint-(\d+)")
Notice = Callable[[str], None]

logger = logging.getLogger(__name__)


def write_weights(state: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors whole; of names that share one tensor the first is kept."""
    seen: set[tuple[Any, ...]] = set()
    kept = {}
    for name, tensor in state.items():
        key = (tensor.untyped_storage()._cdata, tensor.storage_offset(), tuple(tensor.shape))
        if key not in seen:
            seen.add(key)
            kept[name] = tensor.contiguous()
    save_file(kept, path)


def read_weights(model: PreTrainedModel, path: Path, sharded: bool = False) -> None:
    """Read what `write_weights` wrote into the model, strictly.

    Args:
        model: of the same shape; `sharded`: by FSDP2, each process takes its part.
        path: the file.
        sharded: see `model`.

    Raises:
        ValueError: the file lacks a weight of the model, or has one that the model lacks.
    """
    state = load_file(path)
    tied = _tied_names(model)
    missing = [name for name in tied if name not in state and tied[name] not in state]
    unknown = [name for name in state if name not in tied]
    if missing or unknown:
        raise ValueError(f"{path}: does not fit the model, such as {(missing + unknown)[0]}")
    full: dict[str, Any] = {
        name: state[name] if name in state else state[first] for name, first in tied.items()
    }
    if sharded:
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
        set_model_state_dict(model, full, options=options)
    else:
        model.load_state_dict(full, strict=True)


def _tied_names(model: nn.Module) -> dict[str, str]:
    """Each name of the model's state -> the first name of the same tensor."""
    first: dict[int, str] = {}
    names = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        names[name] = first.setdefault(id(tensor), name)
    return names


class KeepCheckpoints(TrainerCallback):
    """Marks each checkpoint when all of it is on disk, then removes the oldest beyond `keep`."""

    def __init__(self, keep: int):
        self.keep = keep

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by every process after it wrote its part."""
        if dist.is_initialized():
            dist.barrier()  # the others' random states belong to it too
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir)
        with writing(f"the checkpoint of step {state.global_step} in {folder}"):
            mark_complete(folder / f"checkpoint-{state.global_step}")
        complete = sorted(
            (step, path) for step, path in _checkpoints(folder) if (path / COMPLETE).is_file()
        )
        for _, path in complete[: -self.keep]:
            (path / COMPLETE).unlink()  # a kill from here on leaves no half that looks whole
            shutil.rmtree(path)


def mark_complete(checkpoint: Path) -> None:
    """Bring all of a checkpoint to the disk, then say so."""
    note_digests(checkpoint, COMPLETE)


def logged(line: str) -> None:
    """Where a caller gives no other way to be told: a warning in the log, seen on stderr."""
    logger.warning(line)


def last_complete(folder: Path, notice: Notice = logged) -> Path | None:
    """The newest checkpoint whose files are as they were written.

    One without its marker was being written (or removed) when the run died, and is removed; one
    whose files differ from the marker is set aside, and named to `notice`.
    """
    for _, path in sorted(_checkpoints(folder), reverse=True):
        if not (path / COMPLETE).is_file():
            shutil.rmtree(path)
            continue
        damaged = first_damage(path, COMPLETE)
        if damaged is None:
            return path
        notice(f"{path / damaged} is damaged; set aside as {set_aside(path).name}")
    return None


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """(step, folder) of all checkpoints, whole or not."""
    if not folder.is_dir():
        return []
    found = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    return [(int(match[1]), path) for match, path in found if match]
