"""Tasks by level: each score with its change from the same subject uncut."""

from collections.abc import Sequence
from typing import Any

from resprout.report.curves import Curve
from resprout.report.plot_data import by_level, score_of, tasks

FULL_COLOUR = 0.5  # a change by half of the uncut score is coloured fully


def task_tables(found: Sequence[Curve]) -> list[dict[str, Any]]:
    """A table per curve that has tasks.

    Returns:
        Per table: `title`, `levels` (amounts) and `rows`: the task's name, its metric, whether
        higher is better, and a cell per level: `text`, `value`, `change` (relative, None uncut),
        `side` (`better`, `worse`, or empty), `strength` 0 to 1, and `unclear`: whether the uncut
        score lies within the cell's interval.
    """
    tables = []
    for curve in found:
        rows = [row for task in tasks([curve]) if (row := _row(curve, task)) is not None]
        if rows:
            tables.append({"title": curve.label, "levels": curve.amounts.tolist(), "rows": rows})
    return tables


def _row(curve: Curve, task: str) -> dict[str, Any] | None:
    values = by_level(curve, lambda record: score_of(record, task))
    if values is None:
        return None
    scores = [score_of(record, task) for row in curve.records for record in row]
    known = next(score for score in scores if score is not None)
    up = bool(known["higher_is_better"])
    uncut = values["value"][0] if curve.amounts[0] == 0 else None
    cells = []
    for level, value in enumerate(values["value"]):
        low, high = values["low"][level], values["high"][level]
        cells.append(_cell(value, low, high, uncut if curve.amounts[level] > 0 else None, up))
    return {"task": task, "metric": known["metric"], "up": up, "cells": cells}


def _cell(
    value: float | None, low: float | None, high: float | None, uncut: float | None, up: bool
) -> dict[str, Any]:
    cell: dict[str, Any] = {
        "value": value,
        "text": "-",
        "change": None,
        "side": "",
        "strength": 0.0,
    }
    cell |= {"unclear": False, "interval": None}
    if value is None:
        return cell
    cell["text"] = f"{value:.4g}"
    if low is not None and high is not None:
        cell["interval"] = f"{low:.3g} to {high:.3g}"
    if uncut:
        change = value / uncut - 1
        unclear = low is not None and high is not None and low <= uncut <= high
        side = "" if change == 0 else "better" if (change > 0) == up else "worse"
        strength = min(1.0, abs(change) / FULL_COLOUR)
        cell |= {"change": change, "side": side, "strength": strength, "unclear": unclear}
    return cell
