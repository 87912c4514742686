"""A line of a chart, wherever it comes from: a publication, a run, a comparison's own file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from resprout.files import read_json
from resprout.report.curves import curves
from resprout.report.published import PublishedStudy
from resprout.report.records import protocols_of, read_run

COMPARISON = "full_comparison.json"


@dataclass(frozen=True)
class ChartSeries:
    """Losses of one subject, level by level.

    Attributes:
        label: whose, and where from.
        amounts: (L,) fraction of the prunable weights that was cut.
        surviving: (L,) parameters that are left.
        nats_per_token: (L,) held-out loss after recovery.
        intervals: (L,) low and high end at 95 %; None where there is none.
        published: whether it is a publication's.
    """

    label: str
    amounts: tuple[float, ...]
    surviving: tuple[float, ...]
    nats_per_token: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...] | None = None
    published: bool = False


def published_series(study: PublishedStudy) -> list[ChartSeries]:
    """The curves of a publication that have losses and sizes."""
    return [
        ChartSeries(
            f"{curve.subject}, published",
            curve.amounts,
            curve.surviving,
            curve.figures["nats_per_token"],
            published=True,
        )
        for curve in study.published_curves
        if curve.surviving is not None and "nats_per_token" in curve.figures
    ]


def read_series(path: Path) -> list[ChartSeries]:
    """The curves of a run's folder, or of a comparison's JSON file.

    Raises:
        ValueError: it is neither, or holds no finished point.
    """
    if path.is_dir():
        if not (path / "study.json").is_file() and (path / COMPARISON).is_file():
            return _of_comparison(path / COMPARISON)
        return _of_run(path)
    if path.is_file():
        return _of_comparison(path)
    raise ValueError(
        f"results: got {str(path)!r}, allowed is a run's folder or a {COMPARISON}; there is none"
    )


def _of_run(folder: Path) -> list[ChartSeries]:
    try:
        run = read_run(folder)
    except ValueError as error:
        raise ValueError(f"results: {str(error).removeprefix('run: ')}") from error
    protocols = protocols_of(run)
    found = []
    for curve in curves(run.records):
        estimates = curve.estimates()
        label = curve.label if len(protocols) > 1 else f"{curve.label}, {protocols[0]}"
        found.append(
            ChartSeries(
                label,
                tuple(curve.achieved.tolist()),
                tuple(curve.surviving.tolist()),
                tuple(e.value for e in estimates),
                tuple((e.low, e.high) for e in estimates),
            )
        )
    return found


Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Level(BaseModel):
    """A level of a comparison's file, in the published program's words."""

    model_config = ConfigDict(extra="allow")

    sparsity: Annotated[float, Field(ge=0, le=1)]
    nonzero_params: Annotated[float, Field(gt=0)]
    val_loss: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    ci95: tuple[Finite, Finite] | None = None  # ours


class _Comparison(BaseModel):
    """`full_comparison.json`, as far as a chart needs it: the original program's file fits too."""

    model_config = ConfigDict(extra="allow")

    biogpt_prune: list[_Level]
    pythia_prune: list[_Level]
    subjects: dict[str, Any] = {}
    protocol: str | None = None


def _of_comparison(path: Path) -> list[ChartSeries]:
    try:
        found = _Comparison.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise ValueError(f"results: {path}: {where}: {first['msg']}") from error
    place = path.parent.name or path.name
    if found.protocol is not None:
        place += f", {found.protocol}"
    series = []
    for key, levels in (("biogpt", found.biogpt_prune), ("pythia", found.pythia_prune)):
        named = found.subjects.get(key)
        name = named.get("name", key) if isinstance(named, dict) else key
        ordered = sorted(levels, key=lambda level: level.sparsity)
        intervals = tuple(level.ci95 for level in ordered if level.ci95 is not None)
        if ordered:
            series.append(
                ChartSeries(
                    f"{name}, {place}",
                    tuple(level.sparsity for level in ordered),
                    tuple(level.nonzero_params for level in ordered),
                    tuple(level.val_loss for level in ordered),
                    intervals if len(intervals) == len(ordered) else None,
                )
            )
    if not series:
        raise ValueError(f"results: {path} holds no level of either curve")
    return series
