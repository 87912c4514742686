"""Files beside a comparison's records: the texts that were written, and the memory it took."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from resprout.files import write_text

OUTPUTS, MEMORY = "outputs", "memory.csv"
_COLUMNS = ("subject", "method", "level", "seed", "stage", "in_use_bytes", "peak_bytes", "memory")


def save_outputs(records: list[dict[str, Any]], folder: Path) -> list[Path]:
    """Write each point's texts, one file per temperature, into `folder/outputs`.

    Files are named `SUBJECT_METHOD_LEVEL_seedN_tT.txt`, the level in per cent.
    """
    written = []
    for record in records:
        for temperature, text in _texts(record):
            name = (
                f"{record['subject']}_{record['method']}_{100 * record['amount']:g}"
                f"_seed{record['seed']}_t{temperature}.txt"
            )
            path = folder / OUTPUTS / name
            write_text(path, "\n".join(_shown(sample) for sample in text["samples"]))
            written.append(path)
    return written


def _texts(record: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Temperature -> text measure, of those that did not fail."""
    measures = record["measures"]
    first = measures.get("text") or {}
    if "samples" in first:
        yield f"{first['temperature']:g}", first
    for temperature, text in (measures.get("text_at") or {}).items():
        if "samples" in text:
            yield temperature, text


def _shown(sample: dict[str, Any]) -> str:
    name = sample.get("name", sample["category"])
    return f"=== {name}\n{sample['prompt']}\n--- continued\n{sample['text']}\n"


def save_memory(records: list[dict[str, Any]], folder: Path) -> Path:
    """Write `folder/memory.csv`: bytes of each stage of each point and of each timed workload.

    `memory` says what was measured: `device` (torch's allocator), `process` (resident memory of
    the process, its peak since the stage began) or `process since start`. `in_use_bytes` is what
    was taken before the work, where that was recorded.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for record in records:
        base = {
            "subject": record["subject"],
            "method": record["method"],
            "level": f"{100 * record['amount']:g}",
            "seed": record["seed"],
        }
        for stage, cost in _costs(record):
            own = {name: cost.get(name) for name in ("in_use_bytes", "peak_bytes", "memory")}
            writer.writerow(base | {"stage": stage} | own)
    path = folder / MEMORY
    write_text(path, out.getvalue())
    return path


def _costs(record: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from record["stages"].items()
    speed = record["measures"].get("speed") or {}
    for name, workload in speed.get("workloads", {}).items():
        yield f"speed {name}", workload
