"""Tables: one row per point, the same figures for terminal, page and Markdown."""

from typing import Any, Literal

from rich.table import Table

HEADINGS = [
    "subject",
    "method",
    "amount",
    "achieved",
    "seed",
    "surviving",
    "before recovery",
    "nats per token",
    "95 % interval",
    "bits per byte",
    "perplexity",
    "distinct-2",
    "repetition-3",
]
_TEXT_COLUMNS = 2  # the rest are figures, set to the right


def rows(records: list[dict[str, Any]]) -> list[list[str]]:
    """The figures of each record as text, in the order of `HEADINGS`; `-` where there is none."""
    table = []
    for record in records:
        measures = record["measures"]
        loss, text = measures["loss"], measures.get("text", {})
        before = measures.get("loss_before_recovery", {})
        table.append(
            [
                record["subject"],
                record["method"],
                f"{record['amount']:.0%}",
                f"{record['achieved']:.1%}",
                str(record["seed"]),
                f"{record['parameters']['surviving']:,}",
                _figure(before.get("nats_per_token"), 3),
                _figure(loss["nats_per_token"], 3),
                f"{loss['ci95'][0]:.3f} to {loss['ci95'][1]:.3f}",
                _figure(loss["bits_per_byte"], 3),
                _figure(loss["perplexity"], 1),
                _figure(text.get("distinct_2"), 2),
                _figure(text.get("repetition_3"), 2),
            ]
        )
    return table


def terminal_table(records: list[dict[str, Any]]) -> Table:
    """The table for a terminal, without the columns in which all rows agree on method or seed."""
    body = rows(records)
    table = Table(box=None, pad_edge=False, header_style="bold")
    shown = []
    for i, heading in enumerate(HEADINGS):
        cells = {row[i] for row in body}
        if heading in ("method", "seed") and len(cells) == 1:
            continue
        shown.append(i)
        # Headings may break at their spaces, figures may not.
        justify: Literal["left", "right"] = "left" if i < _TEXT_COLUMNS else "right"
        table.add_column(heading, justify=justify, min_width=max(map(len, cells)))
    for row in body:
        table.add_row(*(row[i] for i in shown))
    return table


def markdown_table(records: list[dict[str, Any]]) -> str:
    """The table for a document."""
    lines = ["| " + " | ".join(HEADINGS) + " |"]
    lines.append("|" + "|".join(["---"] * _TEXT_COLUMNS + ["--:"] * (len(HEADINGS) - 2)) + "|")
    lines += ["| " + " | ".join(row) + " |" for row in rows(records)]
    return "\n".join(lines) + "\n"


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
