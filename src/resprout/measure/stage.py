"""What a stage of work cost: seconds and the peak of memory while it ran."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from resprout.models.device import synchronise

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


@contextmanager
def stage(stages: dict[str, Any], name: str, device: torch.device) -> Iterator[None]:
    """Time a block and write `{seconds, peak_bytes, memory}` under `name` when it ends well.

    On a GPU the peak is torch's allocator's on that device; on a CPU the process's resident
    memory, its mark reset at the start where the system allows (Linux), else of the whole run.
    """
    on_gpu = device.type == "cuda"
    if on_gpu:
        synchronise(device)
        torch.cuda.reset_peak_memory_stats(device)
        memory = "device"
    else:
        memory = "process" if _reset_resident_peak() else "process since start"
    started = time.perf_counter()
    yield
    synchronise(device)
    seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated(device) if on_gpu else _resident_peak_bytes()
    stages[name] = {"seconds": round(seconds, 3), "peak_bytes": peak, "memory": memory}


def _reset_resident_peak() -> bool:
    """Reset the process's peak of resident memory; False where the system has no such thing."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def bytes_in_use(device: torch.device) -> int | None:
    """What a `stage`'s peak starts from; None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return _of_status("VmRSS:")


def _of_status(name: str) -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None  # not Linux
    found = next((line for line in lines if line.startswith(name)), None)
    return int(found.split()[1]) * 1024 if found is not None else None


def _resident_peak_bytes() -> int:
    known = _of_status("VmHWM:")
    if known is not None:
        return known
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
