"""Tables: one row per point, the same figures for terminal, page and Markdown."""

import math
from typing import Any, Literal

from rich.table import Table

HEADINGS = [
    "run",
    "subject",
    "method",
    "protocol",
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


PER_TOKEN = ("nats per token", "perplexity")


def rows(records: list[dict[str, Any]]) -> list[list[str]]:
    """The figures of each record as text, in the order of `HEADINGS`; `-` where there is none.

    The loss before recovery and the interval are in nats per token, or in bits per byte where the
    records' tokens are not the same.
    """
    table, per_token = [], _per_token(records)
    for record in records:
        measures = record["measures"]
        loss, text = measures["loss"], measures.get("text") or {}
        before = measures.get("loss_before_recovery") or {}
        scale = 1.0 if per_token else loss["tokens_per_byte"] / math.log(2)
        table.append(
            [
                record.get("run", ""),
                record["subject"],
                record["method"],
                record["protocol"],
                f"{record['amount']:.0%}",
                f"{record['achieved']:.1%}",
                str(record["seed"]),
                f"{record['parameters']['surviving']:,}",
                _figure(before.get("nats_per_token" if per_token else "bits_per_byte"), 3),
                _figure(loss["nats_per_token"], 3),
                f"{scale * loss['ci95'][0]:.3f} to {scale * loss['ci95'][1]:.3f}",
                _figure(loss["bits_per_byte"], 3),
                _figure(loss["perplexity"], 1),
                _figure(text.get("distinct_2"), 2),
                _figure(text.get("repetition_3"), 2),
            ]
        )
    return table


def table(records: list[dict[str, Any]]) -> list[list[str]]:
    """Headings and rows, without those of run, method, protocol or seed where all rows agree.

    Where the records' tokens are not the same there is no figure per token: rows are compared.
    """
    body, per_token = rows(records), _per_token(records)
    shown = [
        i
        for i, heading in enumerate(HEADINGS)
        if (per_token or heading not in PER_TOKEN)
        and (
            heading not in ("run", "method", "protocol", "seed")
            or len({row[i] for row in body}) > 1
        )
    ]
    return [[line[i] for i in shown] for line in [HEADINGS, *body]]


def is_text(heading: str) -> bool:
    """Whether a column holds words, set to the left; figures are set to the right."""
    return heading in ("run", "subject", "method", "protocol")


def terminal_table(records: list[dict[str, Any]], width: int) -> Table:
    """The table for a terminal of `width` characters, without the columns that it has no room for.

    The figures left out stand in the page and in `results.csv`.
    """
    columns = [list(column) for column in zip(*table(records), strict=True)]

    def needed(column: list[str]) -> int:
        heading, *cells = column  # headings may break at their spaces, figures may not
        return max(map(len, [*heading.split(), *cells])) + 1

    spares = ("perplexity", "distinct-2", "repetition-3", "bits per byte", "achieved")
    for spare in spares:
        if spare == "bits per byte" and not _per_token(records):
            continue
        if sum(map(needed, columns)) > width:
            columns = [column for column in columns if column[0] != spare]
    drawn = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column in columns:
        justify: Literal["left", "right"] = "left" if is_text(column[0]) else "right"
        drawn.add_column(column[0], justify=justify, width=needed(column) - 1)
    for row in zip(*(column[1:] for column in columns), strict=True):
        drawn.add_row(*row)
    return drawn


def markdown_table(records: list[dict[str, Any]]) -> str:
    """The table for a document."""
    headings, *body = table(records)
    rule = ["---" if is_text(heading) else "--:" for heading in headings]
    return "".join(f"| {' | '.join(line)} |\n" for line in [headings, rule, *body])


def _per_token(records: list[dict[str, Any]]) -> bool:
    """Whether all losses per token are of the same tokens."""
    return len({record["digests"]["tokens"] for record in records}) <= 1


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
