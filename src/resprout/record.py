"""What a run's files must hold to be read: the shape of a record and of `study.json`.

Whoever reads them checks them here first, so that a file that was cut short, edited or put there by
something else is named in one line, and never half-read. Fields beyond these are kept as they are.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from resprout.files import read_json

# A name of a file in `points/`: no separator, so no path that leaves the folder.
Identity = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,80}$")]
Interval = Annotated[list[float], Field(min_length=2, max_length=2)]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class Loss(_Shape):
    """The loss measure, whole."""

    nats_per_token: float
    perplexity: float | None
    bits_per_byte: float
    ci95: Interval
    tokens: int
    windows: int
    tokens_per_byte: Annotated[float, Field(gt=0)]
    unigram_nats_per_token: float
    window_tokens: Annotated[list[int], Field(min_length=1)]
    window_nats: Annotated[list[float], Field(min_length=1)]


class Failed(_Shape):
    """A measure that failed, and why."""

    failed: str


class PointFailure(_Shape):
    """`ID.failed.json`: a point that failed."""

    point: str
    failed: str


class Sample(_Shape):
    """One prompt and what a model made of it."""

    category: str
    prompt: str
    text: str


class Text(_Shape):
    """The text measure, whole."""

    distinct_2: float | None
    repetition_3: float | None
    samples: list[Sample]


# A key of `text_at`: a temperature as people write it.
Temperature = Annotated[str, Field(pattern=r"^[0-9.]+(e[-+][0-9]+)?$")]


class Measures(_Shape):
    """All measures; each is whole or failed. `text_at`: texts at further temperatures."""

    loss: Loss | Failed
    loss_before_recovery: Loss | Failed
    text: Text | Failed | None = None
    text_at: dict[Temperature, Text | Failed] | None = None


Share = Annotated[float, Field(ge=0, le=1)]


class AgencyLayer(_Shape):
    """The heads of one layer; each list has an entry per head."""

    layer: Annotated[int, Field(ge=0)]
    heads: Annotated[int, Field(ge=1)]
    gates: list[Share]
    states: list[Literal["active", "overloaded", "misaligned", "withdrawn"]]
    consent: list[bool]
    utilisation: list[float | None]
    alignment: list[float | None]
    violations: list[Annotated[int, Field(ge=0)]]

    @model_validator(mode="after")
    def _one_per_head(self) -> "AgencyLayer":
        for name in ("gates", "states", "consent", "utilisation", "alignment", "violations"):
            if len(getattr(self, name)) != self.heads:
                raise ValueError(f"{name}: {len(getattr(self, name))} of {self.heads} heads")
        return self


class Agency(_Shape):
    """What became of the heads, of a subject whose heads carry agency."""

    step: Annotated[int, Field(ge=0)]
    layers: Annotated[list[AgencyLayer], Field(min_length=1)]


class Parameters(_Shape):
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


class Digests(_Shape):
    """What the point was made from."""

    tokens: str


class Environment(_Shape):
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


class Stage(_Shape):
    """What a stage cost."""

    seconds: float
    peak_bytes: int


class Record(_Shape):
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
    precision: Literal["float32", "bfloat16", "float16"] | None = None


class DataShape(_Shape):
    """The data of a spec."""

    source: str
    held_out: float
    window: int


class SubjectShape(_Shape):
    """A subject of a spec."""

    name: str
    model: str
    learning_rate: float | None
    learning_rate_search: dict[str, float] | None


class SpecShape(_Shape):
    """A spec, as far as a report shows it."""

    data: DataShape
    seeds: list[int]
    subjects: list[SubjectShape]
    recovery: dict[str, float | str]
    training: dict[str, float | str] | None


class StudyFile(_Shape):
    """`study.json`."""

    study: str
    question: str
    protocol: Literal["fair", "paper"]
    points: list[Identity]
    spec: SpecShape


class TrainingFile(_Shape):
    """`training.json`: how a pre-training run went, so far or to its end."""

    finished: bool
    name: str
    tokens_per_step: Annotated[int, Field(gt=0)]
    losses: list[Annotated[list[float], Field(min_length=2, max_length=2)]]
    validation: list[Annotated[list[float], Field(min_length=2, max_length=2)]]


def read_checked(path: Path, shape: type[BaseModel]) -> Any:
    """A JSON file of that shape, as plain values.

    Raises:
        ValueError: one line that names the file and what is wrong with it.
    """
    try:
        values = read_json(path)
        shape.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise ValueError(f"{path}: {where}: {first['msg']}") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    return values
