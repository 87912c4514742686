"""Rows of JSON lines, read and checked whole before anything is run on them."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resprout.hints import first_line
from resprout.measure.tasks.shapes import FaultError, Row, check_row


@dataclass(frozen=True)
class DataFile:
    """A file of a task's data.

    Attributes:
        name: under the folder of task data, with forward slashes.
        sha256: of its bytes.
        rows: as a `datasets.Dataset`, equal to what `load_dataset("json")` makes of the file.
    """

    name: str
    sha256: str
    rows: Any


def read_data_file(folder: Path, name: str, shape: type[Row] | None) -> DataFile:
    """Read a file of JSON lines, one object a line; empty lines are passed over.

    Args:
        folder: of the task data.
        name: of the file in it.
        shape: what each row has to be; None checks only that it is an object.

    Raises:
        ValueError: in one line, with file, line and column: the file is missing, empty or not
            UTF-8, a line is not a JSON object, a column is missing or wrong.
    """
    path = folder / name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"task_data: {path} cannot be read ({error.strerror})") from error
    rows = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        row = _row(line, f"task_data: {path}, line {number}")
        if shape is not None:
            try:
                check_row(shape, row)
            except FaultError as fault:
                raise ValueError(f"task_data: {path}, line {number}, {fault}") from fault
        rows.append(row)
    if not rows:
        raise ValueError(f"task_data: {path} is empty")
    return DataFile(name, hashlib.sha256(data).hexdigest(), _table(rows, path))


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where}, column {error.start + 1}: not UTF-8 ({error.reason})"
        ) from error
    try:
        row = json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}, column {error.colno}: not JSON ({error.msg})") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not JSON ({first_line(error)})") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where}: got {type(row).__name__}, allowed is an object, {{...}}")
    return row


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def _table(rows: list[dict[str, Any]], path: Path) -> Any:
    """Rows as a data set in memory; a column that a row lacks is None there, as in datasets."""
    import datasets  # type: ignore[import-untyped]
    import pyarrow as pa  # type: ignore[import-untyped]

    columns = dict.fromkeys(column for row in rows for column in row)
    values = {column: [row.get(column) for row in rows] for column in columns}
    for column, cells in values.items():
        try:
            pa.array(cells)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise ValueError(
                f"task_data: {path}, column {column!r}: its values are not all of one type "
                f"({first_line(error)})"
            ) from error
    return datasets.Dataset.from_dict(values)
