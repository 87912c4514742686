"""What the three studies published, as data: every table and figure with its source and unit.

The files are `results/published/STUDY.json`, in the repository. Nothing in them was measured here.
"""

from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from resprout.files import read_json
from resprout.hints import did_you_mean

STUDIES = ("biogpt", "glu_width_llama", "agency")
WORDS = "words"

Cell = float | int | str | None


class _Strict(BaseModel):
    """Unknown keys and wrong types are errors: a figure that is not read would be lost silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Source(_Strict):
    """A page: its title, where it was published, and its file among the project's seeds."""

    title: str
    place: str
    seed: str


class Column(_Strict):
    """A column of a table: its name as printed, and the unit of its numbers (or `words`)."""

    name: str
    unit: str


class Table(_Strict):
    """A table as printed; `section` is the heading that it stands under."""

    id: str
    source: str
    section: str
    columns: list[Column]
    rows: list[list[Cell]]
    note: str | None = None

    @model_validator(mode="after")
    def _rows_fit(self) -> "Table":
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.id}: a row of {len(row)} cells, not {len(self.columns)}")
            for column, cell in zip(self.columns, row, strict=True):
                if column.unit == WORDS and not isinstance(cell, str):
                    raise ValueError(f"{self.id}: {column.name}: {cell!r} is no word")
        return self

    def column(self, name: str) -> list[Cell]:
        """The cells of a column.

        Raises:
            KeyError: the table has no such column.
        """
        names = [column.name for column in self.columns]
        if name not in names:
            raise KeyError(f"{self.id} has no column {name!r}{did_you_mean(name, names)}")
        return [row[names.index(name)] for row in self.rows]

    def unit(self, name: str) -> str:
        """The unit of a column."""
        return next(column.unit for column in self.columns if column.name == name)


class PrintedFigure(_Strict):
    """A number that stands in a page's text, with the wording around it."""

    name: str
    value: float | int
    unit: str
    source: str
    section: str
    wording: str


class Claim(_Strict):
    """What a page says in words."""

    source: str
    section: str
    wording: str


class CurveColumns(_Strict):
    """Which columns of a table are a subject's curve; `figures` is measure -> column."""

    subject: str
    table: str
    amount: str
    surviving: str | None = None
    figures: dict[str, str]


class PublishedCurve(_Strict):
    """A subject's published figures, level by level.

    Attributes:
        subject: as published.
        amounts: (L,) asked for, 0 to 1.
        surviving: (L,) parameters that are left; None where the page does not say.
        figures: measure -> (L,) values, such as `nats_per_token`, `mmlu`.
        units: measure -> its unit.
        source: the page and the section, in words.
    """

    subject: str
    amounts: tuple[float, ...]
    surviving: tuple[float, ...] | None
    figures: dict[str, tuple[float, ...]]
    units: dict[str, str]
    source: str


class PublishedStudy(_Strict):
    """All that a study published."""

    study: Literal["biogpt", "glu_width_llama", "agency"]
    title: str
    sources: dict[str, Source]
    curves: list[CurveColumns]
    tables: list[Table]
    figures: list[PrintedFigure]
    claims: list[Claim]
    note: str | None = None

    @model_validator(mode="after")
    def _names_are_there(self) -> "PublishedStudy":
        parts: list[Table | PrintedFigure | Claim] = [*self.tables, *self.figures, *self.claims]
        for part in parts:
            if part.source not in self.sources:
                raise ValueError(f"source: {part.source!r} is not among the sources")
        for curve in self.curves:
            try:
                self._curve(curve)
            except (KeyError, TypeError) as error:
                raise ValueError(f"curves: {curve.subject}: {error}") from error
        return self

    def table(self, name: str) -> Table:
        """The table of that id.

        Raises:
            KeyError: there is none.
        """
        known = [table.id for table in self.tables]
        if name not in known:
            raise KeyError(f"{self.study} has no table {name!r}{did_you_mean(name, known)}")
        return self.tables[known.index(name)]

    @cached_property
    def published_curves(self) -> tuple[PublishedCurve, ...]:
        """The curves, one per subject and table."""
        return tuple(self._curve(curve) for curve in self.curves)

    def _curve(self, columns: CurveColumns) -> PublishedCurve:
        table = self.table(columns.table)
        surviving = None
        if columns.surviving is not None:
            surviving = tuple(1e6 * value for value in _numbers(table, columns.surviving))
        return PublishedCurve(
            subject=columns.subject,
            amounts=tuple(value / 100 for value in _numbers(table, columns.amount)),
            surviving=surviving,
            figures={key: _numbers(table, name) for key, name in columns.figures.items()},
            units={key: table.unit(name) for key, name in columns.figures.items()},
            source=f"{self.sources[table.source].title}, {table.section}",
        )


def _numbers(table: Table, name: str) -> tuple[float, ...]:
    cells = table.column(name)
    for cell in cells:
        if not isinstance(cell, int | float):
            raise TypeError(f"{table.id}: {name}: {cell!r} is no number")
    return tuple(float(cell) for cell in cells)  # type: ignore[arg-type]


def published_folder() -> Path | None:
    """The repository's `results/published`; None where Resprout runs without its repository."""
    folder = Path(__file__).parents[3] / "results" / "published"
    return folder if folder.is_dir() else None


def read_published(study: str, folder: Path | None = None) -> PublishedStudy:
    """The published tables and figures of a study.

    Args:
        study: one of `STUDIES`.
        folder: of the JSON files; default the repository's.

    Raises:
        ValueError: no such study, no such file, or a file that is not of this shape.
    """
    if study not in STUDIES:
        raise ValueError(
            f"published: got {study!r}, allowed are {', '.join(STUDIES)}"
            + did_you_mean(study, STUDIES)
        )
    folder = folder or published_folder()
    path = None if folder is None else folder / f"{study}.json"
    if path is None or not path.is_file():
        raise ValueError(
            f"published: {path or 'results/published'} is not there; allowed is a clone of the "
            "repository, which has it"
        )
    try:
        return PublishedStudy.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise ValueError(f"{path}: {where}: {first['msg']}") from error
