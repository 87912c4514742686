"""What is timed, and how often: checked as soon as it is said."""

from collections.abc import Sequence
from dataclasses import dataclass

from resprout.hints import did_you_mean
from resprout.refusals import check_flag

DEFAULT_PROMPT_TOKENS = (32,)
DEFAULT_NEW_TOKENS = (20, 50, 150)
REPEATS_FOR_AN_INTERVAL = 5
# How the decode step is run; the prompt is always read by the model as it is.
COMPILE = ("off", "compile", "cuda-graphs")


@dataclass(frozen=True)
class SpeedOptions:
    """What is timed.

    Attributes:
        batches: sequences at once.
        prompt_tokens: lengths of the prompts; None = 32, left out where a model is too small.
        new_tokens: how many follow, per sequence; None = 20, 50 and 150 (as published), of which
            those are left out for which a model has too few positions.
        repeats: timed runs of each workload; below 5 the medians have no interval.
        warmup: runs before them that are not timed.
        compile: `off`; `compile`: the decode step by torch.compile, with a static cache;
            `cuda-graphs`: the same, its launches recorded (mode `reduce-overhead`), on CUDA.
        unequal: also time a batch of prompts of unequal lengths, padded on the left.
        seed: of the prompts' random ids, and of the bootstrap.

    Raises:
        ValueError: a value that is not allowed.
    """

    batches: Sequence[int] = (1, 8)
    prompt_tokens: Sequence[int] | None = None
    new_tokens: Sequence[int] | None = None
    repeats: int = 5
    warmup: int = 2
    compile: str = "off"
    unequal: bool = True
    seed: int = 42

    def __post_init__(self) -> None:
        for name in ("batches", "prompt_tokens", "new_tokens"):
            values = getattr(self, name)
            if values is None and name != "batches":
                continue
            if isinstance(values, str) or not isinstance(values, Sequence) or not values:
                raise ValueError(f"{name}: got {values!r}, allowed is a list of whole numbers")
            for value in values:
                _at_least_one(name, value)
            object.__setattr__(self, name, tuple(dict.fromkeys(values)))
        _at_least_one("repeats", self.repeats)
        _at_least_one("warmup", self.warmup)
        if self.compile not in COMPILE:
            raise ValueError(
                f"compile: got {self.compile!r}, allowed are {', '.join(COMPILE)}"
                f"{did_you_mean(str(self.compile), COMPILE)}"
            )
        check_flag("unequal", self.unequal)
        if type(self.seed) is not int or self.seed < 0:
            raise ValueError(f"seed: got {self.seed!r}, allowed is a whole number, 0 or more")


def _at_least_one(name: str, value: object) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name}: got {value!r}, allowed is 1 or more")
