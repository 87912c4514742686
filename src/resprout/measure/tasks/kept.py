"""Finished tasks on disk: `TASK.json` and `TASK.samples.jsonl`, whole or not there."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from resprout.files import file_sha256, new_file, read_json, set_aside, write_json
from resprout.measure.tasks.scores import Count, count, is_perplexity

FORMAT = 1
_SAMPLES = ".samples.jsonl"


def _file(folder: Path, task: str) -> Path:
    return folder / (re.sub(r"[^\w.+-]", "_", task) + ".json")


def keep(
    folder: Path, record: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Write a finished task, its items first: what has a `TASK.json` is complete.

    Args:
        folder: made where it is not there.
        record: plain JSON with `task` and `identity`.
        rows: of its items.

    Returns:
        The record, as it will be read.
    """
    path = _file(folder, record["task"])
    samples = path.with_name(path.stem + _SAMPLES)
    with new_file(samples) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    about = {"file": samples.name, "sha256": file_sha256(samples)}
    write_json(path, {"format": FORMAT, **record, "samples": about})
    found = read_json(path)
    assert isinstance(found, dict)
    return found


def read_task(folder: Path, task: str) -> dict[str, Any] | None:
    """A finished task; None where there is none.

    A file that cannot be read, or whose items are not those that were written with it, is set
    aside as `TASK.json.corrupt-N`.
    """
    path = _file(folder, task)
    if not path.is_file():
        return None
    try:
        record = read_json(path)
        samples = folder / record["samples"]["file"]
        if record["format"] != FORMAT or record["task"] != task or not record["metrics"]:
            raise ValueError("not a finished task")
        if file_sha256(samples) != record["samples"]["sha256"]:
            raise ValueError("its items are not those it was written with")
    except (ValueError, KeyError, TypeError, OSError):
        set_aside(path)
        return None
    assert isinstance(record, dict)
    return record


def read_if_same(folder: Path, task: str, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """A finished task that was made from just these; None where there is none."""
    record = read_task(folder, task)
    if record is None or record.get("identity") != json.loads(json.dumps(identity)):
        return None
    return record


def finished(folder: Path) -> dict[str, dict[str, Any]]:
    """All finished tasks of a folder, task -> record."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            task = read_json(path)["task"]
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(task, str) and (record := read_task(folder, task)) is not None:
            found[task] = record
    return found


def item_counts(folder: Path, task: str, metric: str | None = None) -> dict[str, Count]:
    """What each item of a finished task adds to a metric: item -> (numerator, denominator).

    Args:
        folder: of the finished tasks.
        task: one of them.
        metric: its label; None for the headline metric.

    Returns:
        Items are called `TASK/NUMBER/HASH`, so that equal names are equal items whatever the model.

    Raises:
        ValueError: the task is not finished, or the metric is not a mean over items.
    """
    record = read_task(folder, task)
    if record is None:
        raise ValueError(f"tasks: {task!r} is not finished in {folder}")
    label = metric or record["headline"]
    name, _, chosen = label.partition(",")
    found = {}
    with (folder / record["samples"]["file"]).open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            if row["filter"] != (chosen or "none") or name not in row["metrics"]:
                continue
            one = count(label, row["metrics"][name])
            if one is None:
                raise ValueError(f"tasks: {label} of {task!r} is not a mean over items")
            found[f"{row['task']}/{row['doc_id']}/{row['doc_hash'][:16]}"] = one
    return found


def item_scores(folder: Path, task: str) -> dict[str, float]:
    """The headline score of each item of a finished task, by `item_counts`'s names.

    1 and 0 for right and wrong, a share where an item has several parts, and of perplexities the
    nats per item, word or byte, of which fewer are better.

    Raises:
        ValueError: the task is not finished, or its metric is not a mean over items.
    """
    return {item: total / size for item, (total, size) in item_counts(folder, task).items() if size}


def lower_is_better(record: Mapping[str, Any]) -> bool:
    """Whether a smaller headline score is the better one."""
    better = record["metrics"][record["headline"]]["higher_is_better"]
    return is_perplexity(record["headline"]) or not better


def digest(value: Any) -> str:
    """sha256 over plain JSON, the same for equal values."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
