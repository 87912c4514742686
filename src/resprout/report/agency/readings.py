"""The measures that are compared, and how each is read from a record."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from resprout.measure.drawn import drawn, drawn_tokens
from resprout.report.agency.contrasts import Reading

Record = dict[str, Any]


@dataclass(frozen=True)
class Measure:
    """A measure of the comparison.

    Attributes:
        key: its name in tables.
        label: in words.
        unit: of its values; empty for a plain number.
        better: 1 where higher is better, -1 where lower is.
        kind: `loss`, `text` or `speed`: where in a record it stands.
        high: the highest possible value.
        complement: ratios are of `1 - value`, of what is not repeated, since a repetition of 0 is
            common and has no ratio.
    """

    key: str
    label: str
    unit: str
    better: int
    kind: str
    high: float = math.inf
    complement: bool = False

    @property
    def gain(self) -> int:
        """1 where a ratio above 1 is better, -1 where it is worse."""
        return 1 if self.complement else self.better


PERPLEXITY = Measure("perplexity", "perplexity", "", -1, "loss")
DISTINCT = Measure("distinct_2", "diversity (distinct-2)", "share", 1, "text", 1.0)
REPETITION = Measure("repetition_3", "repetition (repetition-3)", "share", -1, "text", 1.0, True)
TOKENS_PER_SECOND = Measure("tokens_per_second", "generation speed", "tokens/s", 1, "speed")
FIRST_TOKEN = Measure("time_to_first_token", "time to first token", "ms", -1, "speed")
MODEL_BYTES = Measure("model_bytes", "memory of the weights", "bytes", -1, "speed")

QUALITY = (PERPLEXITY, DISTINCT, REPETITION)
SPEED = (TOKENS_PER_SECOND, FIRST_TOKEN)
MEASURES = (*QUALITY, *SPEED, MODEL_BYTES)


def read(
    record: Record, measure: Measure, workload: str | None = None, temperature: str | None = None
) -> Reading | str:
    """A measure of a record; where it has none, the reason.

    Perplexity is read as its logarithm, the loss in nats per token, window by window.

    Args:
        record: the point's.
        measure: what to read.
        workload: of the speed, such as `batch1/prompt32/new50`.
        temperature: of the text, as `temperatures` names them; None = the study's main one.
    """
    if measure.kind == "loss":
        loss = record["measures"]["loss"]
        low, high = loss["ci95"]
        return Reading(
            loss["nats_per_token"],
            low,
            high,
            nats=drawn(loss).astype(np.float64),
            sizes=drawn_tokens(loss).astype(np.float64),
        )
    if measure.kind == "text":
        return _figure(text_at(record, temperature), measure.key, measure.key)
    part = record["measures"].get("speed")
    if measure is MODEL_BYTES:
        return _figure(part, measure.key, None)
    if workload is None:
        return "speed was not measured"
    return _figure(part, f"{workload}/{measure.key}", None)


def speed_ratio(record: Record, workload: str | None) -> Reading | str:
    """Tokens per second over those of the uncut subject, timed in turn; 1 for the uncut itself."""
    if record["amount"] == 0:
        return Reading(1.0, 1.0, 1.0)
    if workload is None:
        return "speed was not measured"
    return _figure(record["measures"].get("speed"), f"{workload}/tokens_per_second/ratio", None)


def text_at(record: Record, temperature: str | None) -> Any:
    """The text measure at a temperature; None where it was not taken."""
    text = record["measures"].get("text")
    if temperature is None or (text and _name(text.get("temperature")) == temperature):
        return text
    return (record["measures"].get("text_at") or {}).get(temperature)


def temperatures(records: Iterable[Record]) -> list[str]:
    """All temperatures that texts were written at, rising, as `text_at` knows them."""
    found: set[str] = set()
    for record in records:
        text = record["measures"].get("text")
        if text and _name(text.get("temperature")) is not None:
            found.add(_name(text["temperature"]))
        found |= set(record["measures"].get("text_at") or {})
    return sorted(found, key=float)


def workload_of(records: Iterable[Record]) -> str | None:
    """The workload that is shown: of those most records have, one text at a time, the longest."""
    counts: dict[str, int] = {}
    for record in records:
        speed = record["measures"].get("speed") or {}
        for name, figure in speed.get("figures", {}).items():
            workload, _, last = name.rpartition("/")
            if last == TOKENS_PER_SECOND.key and figure["value"] is not None:
                counts[workload] = counts.get(workload, 0) + 1
    most = [name for name, count in counts.items() if count == max(counts.values())]
    return min(most, key=_batch_then_length, default=None)


def logarithm(reading: Reading, complement: bool = False) -> Reading | str:
    """A reading's logarithm, or that of 1 minus it; a reason where it has none.

    A loss is one already.
    """
    if reading.nats is not None:
        return reading
    if complement:
        ends = [None if x is None else 1 - x for x in (reading.high, reading.low)]
        reading = Reading(1 - reading.value, ends[0], ends[1])
    if reading.value <= 0:
        return "a value of 0 has no ratio"
    if reading.low is None or reading.high is None or reading.low <= 0:
        return Reading(math.log(reading.value))
    return replace(
        reading,
        value=math.log(reading.value),
        low=math.log(reading.low),
        high=math.log(reading.high),
    )


def _figure(part: Any, name: str, plain: str | None) -> Reading | str:
    """A figure of a measure by name; `plain`: where older records have the bare value."""
    if part is None:
        return "not measured"
    if isinstance(part.get("failed"), str):  # of speed and tasks: what failed, part by part
        return f"failed: {part['failed']}"
    figure = part.get("figures", {}).get(name)
    if figure is not None:
        if figure["value"] is None:
            return str(figure["reason"])
        low, high = figure["ci95"] or (None, None)
        return Reading(figure["value"], low, high)
    value = part.get(plain) if plain is not None else None
    return "not measured" if value is None else Reading(value)


def _name(temperature: float | None) -> Any:
    return None if temperature is None else f"{temperature:g}"


def _batch_then_length(name: str) -> tuple[bool, float, float, str]:
    """Sorts `batch1/prompt32/new50`: equal prompts, small batches and many new tokens first."""
    numbers = {
        part.rstrip("0123456789"): float(part[len(part.rstrip("0123456789")) :] or 0)
        for part in name.replace("-unequal", "").split("/")
    }
    return "-unequal" in name, numbers.get("batch", 0), -numbers.get("new", 0), name
