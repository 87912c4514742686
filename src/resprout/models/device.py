"""Devices by name. Imports torch alone, so that a wrong name is refused at once."""

import platform
from pathlib import Path

import torch

from resprout.hints import did_you_mean

PRECISIONS = ("float32", "bfloat16", "float16")


def resolve_device(device: str | torch.device) -> torch.device:
    """The torch device of a name; `auto` = the GPU if there is one, else the CPU.

    Raises:
        ValueError: no such device, or not on this machine.
    """
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    available = ["auto", "cpu"]
    if torch.cuda.is_available():
        available += ["cuda", "cuda:0"]
    if torch.backends.mps.is_available():
        available.append("mps")
    if str(device) not in available:
        raise ValueError(
            f"device: got {str(device)!r}, allowed on this machine are {', '.join(available)}"
            + ("; CUDA_VISIBLE_DEVICES chooses among GPUs" if "cuda" in available else "")
        )
    return torch.device(device)


def check_precision(name: str, device: str | torch.device) -> torch.dtype:
    """The type of weights of that name, if the device computes in it by itself.

    Raises:
        ValueError: no such precision, or one that the device lacks.
    """
    place = torch.device(device)
    allowed = list(PRECISIONS)
    if place.type == "cpu":
        allowed.remove("float16")  # products of it are slow there, and some are missing
    elif place.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        allowed.remove("bfloat16")
    if name not in allowed:
        hint = did_you_mean(str(name), allowed) if name not in PRECISIONS else ""
        raise ValueError(
            f"precision: got {name}, allowed on {place.type} are {', '.join(allowed)}{hint}"
        )
    found = getattr(torch, name)
    assert isinstance(found, torch.dtype)
    return found


def available_bytes(device: torch.device) -> int | None:
    """Memory that is free on a device now; None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        found = next(line for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None
    return int(found.split()[1]) * 1024


def has_fast_bf16() -> bool:
    """Whether this machine's CPU has bf16 instructions, as far as Linux tells."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def cpu_name() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def device_name(device: torch.device) -> str:
    """The name of what a device is: a GPU's, else the processor's."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


def synchronise(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
