"""The comparison's table for a terminal: one row per level and subject, means over the seeds."""

from collections.abc import Callable
from typing import Any

from rich.table import Table

Read = Callable[[dict[str, Any]], float | None]


def comparison_table(records: list[dict[str, Any]]) -> Table:
    """Each figure as its mean and, of two seeds or more, half its 95 % interval (Student's)."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("level", justify="right")
    table.add_column("subject")
    for heading in ("heads cut", *_FIGURES):
        table.add_column(heading, justify="right")
    levels = sorted({record["amount"] for record in records})
    subjects = list(dict.fromkeys(record["subject"] for record in records))
    for level in levels:
        for subject in subjects:
            own = [r for r in records if r["amount"] == level and r["subject"] == subject]
            if own:
                achieved = sum(record["achieved"] for record in own) / len(own)
                figures = [_mean(own, *figure) for figure in _FIGURES.values()]
                table.add_row(f"{100 * level:g} %", subject, f"{achieved:.1%}", *figures)
    return table


def _mean(records: list[dict[str, Any]], read: Read, digits: int) -> str:
    from resprout.measure.statistics import plain_mean_interval

    values = [value for value in map(read, records) if value is not None]
    if not values:
        return "-"
    mean = sum(values) / len(values)
    if len(values) == 1:
        return f"{mean:,.{digits}f}"
    low, high = plain_mean_interval(values)
    return f"{mean:,.{digits}f} ±{(high - low) / 2:,.{digits}f}"


def _loss(record: dict[str, Any]) -> float | None:
    """Its logarithm is what a mean can be taken of, so that the page shows the same."""
    found: float | None = record["measures"]["loss"].get("nats_per_token")
    return found


def _text(name: str) -> Read:
    def read(record: dict[str, Any]) -> float | None:
        found: float | None = (record["measures"].get("text") or {}).get(name)
        return found

    return read


def _speed(name: str) -> Read:
    """Of the workload whose prompts are all of one length."""

    def read(record: dict[str, Any]) -> float | None:
        figures = (record["measures"].get("speed") or {}).get("figures", {})
        for key, figure in figures.items():
            if key.endswith(f"/{name}") and "unequal" not in key:
                value: float | None = figure["value"]
                return value
        return None

    return read


# Heading -> where its figure stands, and its decimals.
_FIGURES: dict[str, tuple[Read, int]] = {
    "nats/token": (_loss, 3),
    "tokens/s": (_speed("tokens_per_second"), 1),
    "first token, ms": (_speed("time_to_first_token"), 2),
    "distinct-2": (_text("distinct_2"), 2),
    "repetition-3": (_text("repetition_3"), 2),
}
