"""What a text's perplexity is compared with: that of the uncut subject's own texts."""

import math
import statistics
from collections.abc import Mapping
from typing import Any

from resprout.measure.figure import Measured
from resprout.measure.text.reference import Reference, Scored


class Baseline:
    """The cross-entropy of the uncut subject's texts, per token, under the reference.

    A text is compared with the higher of two: the median of all texts, and that of the same prompt.
    One alone would mislead: the uncut subject may loop on a prompt, or a prompt be hard.

    Raises:
        ValueError: the uncut subject was measured under another reference, or wrote otherwise.
    """

    def __init__(
        self,
        uncut: Measured | Mapping[str, Any],
        temperature: float,
        top_k: int,
        reference: Reference | None,
    ):
        details = uncut.details if isinstance(uncut, Measured) else uncut
        if reference is None:
            raise ValueError("reference: got none, needed to compare with the uncut subject")
        name = (details.get("reference") or {}).get("name")
        if name != reference.name:
            raise ValueError(
                f"uncut: was measured under the reference {name!r}, allowed is {reference.name!r}"
            )
        for option, value in (("temperature", temperature), ("top_k", top_k)):
            if details[option] != value:
                raise ValueError(
                    f"uncut: was written with {option} {details[option]}, allowed is {value}"
                )
        self._of_prompt: dict[str, list[float]] = {}
        for sample in details["samples"]:
            if sample["reference_tokens"]:
                nats = sample["reference_nats"] / sample["reference_tokens"]
                self._of_prompt.setdefault(sample["prompt"], []).append(nats)
        if not self._of_prompt:
            raise ValueError("uncut: wrote nothing that the reference could score")
        self._median = statistics.median(n for own in self._of_prompt.values() for n in own)

    def ratio(self, prompt: str, scored: Scored) -> float | None:
        """The text's perplexity over that of the uncut subject's; None for an empty text."""
        if not scored.tokens:
            return None
        own = self._of_prompt.get(prompt)
        base = max(self._median, statistics.fmean(own)) if own else self._median
        return math.exp(min(scored.nats / scored.tokens - base, 700.0))
