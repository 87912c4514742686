"""Speed and energy: a table per workload, a row per level of each curve."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from resprout.report.curves import Curve
from resprout.report.plot_data import by_level, figure_of, workloads

# Heading, measure, figure, digits.
COLUMNS = (
    ("first token, ms", "speed", "time_to_first_token", 2),
    ("per token, ms (p50)", "speed", "time_per_token_p50", 2),
    ("over uncut", "speed", "time_per_token_p50/ratio", 3),
    ("per token, ms (p95)", "speed", "time_per_token_p95", 2),
    ("tokens/s", "speed", "tokens_per_second", 1),
    ("J per token", "energy", "joules_per_token", 4),
    ("J per token, gross", "energy", "gross_joules_per_token", 4),
)


def workload_tables(found: Sequence[Curve]) -> list[dict[str, Any]]:
    """Figures by level, means over seeds; a single seed's with its interval.

    Returns:
        Per workload: `title`, `headings` of the figures that any row has, and `rows`: `label`,
        `amount`, and per heading a cell of `text`, `value` and `interval`.
    """
    tables = []
    for workload in workloads(found):
        rows, shown = [], set()
        for curve in found:
            columns = {
                heading: by_level(
                    curve, partial(figure_of, measure=measure, name=f"{workload}/{name}")
                )
                for heading, measure, name, _ in COLUMNS
            }
            shown |= {heading for heading, values in columns.items() if values is not None}
            for level, amount in enumerate(curve.amounts.tolist()):
                cells = {
                    heading: _cell(columns[heading], level, digits)
                    for heading, _, _, digits in COLUMNS
                }
                if any(cell["value"] is not None for cell in cells.values()):
                    rows.append({"label": curve.label, "amount": amount, "cells": cells})
        headings = [heading for heading, *_ in COLUMNS if heading in shown]
        if rows:
            tables.append({"title": workload, "headings": headings, "rows": rows})
    return tables


def absent_energy(found: Sequence[Curve]) -> list[str]:
    """Why there are no joules, where they were asked for."""
    reasons: dict[str, None] = {}
    for curve in found:
        for record in (record for row in curve.records for record in row):
            reason = (record["measures"].get("energy") or {}).get("absent")
            if reason:
                reasons[str(reason)] = None
    return list(reasons)


def how_timed(found: Sequence[Curve]) -> str | None:
    """The protocol sentence of the first figure of time."""
    for curve in found:
        for record in (record for row in curve.records for record in row):
            for name, figure in (record["measures"].get("speed") or {}).get("figures", {}).items():
                if name.endswith("/time_per_token_p50") and "protocol" in figure:
                    return str(figure["protocol"])
    return None


def _cell(values: Any, level: int, digits: int) -> dict[str, Any]:
    value = None if values is None else values["value"][level]
    if value is None:
        return {"text": "-", "value": None, "interval": None}
    low, high = values["low"][level], values["high"][level]
    interval = None if low is None else f"{low:.{digits}f} to {high:.{digits}f}"
    return {"text": f"{value:,.{digits}f}", "value": value, "interval": interval}
