"""How long a point takes and how much memory, guessed from its subject's shape and a short test.

Rough by nature: a factor of two or three either way. What is guessed: training and loss by their
operations, at a third of the speed of a plain matrix product on this device (what nano subjects
reach on a CPU); each step of decoding by reading all weights once, and the host's work per layer.
Cut subjects are taken for whole ones.
"""

import time
from dataclasses import dataclass

import torch

from resprout.measure.text.prompts import named_prompts
from resprout.models.cost import count_cost
from resprout.models.description import skeleton
from resprout.models.device import device_name, synchronise
from resprout.models.sizes import SIZES, configuration
from resprout.pruning.protocols import protocol as protocol_named
from resprout.study.checks import shape_of
from resprout.study.measuring import speed_options
from resprout.study.points import Point
from resprout.study.spec import StudySpec, SubjectSpec
from resprout.train.options import SharedTraining

PRODUCT_WIDTH = 1024
SHARE_OF_A_PRODUCT = 1 / 3
HOST_SECONDS_PER_LAYER = 1e-3
PROGRAM_BYTES = 600_000_000  # Python with its libraries, on a CPU
BYTES = 4  # fp32: weights are masters wherever they are trained
USUAL_NEW_TOKENS = (20, 50, 150)  # of the speed, where the study does not say


def tokens_of(options: SharedTraining, window: int) -> int:
    """Tokens of a training."""
    return options.steps * options.batch_windows * options.accumulation * window


@dataclass(frozen=True)
class Shape:
    """Of a subject: parameters, layers, FLOPs of a token's forward pass, bytes that one window's
    forward pass keeps for the backward pass."""

    parameters: int
    layers: int
    flops_per_token: float
    activation_bytes: int


class Forecaster:
    """Guesses for one study on one device, which is timed when it is first asked for.

    Attributes:
        speed: how fast the device was, in words; None as long as it was not needed.
    """

    def __init__(self, spec: StudySpec, device: torch.device):
        self.spec = spec
        self.device = device
        self.speed: str | None = None
        self._rates: tuple[float, float] | None = None
        self._shapes: dict[str, Shape] = {}

    def shape(self, subject: SubjectSpec) -> Shape:
        """Counted on a skeleton, without weights."""
        if subject.name not in self._shapes:
            config = shape_of(subject)
            if subject.model in SIZES and self.spec.data.train_tokenizer is not None:
                vocabulary = {"vocab_size": self.spec.data.train_tokenizer}
                config = configuration(subject.model, **subject.config | vocabulary)
            model = skeleton(config)
            parameters = sum(p.numel() for p in model.parameters())
            window = self.spec.data.window
            try:
                cost = count_cost(model, window)
                flops, kept = cost.flops_per_token, cost.activation_bytes
            except ValueError:  # its code needs real numbers to run
                flops, kept = 2.0 * parameters, 16 * BYTES * window * config.hidden_size
            layers = int(getattr(config, "num_hidden_layers", 1))
            self._shapes[subject.name] = Shape(parameters, layers, flops, kept)
        return self._shapes[subject.name]

    def training_seconds(self, shape: Shape, tokens: float) -> float:
        """A training of so many tokens: backward takes twice what forward does."""
        return 3 * shape.flops_per_token * tokens / self._speeds()[0]

    def point_seconds(self, shape: Shape, point: Point, held_out_tokens: float) -> float:
        """Cut, recovery, loss (before and after), text and speed; not tasks and energy."""
        spec = self.spec
        flops, bandwidth = self._speeds()
        seconds = 2 * shape.flops_per_token * held_out_tokens / flops
        if point.amount > 0 or protocol_named(point.protocol).recovers_uncut:
            tokens = tokens_of(spec.recovery, spec.data.window)
            seconds += self.training_seconds(shape, tokens)
        step = shape.parameters * BYTES / bandwidth + shape.layers * HOST_SECONDS_PER_LAYER
        return seconds + step * self._decoding_steps(point)

    def point_bytes(self, shape: Shape) -> float:
        """The subject, its copy that is cut, and what recovery or an uncut neighbour add."""
        spec = self.spec
        copies = 2 * BYTES * shape.parameters
        recovery = 0
        if spec.recovery.steps > 0:
            kept = shape.activation_bytes * spec.recovery.batch_windows
            recovery = 3 * BYTES * shape.parameters + kept
        uncut = BYTES * shape.parameters if {"text", "speed"} & set(spec.measures) else 0
        program = PROGRAM_BYTES if self.device.type == "cpu" else 0
        return float(program + copies + max(recovery, uncut))

    def _decoding_steps(self, point: Point) -> int:
        spec, steps = self.spec, 0
        if spec.text is not None and "text" in spec.measures:
            texts = 1 + len(spec.text.also_temperatures)
            steps += texts * len(named_prompts(spec.text.prompts)) * spec.text.new_tokens
        if "speed" in spec.measures:
            options = speed_options(spec)
            lengths = options.new_tokens or USUAL_NEW_TOKENS
            prompts = len(options.prompt_tokens or (0,))
            runs = (options.repeats + options.warmup) * len(options.batches) * prompts
            models = 2 if point.amount > 0 else 1  # timed in turn with the uncut one
            steps += models * runs * sum(lengths)
        return steps

    def _speeds(self) -> tuple[float, float]:
        """FLOP/s of training here, and bytes/s of reading memory; both timed once."""
        if self._rates is None:
            product = _flops_per_second(self.device)
            bandwidth = _bytes_per_second(self.device)
            self._rates = (product * SHARE_OF_A_PRODUCT, bandwidth)
            self.speed = (
                f"{device_name(self.device)}, where a plain product of {PRODUCT_WIDTH} x "
                f"{PRODUCT_WIDTH} ran at {product / 1e9:,.0f} GFLOP/s (a third of it is taken for "
                f"training and loss) and memory was copied at {bandwidth / 1e9:,.1f} GB/s"
            )
        return self._rates


def _timed(work: torch.Tensor, device: torch.device, product: bool) -> float:
    """Seconds of the fastest of a few runs of a product or a copy, a fifth of a second in all."""
    best, started = float("inf"), time.perf_counter()
    out = torch.empty_like(work)
    while best == float("inf") or time.perf_counter() - started < 0.2:
        synchronise(device)
        before = time.perf_counter()
        if product:
            torch.matmul(work, work, out=out)
        else:
            out.copy_(work)
        synchronise(device)
        best = min(best, time.perf_counter() - before)
    return best


def _flops_per_second(device: torch.device) -> float:
    work = torch.ones(PRODUCT_WIDTH, PRODUCT_WIDTH, device=device)
    return 2 * PRODUCT_WIDTH**3 / _timed(work, device, product=True)


def _bytes_per_second(device: torch.device) -> float:
    work = torch.ones(2**24, device=device)  # 64 MiB, more than a cache
    return 2 * work.nbytes / _timed(work, device, product=False)
