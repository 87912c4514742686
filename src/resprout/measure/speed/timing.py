"""Models timed in turn, A B A B, so that what slows the machine down slows them alike."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel

from resprout.hints import first_line
from resprout.measure.speed.decoding import Decoder, Run
from resprout.measure.speed.options import SpeedOptions
from resprout.measure.speed.workloads import Workload, prompt
from resprout.measure.stage import bytes_in_use, stage


@dataclass
class Attempt:
    """What came of asking one model for one workload.

    Attributes:
        runs: what counts.
        seconds: all of it took, warm-up too.
        failure: why there are no runs.
    """

    runs: list[Any] = field(default_factory=list)
    seconds: float = 0.0
    failure: str | None = None

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Count the seconds of a block; keep its failure instead of passing it on."""
        started = time.perf_counter()
        try:
            yield
        except Exception as error:  # out of memory, a compiler's refusal: each library's own
            self.failure = f"{type(error).__name__}: {_reason(error)}"
            self.runs.clear()
        self.seconds += time.perf_counter() - started


def _reason(error: BaseException) -> str:
    """What an error says, in a line; torch's compiler says on the second line what went wrong."""
    inner = getattr(error, "inner_exception", None)
    if isinstance(inner, BaseException):
        return f"{type(inner).__name__}: {first_line(inner)}"
    return first_line(error)


@dataclass
class Timed(Attempt):
    """The timed runs of one model under one workload.

    Attributes:
        first_run_seconds: of the first warm-up run, in which torch compiles and allocates.
        in_use_bytes: before it; None where the system does not tell.
        peak_bytes: during the warm-up runs; `memory` says of what.
        memory: `device`, `process`, or `process since start` (see `measure.stage`).
    """

    runs: list[Run] = field(default_factory=list)
    first_run_seconds: float | None = None
    in_use_bytes: int | None = None
    peak_bytes: int | None = None
    memory: str = ""


def in_turn(
    models: Mapping[str, PreTrainedModel],
    workload: Workload,
    options: SpeedOptions,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, Timed]:
    """Warm up each model, then time them in turn, `repeats` times.

    A model that fails is left out of the rest, and its failure kept; the others go on.

    Args:
        models: by name, in evaluation mode.
        workload: what they decode.
        options: repeats, warm-up, compile, seed.
        tick: called after each run.
    """
    timed = {name: Timed() for name in models}
    work: dict[str, Callable[[], Run]] = {}
    for name, model in models.items():
        with timed[name].going_on():
            work[name] = decoding(model, workload, options)
            _warm_up(timed[name], work[name], model.device, options, tick)
    for _ in range(options.repeats):
        for name in models:
            if timed[name].failure is None:
                with timed[name].going_on():
                    timed[name].runs.append(work[name]())
                tick()
    return timed


def decoding(
    model: PreTrainedModel, workload: Workload, options: SpeedOptions
) -> Callable[[], Run]:
    """A function that decodes a workload once, the prompts already on the model's device."""
    ids, mask = prompt(workload, model.config, options.seed)
    ids, mask = ids.to(model.device), None if mask is None else mask.to(model.device)
    decoder = Decoder(model, options.compile)
    return lambda: decoder.run(ids, workload.new_tokens, mask)


@contextmanager
def compiling(options: SpeedOptions, models: int) -> Iterator[None]:
    """Where the decode step is compiled: never in part or not at all without a word.

    Afterwards what was compiled in this process is forgotten, as no workload needs another's.
    """
    if options.compile == "off":
        yield
        return
    strict: Any = torch._dynamo.config.patch(
        fail_on_recompile_limit_hit=True, recompile_limit=8 + models
    )
    try:
        with strict:
            yield
    finally:
        torch.compiler.reset()


def _warm_up(
    timed: Timed,
    run: Callable[[], Run],
    device: torch.device,
    options: SpeedOptions,
    tick: Callable[[], None],
) -> None:
    """The runs that do not count; what they took of memory does."""
    timed.in_use_bytes = bytes_in_use(device)
    stages: dict[str, Any] = {}
    with stage(stages, "warm-up", device):
        started = time.perf_counter()
        for index in range(options.warmup):
            run()
            if index == 0:
                timed.first_run_seconds = time.perf_counter() - started
            tick()
    timed.peak_bytes = stages["warm-up"]["peak_bytes"]
    timed.memory = stages["warm-up"]["memory"]
