"""Parquet files: only the text's column, a few rows at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from resprout.data.pieces import DamagedError, Item, Skipped, pieces_of
from resprout.hints import first_line

ROWS_AT_ONCE = 256


def columns(path: Path) -> dict[str, str]:
    """Column -> type.

    Raises:
        ValueError: the file is no Parquet, or has lost its end, where the columns are described.
    """
    with _open(path) as file:
        return {field.name: str(field.type) for field in file.schema_arrow}


def is_text(kind: str) -> bool:
    """Whether a column of this type holds strings."""
    return "string" in kind and not kind.startswith(("list", "struct", "map", "large_list"))


def read_parquet(
    path: Path, name: str, field: str, index: int, base: list[int] | None, given: int
) -> Iterator[Item]:
    """The documents of a Parquet file, named `FILE:ROW`, counted from 1.

    Args:
        path: the file.
        name: of the file.
        field: the column that holds the text.
        index: of the file in its source; the base of a position is `[index, [group, rows]]`.
        base: `[group, rows]`: row groups, and rows of the next one, already read; None at the
            beginning.
        given: pieces already given of the document there.
    """
    try:
        file = _open(path)
    except ValueError as error:
        yield Skipped("corrupt", f"{name} ({error})", [[index + 1, None], 0])
        return
    first, done = base or (0, 0)
    with file:
        if field not in file.schema_arrow.names:
            yield Skipped("no_text", f"{name} (no column {field!r})", [[index + 1, None], 0])
            return
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        number = sum(sizes[:first])
        for group in range(first, len(sizes)):
            before = [index, [group, done]]
            row = 0
            try:
                for text in _texts(file, group, field):
                    row += 1
                    if row <= done:
                        continue
                    where, after = f"{name}:{number + row}", [index, [group, row]]
                    if isinstance(text, UnicodeDecodeError):
                        yield Skipped("undecodable", f"{where} ({text.reason})", [after, 0])
                    elif isinstance(text, str):
                        yield from pieces_of(where, text, before, after, given)
                    else:
                        yield Skipped("no_text", where, [after, 0])
                    before, given = after, 0
            except DamagedError as error:
                where = f"{name} from row {number + row + 1} to {number + sizes[group]} ({error})"
                yield Skipped("corrupt", " ".join(where.split()), [[index, [group + 1, 0]], 0])
            number += sizes[group]
            done = 0


def _texts(file: Any, group: int, field: str) -> Iterator[Any]:
    """A row group's column: strings, None, or the error of one that is not UTF-8."""
    batches = file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=[field])
    while True:
        try:
            batch = next(batches, None)
        except Exception as error:  # OSError, ArrowInvalid and more: all mean damaged data
            raise DamagedError(first_line(error)) from error
        if batch is None:
            return
        column = batch.column(0)
        try:
            yield from column.to_pylist()
        except UnicodeDecodeError:
            yield from map(_value, column)


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError as error:
        return error


def _open(path: Path) -> Any:
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    try:
        # A column chunk can be gigabytes: read through a small buffer instead of at once.
        return pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False)
    except Exception as error:  # ArrowInvalid and more: all mean that it is no Parquet file
        raise ValueError(first_line(error)) from error
