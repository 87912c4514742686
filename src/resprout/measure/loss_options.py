"""How a loss is measured: checked as soon as it is said, without torch."""

from dataclasses import dataclass
from typing import Literal

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
        for name, least in (("window", 1), ("stride", 1), ("batch_windows", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}: got {value}, allowed is {least} or more")
        if self.window is not None and self.stride is not None and self.stride > self.window:
            raise ValueError(
                f"stride: got {self.stride}, allowed is 1 to the window's {self.window} tokens"
            )
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"precision: got {self.precision!r}, allowed are {', '.join(PRECISIONS)}"
            )
