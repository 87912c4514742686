"""The measure `energy`: joules per token of models of one process, in turn."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tqdm import tqdm
from transformers import PreTrainedModel

from resprout.hints import first_line
from resprout.measure.energy.counters import Counter, NoCounter, open_counter
from resprout.measure.energy.metering import (
    Metered,
    Stretch,
    idle_stretches,
    idle_watts,
    median_idle,
    metered_in_turn,
)
from resprout.measure.energy.options import EnergyOptions
from resprout.measure.figure import Figure, Measured
from resprout.measure.speed.decoding import undisturbed
from resprout.measure.speed.figures import no_interval, ratio_figure, workload_words
from resprout.measure.speed.measure import circumstances, common_device
from resprout.measure.speed.options import SpeedOptions
from resprout.measure.speed.timing import compiling
from resprout.measure.speed.workloads import Notice, Workload, common_workloads
from resprout.measure.statistics import median_interval

UNIT = "joule per token"


def measure_energy(
    models: Mapping[str, PreTrainedModel],
    speed: SpeedOptions | None = None,
    options: EnergyOptions | None = None,
    counter: Counter | None = None,
    notice: Notice = lambda line: None,
) -> dict[str, Measured]:
    """Joules per token of each workload, net of the idle power, which is measured first.

    Figures: `WORKLOAD/joules_per_token` (of the device that holds the model: a GPU, or CPU packages
    and their memory), `WORKLOAD/gross_joules_per_token` (idle power included),
    `WORKLOAD/host_joules_per_token` (net, of the CPU beside a GPU), `idle_watts`; those of later
    models also have `WORKLOAD/joules_per_token/ratio`, to the first.

    Args:
        models: by name, all on one device; the first is what the others are compared with.
        speed: what is decoded, and how often; without unequal prompts.
        options: for how long.
        counter: what is read; None = the machine's own (`open_counter`).
        notice: told what the user might not expect, in one line.

    Returns:
        By name. Where no counter can be read, all figures are absent and say why: nothing is
        estimated. A workload that a model cannot do has absent figures too.

    Raises:
        ValueError: as `measure_speed`.
    """
    speed, options = speed or SpeedOptions(), options or EnergyOptions()
    started = time.perf_counter()
    device = common_device(models)
    configs = {name: model.config for name, model in models.items()}
    found = common_workloads(configs, speed, device, notice)
    workloads = [workload for workload in found if not workload.unequal]
    absent = None
    idle: list[Stretch] = []
    try:
        counter = counter or open_counter(device)
        idle = idle_stretches(counter, options)
    except NoCounter as error:
        absent = str(error)
    except Exception as error:  # a counter that fails at work: each library's own
        absent = f"the idle power cannot be read: {first_line(error)}"
    if counter is None or absent is not None:
        seconds = time.perf_counter() - started
        return {name: _absent(workloads, absent or "", seconds) for name in models}
    metered: dict[Workload, dict[str, Metered]] = {}
    runs = len(workloads) * len(models) * (speed.warmup + speed.repeats)
    with (
        undisturbed(list(models.values())),
        tqdm(total=runs, desc="energy", unit="reading", leave=False, disable=None) as bar,
    ):
        for workload in workloads:
            with compiling(speed, len(models)):
                metered[workload] = metered_in_turn(
                    models, workload, speed, options, counter, bar.update
                )
    first = next(iter(models))
    measured = {}
    for name, model in models.items():
        words = _protocol(counter, options, circumstances(model, speed, len(models)))
        figures: dict[str, Figure] = {}
        for workload, by_name in metered.items():
            how = f"{workload_words(workload)}; {words}"
            figures |= _figures(by_name[name], workload, counter, idle, speed, how)
            if name != first:
                pair = by_name[name], by_name[first]
                figures |= _ratio(*pair, first, workload, counter, idle, speed)
        figures["idle_watts"] = _idle_figure(idle, counter, options, speed)
        own = {workload: by_name[name] for workload, by_name in metered.items()}
        measured[name] = Measured(figures, _details(own, counter, idle, speed, options))
    return measured


def _absent(workloads: Sequence[Workload], reason: str, seconds: float) -> Measured:
    """Every figure, without a value."""
    protocol = "from a hardware counter, net of the idle power; never estimated"
    figures = {
        f"{workload.name}/{name}": Figure(None, UNIT, 0, protocol, seconds, reason=reason)
        for workload in workloads
        for name in ("joules_per_token", "gross_joules_per_token")
    }
    figures["idle_watts"] = Figure(None, "watt", 0, protocol, seconds, reason=reason)
    return Measured(figures, {"absent": reason, "devices": []})


def _protocol(counter: Counter, options: EnergyOptions, circumstances: str) -> str:
    """How joules were read, for all figures of a model."""
    shared = any(name.startswith("CPU") for name in (*counter.devices, *counter.host))
    return (
        f"read from {', '.join((*counter.devices, *counter.host))}; a run repeats the workload "
        f"for {options.reading_seconds:g} s or more; idle power: median of slices of "
        f"{options.idle_seconds:g} s before, the models in memory, not part of the interval"
        + ("; a CPU's counter counts its whole package, other programs too" if shared else "")
        + f"; {circumstances}"
    )


def _figures(
    metered: Metered,
    workload: Workload,
    counter: Counter,
    idle: Sequence[Stretch],
    speed: SpeedOptions,
    how: str,
) -> dict[str, Figure]:
    watts = median_idle(idle)
    own, host = counter.devices, counter.host
    values = {
        "joules_per_token": ("net", own, [s.net(own, watts) for s in metered.runs]),
        "gross_joules_per_token": ("gross", own, [s.gross(own) for s in metered.runs]),
    }
    figures: dict[str, Figure] = {}
    if host:
        values["host_joules_per_token"] = ("net", host, [s.net(host, watts) for s in metered.runs])
    elif not own[0].startswith("CPU"):
        figures[f"{workload.name}/host_joules_per_token"] = Figure(
            None, UNIT, 0, how, metered.seconds, reason=counter.no_host
        )
    reason = metered.failure or no_interval(speed)
    for name, (kind, devices, found) in values.items():
        figures[f"{workload.name}/{name}"] = Figure(
            value=statistics.median(found) if found else None,
            unit=UNIT,
            items=len(found),
            protocol=f"{kind} of idle power, {' and '.join(devices)}, by new tokens of all "
            f"sequences (prefill's energy is in it), median of runs; {how}",
            seconds=metered.seconds,
            ci95=None if reason else median_interval(found, speed.seed),
            reason=reason,
        )
    return figures


def _ratio(
    metered: Metered,
    base: Metered,
    first: str,
    workload: Workload,
    counter: Counter,
    idle: Sequence[Stretch],
    speed: SpeedOptions,
) -> dict[str, Figure]:
    """Net joules per token over those of the first model."""
    watts = median_idle(idle)
    failure = metered.failure or (f"{first}: {base.failure}" if base.failure else "")
    values, others = (
        None if failure else [stretch.net(counter.devices, watts) for stretch in own.runs]
        for own in (metered, base)
    )
    name = "joules_per_token"
    figure = ratio_figure(values, others, failure, first, name, speed, metered.seconds)
    return {f"{workload.name}/{name}/ratio": figure}


def _idle_figure(
    idle: Sequence[Stretch], counter: Counter, options: EnergyOptions, speed: SpeedOptions
) -> Figure:
    slices = idle_watts(idle, counter.devices)
    return Figure(
        value=sum(median_idle(idle)[device] for device in counter.devices),
        unit="watt",
        items=len(slices),
        protocol=f"power of {' and '.join(counter.devices)} while nothing is decoded, the models "
        f"in memory: median of {len(slices)} slices of {options.idle_seconds:g} s",
        seconds=sum(stretch.seconds for stretch in idle),
        ci95=median_interval(slices, speed.seed),
    )


def _details(
    own: Mapping[Workload, Metered],
    counter: Counter,
    idle: Sequence[Stretch],
    speed: SpeedOptions,
    options: EnergyOptions,
) -> dict[str, Any]:
    """All readings, and what they were made with."""
    return {
        "options": asdict(speed) | asdict(options),
        "devices": list(counter.devices),
        "host": list(counter.host),
        "no_host": counter.no_host,
        "idle_watts": median_idle(idle),
        "idle": [asdict(stretch) for stretch in idle],
        "failed": {w.name: m.failure for w, m in own.items() if m.failure is not None},
        "workloads": {
            w.name: [asdict(stretch) for stretch in m.runs]
            for w, m in own.items()
            if m.failure is None
        },
    }
