"""How texts are written and judged: checked as soon as it is said, without torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

from resprout.measure.text.prompts import TWELVE, named_prompts
from resprout.measure.text.verdict import Thresholds
from resprout.models.sampling import TEMPERATURES, is_temperature

BATCH_TEXTS = 16


@dataclass(frozen=True)
class TextOptions:
    """How texts are written and judged.

    Attributes:
        prompts: category -> prompt or prompts.
        new_tokens: at most so many per text; None = 120, or what the longest prompt leaves of the
            context.
        temperature: 0 = greedy; else 1e-6 or more.
        top_k: 0 = all tokens may be drawn.
        seeds: one text per prompt and seed.
        batch_texts: texts written together.
        code_categories: those whose texts are to be Python.
        thresholds: of the verdicts.

    Raises:
        ValueError: a value out of range; the message names the option.
    """

    prompts: Mapping[str, str | Sequence[str]] = field(default_factory=lambda: TWELVE)
    new_tokens: int | None = None
    temperature: float = 0.7
    top_k: int = 40
    seeds: tuple[int, ...] = (0,)
    batch_texts: int = BATCH_TEXTS
    code_categories: tuple[str, ...] = ("code",)
    thresholds: Thresholds = field(default_factory=Thresholds)

    def __post_init__(self) -> None:
        named_prompts(self.prompts)
        seeds = self.seeds
        if not isinstance(seeds, tuple | list):
            raise ValueError(f"seeds: got {seeds!r}, allowed are several, such as (0, 1)")
        whole = all(_is_count(seed, 0) and seed < 2**63 for seed in seeds)
        for option, fits, allowed in (
            ("new_tokens", self.new_tokens is None or _is_count(self.new_tokens, 1), "1 or more"),
            ("temperature", is_temperature(self.temperature), TEMPERATURES),
            ("top_k", _is_count(self.top_k, 0), "0 (all tokens) or more"),
            ("seeds", whole, "each 0 to 2^63 - 1"),
            ("seeds", not whole or 0 < len(seeds) == len(set(seeds)), "one or more, each once"),
            ("batch_texts", _is_count(self.batch_texts, 1), "1 or more"),
        ):
            if not fits:
                raise ValueError(f"{option}: got {getattr(self, option)}, allowed is {allowed}")
        if self.temperature == 0 and len(seeds) > 1:
            raise ValueError(
                f"seeds: got {seeds}, allowed is one with temperature 0, which draws nothing"
            )


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least
