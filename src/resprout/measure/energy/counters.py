"""Hardware energy counters: a GPU's through NVML, a CPU's and its memory's through RAPL.

Both are read by the library zeus (extra `energy`), which also counts RAPL's wrap-arounds.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch

from resprout.hints import first_line


class NoCounter(Exception):  # noqa: N818 (nothing went wrong: there is none)
    """No counter of a device can be read; the message says why."""


@dataclass(frozen=True)
class Reading:
    """Counters at one moment.

    Attributes:
        seconds: the moment, on the counter's clock.
        joules: device -> since some beginning.
    """

    seconds: float
    joules: Mapping[str, float]


class Counter(Protocol):
    """What energy is read from.

    Attributes:
        devices: names of those that hold the model: a GPU, or CPU packages and their memory.
        host: names of those beside a GPU: CPU packages and their memory; empty on a CPU.
        no_host: why `host` is empty.
    """

    devices: tuple[str, ...]
    host: tuple[str, ...]
    no_host: str

    def read(self) -> Reading:
        """The counters now."""

    def wait(self, seconds: float) -> None:
        """Let so much time pass on the counter's clock, doing nothing."""


class ZeusCounter:
    """The counters that zeus reads; see `Counter`. `sources`: device -> its joules now."""

    def __init__(
        self,
        devices: Mapping[str, Callable[[], float]],
        host: Mapping[str, Callable[[], float]],
        no_host: str = "",
    ):
        self.devices, self.host = tuple(devices), tuple(host)
        self.no_host = no_host
        self._sources = {**devices, **host}
        self.read()  # fails now if it fails at all

    def read(self) -> Reading:
        """The counters now."""
        joules = {name: source() for name, source in self._sources.items()}
        return Reading(time.perf_counter(), joules)

    def wait(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)


def open_counter(device: torch.device) -> Counter:
    """The counters of a device.

    zeus starts a process of its own that watches RAPL for wrap-arounds, by multiprocessing's
    `spawn`: a program's main module must be importable (`if __name__ == "__main__":`).

    Raises:
        NoCounter: no library, no such hardware, or no permission.
    """
    if device.type not in ("cpu", "cuda"):
        raise NoCounter(f"no energy counter of the device {device.type} is read")
    try:
        import zeus.device  # noqa: F401 (the parts are imported where they are used)
    except ImportError as error:
        raise NoCounter(
            "the library zeus, which reads the counters, is not installed: "
            "pip install 'resprout[energy]'"
        ) from error
    with _quiet_zeus():
        if device.type == "cpu":
            sources, reason = _tried(_cpu_sources)
            if not sources:
                raise NoCounter(f"no energy counter of the CPU (RAPL) can be read: {reason}")
            return _opened(sources, {}, "the model is on the CPU itself", "CPU (RAPL)")
        gpu, reason = _tried(lambda: _gpu_source(device))
        if not gpu:
            raise NoCounter(f"no energy counter of the GPU can be read: {reason}")
        sources, reason = _tried(_cpu_sources)
        if sources:
            try:
                return ZeusCounter(gpu, sources)
            except Exception as error:  # the CPU's fails at its first reading: the GPU's is left
                reason = first_line(error)
        no_host = f"no energy counter of the CPU (RAPL) can be read: {reason}"
        return _opened(gpu, {}, no_host, "GPU")


Sources = dict[str, Callable[[], float]]


def _tried(find: Callable[[], Sources]) -> tuple[Sources, str]:
    """What was found, or nothing and the reason in the library's words."""
    try:
        return find(), "none was found"
    except Exception as error:  # zeus, NVML and the system have errors of their own
        return {}, first_line(error)


def _opened(sources: Sources, host: Sources, no_host: str, what: str) -> ZeusCounter:
    try:
        return ZeusCounter(sources, host, no_host)
    except Exception as error:  # as above, at the first reading
        reason = first_line(error)
        raise NoCounter(f"no energy counter of the {what} can be read: {reason}") from error


def _cpu_sources() -> Sources:
    """Of each CPU package, and of its memory where that has a counter of its own."""
    from zeus.device.cpu import get_cpus
    from zeus.device.cpu.rapl import rapl_is_available

    if not rapl_is_available():
        raise NoCounter("this system shows none")
    sources: Sources = {}
    for index, cpu in enumerate(get_cpus().cpus):
        zone = getattr(getattr(cpu, "rapl_file", None), "name", f"package-{index}")
        if not zone.startswith("package"):
            continue  # psys, the whole platform, would count the packages twice
        sources[f"CPU {zone}"] = partial(_cpu_joules, cpu, "cpu_mj")
        if cpu.supports_get_dram_energy_consumption():
            sources[f"DRAM of CPU {zone}"] = partial(_cpu_joules, cpu, "dram_mj")
    return sources


def _cpu_joules(cpu: Any, part: str) -> float:
    return float(getattr(cpu.get_total_energy_consumption(), part)) / 1e3


def _gpu_source(device: torch.device) -> Sources:
    """Of the one GPU that a torch device is."""
    from zeus.device.gpu import get_gpus

    gpus = get_gpus()
    index = torch.cuda.current_device() if device.index is None else device.index
    if not gpus.supports_get_total_energy_consumption(index):
        raise NoCounter("it is older than Volta and counts no energy")
    name = f"GPU {index} ({gpus.get_name(index)})"
    return {name: lambda: gpus.get_total_energy_consumption(index) / 1e3}


@contextmanager
def _quiet_zeus() -> Iterator[None]:
    """zeus warns about each maker's library that is not there."""
    logger = logging.getLogger("zeus")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
