"""What the page's own chart draws: each curve along every axis that its records have."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from resprout.measure.statistics import Estimate, Floats, from_resamples
from resprout.report.charts import styles
from resprout.report.curves import Curve, Record

Axis = dict[str, Any]
Values = dict[str, list[float | None]]


def plot_data(found: Sequence[Curve]) -> dict[str, Any]:
    """Axes and curves as plain JSON.

    Where the curves' tokens are not the same, losses are in bits per byte alone.

    Returns:
        `x`, `y`: axes as {key, label}, those that any curve has. `loss`: the key of the loss that
        `before` (recovery) is in the unit of. `curves`: label, the numbers of colour, dash and
        marker, `x` (key -> a place per level) and `y` (key -> value, low, high per level; None
        where there is none).
    """
    per_token = len({curve.tokens for curve in found}) == 1
    curves = [_curve(curve, per_token) for curve in found]
    for curve, style in zip(curves, styles(found), strict=True):
        curve.update(style)
    x_axes = [axis for axis in _x_axes(found) if any(axis["key"] in c["x"] for c in curves)]
    y_axes = [axis for axis in _y_axes(found) if any(axis["key"] in c["y"] for c in curves)]
    return {"x": x_axes, "y": y_axes, "loss": "nats" if per_token else "bits", "curves": curves}


def _curve(curve: Curve, per_token: bool) -> dict[str, Any]:
    scale = 1.0 if per_token else curve.bits_per_nat
    losses = curve.resampled()  # (1 + R, L), nats per token
    x: dict[str, list[float | None]] = {
        "amount": (100 * curve.amounts).tolist(),
        "achieved": (100 * curve.achieved).tolist(),
        "surviving": curve.surviving.tolist(),
    }
    for key in ("non_embedding", "flops"):
        sizes = getattr(curve, key)
        if sizes is not None:
            x[key] = sizes.tolist()
    y = {"bits": _estimates(losses * curve.bits_per_nat)}
    if per_token:  # per token means another thing to each tokenizer
        y |= {"nats": _estimates(losses), "perplexity": _estimates(np.exp(losses))}
    if curve.amounts[0] == 0:
        y["rise"] = _estimates(scale * (losses - losses[:, :1]))
    if curve.before is not None:
        y["before"] = _estimates(scale * curve.resampled(curve.before))
    for workload in workloads([curve]):
        times = by_level(
            curve, partial(figure_of, measure="speed", name=f"{workload}/time_per_token_p50")
        )
        rates = by_level(
            curve, partial(figure_of, measure="speed", name=f"{workload}/decode_tokens_per_second")
        )
        if times is not None:
            x[f"ms {workload}"] = times["value"]
        if rates is not None:
            y[f"speed {workload}"] = rates
    for task in tasks([curve]):
        values = by_level(curve, partial(score_of, task=task))
        if values is not None:
            y[f"task {task}"] = values
    names = ("label", "subject", "method", "protocol", "run", "seeds")
    return {name: getattr(curve, name) for name in names} | {"x": x, "y": y}


def by_level(curve: Curve, read: Callable[[Record], Any]) -> Values | None:
    """A figure along a curve: its mean over seeds; the interval of a single seed's alone.

    Args:
        curve: whose records are read.
        read: a record's figure, a mapping with `value` and `ci95`, or None.

    Returns:
        None where no level has it.
    """
    found: Values = {"value": [], "low": [], "high": []}
    for records in curve.records:
        figures = [read(record) for record in records]
        values = [f["value"] for f in figures if f is not None and f["value"] is not None]
        whole = len(values) == len(records)
        found["value"].append(float(np.mean(values)) if whole else None)
        interval = figures[0]["ci95"] if whole and len(records) == 1 else None
        low, high = interval or (None, None)
        found["low"].append(low)
        found["high"].append(high)
    return found if any(value is not None for value in found["value"]) else None


def figure_of(record: Record, measure: str, name: str) -> dict[str, Any] | None:
    """A figure of the speed or energy measure; None where it failed or was not asked for."""
    found: dict[str, Any] = (record["measures"].get(measure) or {}).get("figures", {})
    figure: dict[str, Any] | None = found.get(name)
    return figure


def score_of(record: Record, task: str) -> dict[str, Any] | None:
    """The metric that stands for a task; None where it failed or was not asked for."""
    found = (record["measures"].get("tasks") or {}).get("tasks", {}).get(task)
    if found is None:
        return None
    score: dict[str, Any] = found["metrics"][found["headline"]]
    return score | {"metric": found["headline"]}


def workloads(found: Sequence[Curve]) -> list[str]:
    """Names of what was timed, or metered, in the order of the records."""
    names: dict[str, None] = {}
    for record in _records(found):
        for measure in ("speed", "energy"):
            figures = (record["measures"].get(measure) or {}).get("figures", {})
            names |= dict.fromkeys(
                name.removesuffix("/ratio").rpartition("/")[0] for name in figures if "/" in name
            )
    return list(names)


def tasks(found: Sequence[Curve]) -> list[str]:
    """Names of tasks, in the order of the records."""
    names: dict[str, None] = {}
    for record in _records(found):
        names |= dict.fromkeys((record["measures"].get("tasks") or {}).get("tasks", {}))
    return list(names)


def _records(found: Sequence[Curve]) -> list[Record]:
    return [record for curve in found for row in curve.records for record in row]


def _x_axes(found: Sequence[Curve]) -> list[Axis]:
    contexts = {c.flops_context_tokens for c in found if c.flops_context_tokens is not None}
    context = f", in a context of {contexts.pop()}" if len(contexts) == 1 else ""
    axes = [
        {"key": "achieved", "label": "amount cut, achieved (% of prunable units)"},
        {"key": "amount", "label": "amount cut, asked for (% of prunable units)"},
        {"key": "surviving", "label": "surviving parameters"},
        {"key": "non_embedding", "label": "surviving non-embedding parameters"},
        {"key": "flops", "label": f"FLOPs per token, zeros skipped{context}"},
    ]
    for name in workloads(found):
        axes.append({"key": f"ms {name}", "label": f"milliseconds per token, {name}"})
    return axes


def _y_axes(found: Sequence[Curve]) -> list[Axis]:
    unit = "nats per token" if len({curve.tokens for curve in found}) == 1 else "bits per byte"
    axes = [
        {"key": "nats", "label": "held-out loss (nats per token)", "better": "down"},
        {"key": "bits", "label": "held-out loss (bits per byte)", "better": "down"},
        {"key": "rise", "label": f"rise over the own uncut loss ({unit})", "better": "down"},
        {"key": "perplexity", "label": "perplexity (per token)", "better": "down"},
    ]
    for record in reversed(_records(found)):
        for name, task in ((record["measures"].get("tasks") or {}).get("tasks") or {}).items():
            if any(axis["key"] == f"task {name}" for axis in axes):
                continue
            up = task["metrics"][task["headline"]]["higher_is_better"]
            label = f"task {name} ({task['headline']})"
            axes.append({"key": f"task {name}", "label": label, "better": "up" if up else "down"})
    for name in workloads(found):
        label = f"tokens per second, {name}"
        axes.append({"key": f"speed {name}", "label": label, "better": "up"})
    return axes


def _estimates(resampled: Floats) -> Values:
    """(1 + R, L) -> value, low, high per level."""
    found: list[Estimate] = [from_resamples(column) for column in resampled.T]
    return {
        "value": [_short(e.value) for e in found],
        "low": [_short(e.low) for e in found],
        "high": [_short(e.high) for e in found],
    }


def _short(value: float) -> float | None:
    """Six digits are more than a drawing shows; what is not finite is not drawn."""
    return float(f"{value:.6g}") if np.isfinite(value) else None
