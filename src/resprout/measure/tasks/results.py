"""From lm-eval's results of one task to what is kept of it: plain JSON, with intervals."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, SupportsFloat, TypeGuard

from resprout.measure.figure import Figure
from resprout.measure.tasks.names import headline, metric_label
from resprout.measure.tasks.registry import plain
from resprout.measure.tasks.scores import Score, chance, score


def summary(name: str, group: Any, raw: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of a task or group, with intervals over its items.

    Args:
        name: of the task or group.
        group: lm-eval's Group, None for a task by itself.
        raw: what `simple_evaluate` returned.

    Returns:
        `headline`, `chance`, `metrics` (label -> score, `higher_is_better`), `subtasks` of a
        group (task -> label -> value and standard error), `shots`, `versions`.
    """
    members = list(raw["samples"])
    better = raw["higher_is_better"]
    scores = {}
    for label, value, stderr in _metrics(raw["results"][name]):
        known = [m for m in members if label in _labels(raw["results"][m])]
        values = [[value for _, value in item_values(raw["samples"][m], label)] for m in known]
        scores[label] = score(label, value, stderr, values, _pooled(group, label))
    if not scores:
        raise ValueError(f"lm-eval reports no score of {name}")
    leading = headline(name, scores)
    return {
        "headline": leading,
        "chance": _chance(raw, scores[leading]),
        "metrics": {
            label: _score_json(one)
            | {"higher_is_better": _better(better, [name, *members], label.partition(",")[0])}
            for label, one in scores.items()
        },
        "subtasks": {
            member: {
                label: {"value": finite(value), "stderr": stderr}
                for label, value, stderr in _metrics(raw["results"][member])
            }
            for member in (members if group is not None else [])
        },
        "items": {member: raw["n-samples"][member]["effective"] for member in members},
        "shots": {member: raw["n-shot"][member] for member in members},
        "versions": {member: raw["versions"][member] for member in members},
    }


def _metrics(results: Mapping[str, Any]) -> Iterator[tuple[str, float, float | None]]:
    """Label, value and standard error of each metric in one of lm-eval's tables."""
    for key, value in results.items():
        metric, comma, rest = key.partition(",")
        if not comma or metric.endswith("_stderr") or not _is_number(value):
            continue
        stderr = results.get(f"{metric}_stderr,{rest}")
        error = float(stderr) if _is_number(stderr) else math.nan
        yield metric_label(key), float(value), finite(error)


def _is_number(value: Any) -> TypeGuard[SupportsFloat]:
    # lm-eval writes "N/A" for no standard error, and numpy's numbers
    return isinstance(value, SupportsFloat)


def _labels(results: Mapping[str, Any]) -> set[str]:
    return {label for label, _, _ in _metrics(results)}


def _pooled(group: Any, label: str) -> bool:
    if group is None:
        return True
    metric = label.partition(",")[0]
    return all(
        one.weight_by_size for one in group.aggregate_metric_list or [] if one.metric == metric
    )


def _better(table: Mapping[str, Any], names: Sequence[str], metric: str) -> bool:
    for name in names:
        known = (table.get(name) or {}).get(metric)
        if known is not None:
            return bool(known)
    return True


def _chance(raw: Mapping[str, Any], leading: Score) -> float | None:
    configs = raw["configs"].values()
    if leading.unit != "share" or any(c["output_type"] != "multiple_choice" for c in configs):
        return None
    # One filter's rows: they are the same items.
    rows = [row for samples in raw["samples"].values() for row in samples]
    return chance(rows, leading.interval == "Wilson")


def item_values(samples: Sequence[Mapping[str, Any]], label: str) -> Iterator[tuple[int, Any]]:
    """(number of the item, what lm-eval keeps of it) for one metric of one task."""
    metric, _, chosen = label.partition(",")
    for sample in samples:
        if sample["filter"] == (chosen or "none") and metric in sample:
            yield sample["doc_id"], jsonable(sample[metric])


def sample_rows(raw: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What is kept of each item: task, number, hash, target, metrics, the model's responses."""
    for task, samples in raw["samples"].items():
        for sample in samples:
            yield {
                "task": task,
                "doc_id": sample["doc_id"],
                "doc_hash": sample["doc_hash"],
                "filter": sample["filter"],
                "target": jsonable(sample["target"]),
                "metrics": {name: jsonable(sample[name]) for name in sample["metrics"]},
                "responses": jsonable(sample["resps"]),
                "filtered": jsonable(sample["filtered_resps"]),
            }


def recorded_config(
    config: Mapping[str, Any], source: Any, files: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A task's configuration as a record holds it: exact, readable, no machine's paths.

    Args:
        config: as lm-eval reports it, functions as their source text.
        source: the file of lm-eval's that it comes from.
        files: of a task on local files: split -> name, digest and rows.
    """
    kept = {key: value for key, value in config.items() if key != "custom_dataset"}
    if source is not None:
        kept["metadata"] = {**(kept.get("metadata") or {}), "config_source": source}
    if files is not None:
        kept["data_files"] = dict(files)
    result: dict[str, Any] = plain(kept)
    return result


def finite(value: float) -> float | None:
    """The value, None where JSON has no word for it."""
    return float(value) if math.isfinite(value) else None


def jsonable(value: Any) -> Any:
    """Numpy's and Python's containers and numbers as JSON's; what is not finite by its name."""
    if isinstance(value, dict):
        return {str(key): jsonable(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [jsonable(part) for part in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if hasattr(value, "tolist"):  # numpy's arrays and numbers
        return jsonable(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return str(value)


def _score_json(one: Score) -> dict[str, Any]:
    values = asdict(one)
    values["ci95"] = None if one.ci95 is None else list(one.ci95)
    return values


def figures(record: Mapping[str, Any]) -> dict[str, Figure]:
    """The figures of a kept task, `TASK/METRIC` -> figure.

    Args:
        record: as `kept.read_task` gives it.
    """
    found = {}
    for label, one in record["metrics"].items():
        interval = f"; 95 % interval: {one['interval']}" if one["interval"] else ""
        found[f"{record['task']}/{label}"] = Figure(
            value=one["value"],
            unit=one["unit"],
            items=one["items"],
            protocol=record["protocol"] + interval,
            seconds=record["seconds"],
            ci95=None if one["ci95"] is None else (one["ci95"][0], one["ci95"][1]),
            reason=one["reason"],
        )
    return found
