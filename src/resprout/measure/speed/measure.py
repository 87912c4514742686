"""The measure `speed`: models of one process, timed in turn."""

import statistics
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from resprout.measure.figure import Figure, Measured
from resprout.measure.speed.decoding import undisturbed
from resprout.measure.speed.figures import ratio_figures, workload_figures
from resprout.measure.speed.options import SpeedOptions
from resprout.measure.speed.size import EXACT, bytes_figure, flops_figure, model_bytes
from resprout.measure.speed.timing import Timed, compiling, in_turn
from resprout.measure.speed.workloads import Notice, Workload, common_workloads
from resprout.models.device import device_name

_COMPILE_WORDS = {
    "off": "eager",
    "compile": "decode step compiled whole (torch.compile, static cache), prefill eager",
    "cuda-graphs": "decode step compiled whole and its launches recorded (torch.compile, "
    "reduce-overhead, static cache), prefill eager",
}


def measure_speed(
    models: Mapping[str, PreTrainedModel],
    options: SpeedOptions | None = None,
    notice: Notice = lambda line: None,
) -> dict[str, Measured]:
    """Time models in turn, A B A B, each workload by itself.

    Figures are named `WORKLOAD/NAME`, such as `batch1/prompt32/new50/time_to_first_token`; those of
    later models also have `WORKLOAD/NAME/ratio`, to the first. Beside them stand `model_bytes`,
    `flops_per_token` and `peak_memory_bytes`. The models are left as they were. Where compiled,
    torch's compiled code of the whole process is forgotten afterwards (`torch.compiler.reset`).

    Args:
        models: by name, all on one device; the first is what the others are compared with.
        options: what is timed.
        notice: told what the user might not expect, in one line.

    Returns:
        By name. A workload that a model cannot do has absent figures, and its reason stands in
        `details["failed"]`.

    Raises:
        ValueError: no model, more than one device, or see `check_speed`.
    """
    options = options or SpeedOptions()
    device = common_device(models)
    configs = {name: model.config for name, model in models.items()}
    workloads = common_workloads(configs, options, device, notice)
    runs = len(workloads) * len(models) * (options.warmup + options.repeats)
    timed: dict[Workload, dict[str, Timed]] = {}
    with (
        undisturbed(list(models.values())),
        tqdm(total=runs, desc="speed", unit="run", leave=False, disable=None) as bar,
    ):
        for workload in workloads:
            with compiling(options, len(models)):
                timed[workload] = in_turn(models, workload, options, bar.update)
    first = next(iter(models))
    measured = {}
    for name, model in models.items():
        own = {workload: by_name[name] for workload, by_name in timed.items()}
        words = circumstances(model, options, len(models))
        figures: dict[str, Figure] = {}
        for workload, found in own.items():
            figures |= workload_figures(found, workload, options, words)
            if name != first:
                base = timed[workload][first]
                figures |= ratio_figures(found, base, first, workload, options)
        context = max(workload.positions for workload in workloads)
        figures["model_bytes"] = bytes_figure(model)
        figures["flops_per_token"] = flops_figure(model, context)
        figures["peak_memory_bytes"] = _peak_figure(own, model, len(models))
        measured[name] = Measured(figures, _details(own, options, model))
    return measured


def common_device(models: Mapping[str, PreTrainedModel]) -> torch.device:
    """The device of all models.

    Raises:
        ValueError: there is no model, or they lie on several devices.
    """
    devices = {str(p.device) for model in models.values() for p in model.parameters()}
    if len(devices) != 1:
        found = ", ".join(sorted(devices)) or "no model"
        raise ValueError(f"models: got {found}, allowed are models that lie on one device")
    return torch.device(devices.pop())


def circumstances(model: PreTrainedModel, options: SpeedOptions, models: int) -> str:
    """Precision, device, and how it was run, for a protocol."""
    where = device_name(model.device)
    if model.device.type == "cpu":
        where += f", {torch.get_num_threads()} threads"
    turns = f"{models} models in turn" if models > 1 else "alone"
    return (
        f"{_COMPILE_WORDS[options.compile]}; {str(model.dtype).removeprefix('torch.')} on {where}, "
        f"device synchronised after each step; {options.warmup} warm-up runs left out, "
        f"{options.repeats} runs, {turns}"
    )


def _peak_figure(own: Mapping[Workload, Timed], model: PreTrainedModel, models: int) -> Figure:
    """The largest peak of the warm-up runs."""
    protocol = "largest over the workloads, in their warm-up runs; "
    seconds = sum(found.seconds for found in own.values())
    peaks = {w: t for w, t in own.items() if t.peak_bytes is not None}
    if not peaks:
        failure = next(t.failure for t in own.values())
        return Figure(None, "bytes", 0, protocol, seconds, reason=failure)
    if model.device.type == "cuda":
        # What else lies on the device, such as the other models, is not this model's.
        value = max(
            (t.peak_bytes or 0) - max((t.in_use_bytes or 0) - model_bytes(model), 0)
            for t in peaks.values()
        )
        protocol += "the peak of torch's allocator less what it held beside this model before"
    else:
        value = max(t.peak_bytes or 0 for t in peaks.values())
        since = next(iter(peaks.values())).memory
        protocol += (
            "resident memory of the whole process"
            f"{' since its start' if since == 'process since start' else ''}, which holds Python, "
            f"torch and {models} model{'s'[: models > 1]}"
        )
    return Figure(value, "bytes", len(peaks), protocol, seconds, reason=EXACT)


def _details(
    own: Mapping[Workload, Timed], options: SpeedOptions, model: PreTrainedModel
) -> dict[str, Any]:
    """All raw times, in ms, and what they were made with."""
    return {
        "options": asdict(options),
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        "device_name": device_name(model.device),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "failed": {w.name: t.failure for w, t in own.items() if t.failure is not None},
        "workloads": {w.name: _raw(w, t) for w, t in own.items() if t.failure is None},
    }


def _raw(workload: Workload, timed: Timed) -> dict[str, Any]:
    runs = timed.runs
    steps = [seconds for run in runs for seconds in run.step_seconds]
    usual = statistics.median(run.seconds for run in runs)
    first = timed.first_run_seconds or 0.0
    return {
        "batch": workload.batch,
        "prompt_lengths": workload.lengths,
        "padding_share": workload.padding_share,
        "new_tokens": workload.new_tokens,
        "real_new_tokens_per_run": workload.batch * workload.new_tokens,
        "time_to_first_token_ms": [round(run.first_seconds * 1e3, 4) for run in runs],
        "step_ms": [[round(seconds * 1e3, 4) for seconds in run.step_seconds] for run in runs],
        "steps": len(steps),
        "first_run_seconds": round(first, 4),
        # Of the first run what a usual one does not take: compiling, allocating, reading weights.
        "first_run_extra_seconds": round(first - usual, 4),
        "in_use_bytes": timed.in_use_bytes,
        "peak_bytes": timed.peak_bytes,
        "memory": timed.memory,
    }
