"""Parts of a record: measures, heads with agency, what was cut where; see `resprout.record`."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Interval = Annotated[list[float], Field(min_length=2, max_length=2)]


class Shape(BaseModel):
    """Strict, finite, and with room for what later versions add."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class Loss(Shape):
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
    window_documents: list[int] | None = None

    @model_validator(mode="after")
    def _one_per_window(self) -> "Loss":
        W = len(self.window_tokens)
        for name in ("window_nats", "window_documents"):
            own = getattr(self, name)
            if own is not None and len(own) != W:
                raise ValueError(f"{name}: {len(own)} of {W} windows")
        return self


class Failed(Shape):
    """A measure that failed, and why."""

    failed: str


class Sample(Shape):
    """One prompt and what a model made of it."""

    category: str
    prompt: str
    text: str


class Text(Shape):
    """The text measure, whole."""

    distinct_2: float | None
    repetition_3: float | None
    samples: list[Sample]


class FigureShape(Shape):
    """A measured figure (`measure.figure`)."""

    value: float | None
    unit: str
    ci95: Interval | None
    reason: str | None


class Workloads(Shape):
    """The speed or the energy measure, whole: `WORKLOAD/NAME` -> figure."""

    figures: dict[str, FigureShape]


class MetricShape(Shape):
    """One metric of a task."""

    value: float | None
    ci95: Interval | None
    higher_is_better: bool


class TaskShape(Shape):
    """One task: its metrics, and which of them stands for it."""

    headline: str
    metrics: dict[str, MetricShape]

    @model_validator(mode="after")
    def _headline_is_there(self) -> "TaskShape":
        if self.headline not in self.metrics:
            raise ValueError(f"headline: no metric {self.headline!r}")
        return self


class Tasks(Shape):
    """The tasks measure: what was finished, and what failed by name."""

    tasks: dict[str, TaskShape]
    failed: dict[str, str]


# A key of `text_at`: a temperature as people write it.
Temperature = Annotated[str, Field(pattern=r"^[0-9.]+(e[-+][0-9]+)?$")]


class Measures(Shape):
    """All measures; each is whole or failed. `text_at`: texts at further temperatures."""

    loss: Loss | Failed
    loss_before_recovery: Loss | Failed
    text: Text | Failed | None = None
    tasks: Tasks | Failed | None = None
    speed: Workloads | Failed | None = None
    energy: Workloads | Failed | None = None
    text_at: dict[Temperature, Text | Failed] | None = None

    @model_validator(mode="after")
    def _same_windows(self) -> "Measures":
        both = [part for part in (self.loss, self.loss_before_recovery) if isinstance(part, Loss)]
        counts = [len(part.window_nats) for part in both]
        if len(set(counts)) > 1:
            raise ValueError(
                f"loss_before_recovery: {counts[1]} windows, the loss after it has {counts[0]}"
            )
        return self


Share = Annotated[float, Field(ge=0, le=1)]


class AgencyLayer(Shape):
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


class Agency(Shape):
    """What became of the heads, of a subject whose heads carry agency."""

    step: Annotated[int, Field(ge=0)]
    layers: Annotated[list[AgencyLayer], Field(min_length=1)]


class CutGroup(Shape):
    """One layer (or cell) of a cut: the share that went of each unit, or stretch of units."""

    name: str
    units: Annotated[int, Field(ge=1)]
    cut: Annotated[list[Share], Field(min_length=1)]


class CutMatrices(Shape):
    """One layer of a cut of single weights: matrix -> [weights that went, weights]."""

    name: str
    matrices: dict[str, Annotated[list[int], Field(min_length=2, max_length=2)]]


class CutMap(Shape):
    """What a cut took where (`study.cut_map`)."""

    unit: str | None
    groups: list[CutGroup]
    matrices: list[CutMatrices]
