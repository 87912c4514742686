"""What counters say over a stretch of time: idle first, then models in turn."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedModel

from resprout.measure.energy.counters import Counter, Reading
from resprout.measure.energy.options import EnergyOptions
from resprout.measure.speed.decoding import Run
from resprout.measure.speed.options import SpeedOptions
from resprout.measure.speed.timing import Attempt, decoding
from resprout.measure.speed.workloads import Workload

IDLE_SLICES = 5
TRIES = 3  # of a reading in which a counter started anew
# Before idle is measured: until a GPU's clocks and the library's own process have come to rest.
SETTLE_SECONDS = 3.0


@dataclass(frozen=True)
class Stretch:
    """Between two readings.

    Attributes:
        seconds: on the counter's clock.
        joules: device -> in that time.
        tokens: new ones, of all sequences.
    """

    seconds: float
    joules: Mapping[str, float]
    tokens: int = 0

    def gross(self, devices: Sequence[str]) -> float:
        """Joules per token of some devices together."""
        return sum(self.joules[device] for device in devices) / self.tokens

    def net(self, devices: Sequence[str], idle_watts: Mapping[str, float]) -> float:
        """The same less idle power x time; below zero where noise is larger than the work."""
        idle = sum(idle_watts[device] for device in devices) * self.seconds
        return self.gross(devices) - idle / self.tokens


@dataclass
class Metered(Attempt):
    """The stretches of one model under one workload."""

    runs: list[Stretch] = field(default_factory=list)


def idle_stretches(counter: Counter, options: EnergyOptions) -> list[Stretch]:
    """The counters while nothing is done, in slices.

    Raises:
        OSError: a counter went back or did not move; or the library's own errors.
    """
    counter.wait(SETTLE_SECONDS)
    length = options.idle_seconds / IDLE_SLICES
    return [_stretch(counter, lambda: counter.wait(length)) for _ in range(IDLE_SLICES)]


def idle_watts(stretches: Sequence[Stretch], devices: Sequence[str]) -> list[float]:
    """Power of some devices together, per slice."""
    return [sum(s.joules[device] for device in devices) / s.seconds for s in stretches]


def median_idle(stretches: Sequence[Stretch]) -> dict[str, float]:
    """Power of each device: the median of the slices, as another program may wake up in one."""
    devices = stretches[0].joules
    return {device: statistics.median(idle_watts(stretches, [device])) for device in devices}


def metered_in_turn(
    models: Mapping[str, PreTrainedModel],
    workload: Workload,
    speed: SpeedOptions,
    options: EnergyOptions,
    counter: Counter,
    tick: Callable[[], object] = lambda: None,
) -> dict[str, Metered]:
    """Warm up each model, then read the counter around each in turn, `repeats` times.

    A model that fails is left out of the rest, and its failure kept; the others go on.
    """
    metered = {name: Metered() for name in models}
    work: dict[str, Callable[[], Run]] = {}
    for name, model in models.items():
        with metered[name].going_on():
            work[name] = decoding(model, workload, speed)
            for _ in range(speed.warmup):
                work[name]()
                tick()
    for _ in range(speed.repeats):
        for name in models:
            if metered[name].failure is None:
                with metered[name].going_on():
                    stretch = _reading(counter, work[name], workload, options.reading_seconds)
                    metered[name].runs.append(stretch)
                tick()
    return metered


def _reading(
    counter: Counter, run: Callable[[], Run], workload: Workload, seconds: float
) -> Stretch:
    """Decode over and over, until the counter's clock says that it is enough."""
    runs = 0

    def work() -> None:
        nonlocal runs
        runs = 0
        started = counter.read().seconds
        while runs == 0 or counter.read().seconds - started < seconds:
            run()
            runs += 1

    found = _stretch(counter, work)
    return Stretch(found.seconds, found.joules, runs * workload.batch * workload.new_tokens)


def _stretch(counter: Counter, work: Callable[[], object]) -> Stretch:
    """What the counters say that some work took; done again where one of them started anew.

    Raises:
        OSError: they did so each time, or did not move at all.
    """
    for _ in range(TRIES):
        before = counter.read()
        work()
        after = counter.read()
        joules = _difference(before, after)
        if min(joules.values()) >= 0:
            break
    else:
        raise OSError(f"a counter went back in {TRIES} readings, one after the other")
    seconds = after.seconds - before.seconds
    if not any(joules[device] for device in counter.devices):
        raise OSError(f"the counter of {counter.devices[0]} did not move in {seconds:.2g} s")
    return Stretch(seconds, joules)


def _difference(before: Reading, after: Reading) -> dict[str, float]:
    return {device: joules - before.joules[device] for device, joules in after.joules.items()}
