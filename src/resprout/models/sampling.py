"""How the next token is chosen. Imports nothing heavy, so that a mistake is told at once."""

from dataclasses import dataclass
from typing import Any

from resprout.refusals import is_number

DEFAULT_MAX_TOKENS = 100
# Logits over a smaller temperature are infinite in fp32, and no distribution.
LEAST_TEMPERATURE = 1e-6
TEMPERATURES = f"0 (greedy) or {LEAST_TEMPERATURE:g} and more"


def is_temperature(value: Any) -> bool:
    """Whether it is a number at which texts can be sampled; 0 is greedy."""
    return is_number(value) and (value == 0 or value >= LEAST_TEMPERATURE)


@dataclass(frozen=True)
class Sampling:
    """The published program's defaults; `max_tokens` None = 100, or what the context leaves.

    temperature: 0 = always the most probable token; else 1e-6 or more.
    top_k: draw among so many most probable tokens; 0 = all.
    top_p: draw among the most probable tokens that hold this share of probability; 1 = all.
    seed: of the draws.

    Raises:
        ValueError: a value out of range; the message names the option.
    """

    max_tokens: int | None = None
    temperature: float = 0.7
    top_k: int = 40
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for option, fits, allowed in (
            ("max_tokens", self.max_tokens is None or self.max_tokens >= 1, "1 or more"),
            ("temperature", is_temperature(self.temperature), TEMPERATURES),
            ("top_k", self.top_k >= 0, "0 (all tokens) or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 up to 1"),
            ("seed", 0 <= self.seed < 2**63, "0 to 2^63 - 1"),
        ):
            if not fits:
                raise ValueError(f"{option}: got {getattr(self, option)}, allowed is {allowed}")
