"""How a loss is measured: checked as soon as it is said, without torch."""

from dataclasses import dataclass
from typing import Literal

from resprout.refusals import check_one_of, check_whole

Precision = Literal["auto", "fp32", "bf16"]
PRECISIONS = ("auto", "fp32", "bf16")
EVALUATION_BATCH = 16  # windows per forward pass at most


@dataclass(frozen=True)
class LossOptions:
    """How a loss is measured.

    Attributes:
        window: T, inputs of a window; default the model's positions, up to 1,024 (of `wikitext2`
            all of them, as lm-eval).
        stride: None = adjoining windows; else windows overlap, each beginning so many tokens after
            the one before.
        precision: `fp32`, `bf16`, or `auto`: bf16 where it is faster and the difference below the
            interval, but fp32 for `wikitext2`, which is to equal lm-eval's figure.
        batch_windows: at most so many in a forward pass.
        seed: of the bootstrap.

    Raises:
        ValueError: naming the field.
    """

    window: int | None = None
    stride: int | None = None
    precision: Precision = "auto"
    batch_windows: int = EVALUATION_BATCH
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("window", 1), ("stride", 1), ("batch_windows", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is None and name in ("window", "stride"):
                continue
            check_whole(name, value, least)
            object.__setattr__(self, name, int(value))  # NumPy's numbers are none of JSON's
        if self.window is not None and self.stride is not None and self.stride > self.window:
            raise ValueError(
                f"stride: got {self.stride}, allowed is 1 to the window's {self.window} tokens"
            )
        check_one_of("precision", self.precision, PRECISIONS)
