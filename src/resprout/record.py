"""What a run's files must hold to be read: the shape of a record and of `study.json`.

Whoever reads them checks them here first, so that a file that was cut short, edited or put there by
something else is named in one line, and never half-read. Fields beyond these are kept as they are.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from resprout.record_parts import Agency, CutMap, Measures, Shape
from resprout.seals import read_sealed

# A name of a file in `points/`: no separator, so no path that leaves the folder.
Identity = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]


class PointFailure(Shape):
    """`ID.failed.json`: a point that failed."""

    point: str
    failed: str


class Parameters(Shape):
    """Parameter counts and FLOPs per token (`study.counts`); older records have only the first."""

    total: int
    prunable: int
    surviving: int
    nonzero: int
    non_embedding: int | None = None
    flops_per_token: float | None = None
    effective_flops_per_token: float | None = None
    flops_context_tokens: int | None = None
    flops_not_counted: str | None = None


class Digests(Shape):
    """What the point was made from."""

    tokens: str


class Environment(Shape):
    """What the point was made on."""

    resprout: str
    git_commit: str | None
    git_clean: bool | None
    python: str
    system: str
    cpu: str
    cores: int | None
    threads: int
    device: str
    device_name: str
    libraries: dict[str, str]


class Stage(Shape):
    """What a stage cost."""

    seconds: float
    peak_bytes: int


class Record(Shape):
    """One point."""

    id: Identity
    study: str
    subject: str
    method: str
    unit: str
    amount: Annotated[float, Field(ge=0, le=1)]
    achieved: Annotated[float, Field(ge=0, le=1)]
    seed: int
    protocol: str
    parameters: Parameters
    dead_units: list[str]
    measures: Measures
    stages: dict[str, Stage]
    digests: Digests
    environment: Environment
    agency: Agency | None = None
    cut_map: CutMap | None = None
    precision: Literal["float32", "bfloat16", "float16"] | None = None


class DataShape(Shape):
    """The data of a spec."""

    source: str
    held_out: float | None
    window: int


class SubjectShape(Shape):
    """A subject of a spec."""

    name: str
    model: str
    learning_rate: float | None
    learning_rate_search: dict[str, float] | None


class SpecShape(Shape):
    """A spec, as far as a report shows it."""

    data: DataShape
    seeds: list[int]
    subjects: list[SubjectShape]
    recovery: dict[str, float | str]
    training: dict[str, float | str] | None


ProtocolName = Literal["fair", "paper"]


class StudyFile(Shape):
    """`study.json`."""

    study: str
    question: str
    protocol: ProtocolName | list[ProtocolName]
    points: list[Identity]
    spec: SpecShape


class TrainingFile(Shape):
    """`training.json`: how a pre-training run went, so far or to its end."""

    finished: bool
    name: str
    tokens_per_step: Annotated[int, Field(gt=0)]
    losses: list[Annotated[list[float], Field(min_length=2, max_length=2)]]
    validation: list[Annotated[list[float], Field(min_length=2, max_length=2)]]


def read_checked(path: Path, shape: type[BaseModel]) -> Any:
    """A JSON file of that shape, as plain values, and as it was written where it has a seal.

    Raises:
        ValueError: one line that names the file and what is wrong with it.
    """
    values = read_sealed(path)
    try:
        shape.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise ValueError(f"{path}: {where}: {first['msg']}") from error
    return values
