"""Finished tasks on disk: `TASK.json` and `TASK.samples.jsonl`, whole or not there."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from resprout.files import (
    file_sha256,
    new_file,
    read_json,
    set_aside,
    write_json,
)
from resprout.measure.tasks.scores import Count, Score, count, is_perplexity
from resprout.seals import read_sealed, sealed

FORMAT = 1
_SAMPLES = ".samples.jsonl"

# What figures and tables read of a record and of each of its metrics.
_NEEDED = {
    "identity", "protocol", "lm_eval", "started", "ended", "seconds", "limit", "batch_size",
    "max_length", "seeds", "max_gen_toks", "data", "configs", "chance", "shots", "versions",
}  # fmt: skip
_NEEDED_OF_METRIC = {"higher_is_better", *(one.name for one in fields(Score))}

Notice = Callable[[str], None]


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
    # As it will be read: keys that are numbers come back as text, and in another order.
    found: dict[str, Any] = json.loads(json.dumps({"format": FORMAT, **record, "samples": about}))
    write_json(path, sealed(found))
    return found


def _silent(line: str) -> None:
    """For who has nobody to tell."""


def read_task(folder: Path, task: str, notice: Notice = _silent) -> dict[str, Any] | None:
    """A finished task; None where there is none.

    A file that cannot be read, that is not as it was written, or whose items are not those that
    were written with it, is set aside as `TASK.json.corrupt-N`.

    Args:
        folder: of finished tasks.
        task: its name.
        notice: told, in one line, what is set aside, where the task is then measured again.
    """
    path = _file(folder, task)
    if not path.is_file():
        return None
    try:
        return _read_whole(path, task)
    except ValueError as error:
        notice(f"{error}; set aside as {set_aside(path).name}, measured again")
        return None


def _read_whole(path: Path, task: str) -> dict[str, Any]:
    """The record in a file, as it was written, with the items that were written with it.

    Raises:
        ValueError: one line that names the file and what is wrong with it.
    """
    try:
        record = read_sealed(path)
        if not _is_finished(record, task):
            raise ValueError(f"{path}: not a finished task {task!r}")
        samples = path.with_name(path.stem + _SAMPLES)
        if record["samples"] != {"file": samples.name, "sha256": file_sha256(samples)}:
            raise ValueError(f"{samples}: not the items that {path.name} was written with")
    except OSError as error:
        raise ValueError(f"{error.filename or path}: cannot be read ({error.strerror})") from error
    assert isinstance(record, dict)
    return record


def _is_finished(record: Any, task: str) -> bool:
    """Whether a record is of that task, with what its readers need."""
    if not isinstance(record, dict) or "samples" not in record:
        return False
    if record.get("format") != FORMAT or record.get("task") != task:
        return False
    metrics = record.get("metrics")
    if not isinstance(metrics, dict) or record.get("headline") not in list(metrics):
        return False
    return record.keys() >= _NEEDED and all(
        isinstance(m, dict) and m.keys() >= _NEEDED_OF_METRIC for m in metrics.values()
    )


def read_if_same(
    folder: Path, task: str, identity: Mapping[str, Any], notice: Notice = _silent
) -> dict[str, Any] | None:
    """A finished task that was made from just these; None where there is none.

    Args:
        folder: of finished tasks.
        task: its name.
        identity: all that its result is determined by.
        notice: as of `read_task`.
    """
    record = read_task(folder, task, notice)
    if record is None or record.get("identity") != json.loads(json.dumps(identity)):
        return None
    return record


def all_there(
    folder: Path, summaries: Mapping[str, Mapping[str, Any]], notice: Notice = _silent
) -> bool:
    """Whether each of these tasks is still in the folder, with the very items it was measured on.

    Args:
        folder: of finished tasks.
        summaries: task -> what `run_tasks` gave of it (its details' `tasks`).
        notice: as of `read_task`.
    """
    records = {task: read_task(folder, task, notice) for task in summaries}  # each is looked at
    return all(
        record is not None and record["samples"] == summaries[task].get("samples")
        for task, record in records.items()
    )


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
