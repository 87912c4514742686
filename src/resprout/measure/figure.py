"""A measured figure: never a bare number, always with what is needed to judge it."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes:
        value: in `unit`; None where it could not be had, and `reason` says why.
        unit: such as `nats per token`, `ms`, `share`.
        items: how many observations it was made from (windows, documents, repeats, texts).
        protocol: how it was measured, in a sentence that somebody could repeat it from.
        seconds: what measuring it took; figures that were measured together share theirs.
        ci95: 95 % interval in `unit`; None where there is none, and `reason` says why.
        reason: why the value or its interval is absent.
    """

    value: float | None
    unit: str
    items: int
    protocol: str
    seconds: float
    ci95: tuple[float, float] | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        assert self.reason or (self.value is not None and self.ci95 is not None), self

    def as_json(self) -> dict[str, Any]:
        """As a record holds it."""
        values = asdict(self)
        values["ci95"] = None if self.ci95 is None else list(self.ci95)
        values["seconds"] = round(self.seconds, 3)
        return values


@dataclass(frozen=True)
class Measured:
    """What one measure found of one model.

    Attributes:
        figures: name -> figure.
        details: plain JSON beside them: what a comparison needs (losses window by window, results
            item by item), what the figures were made with, what failed.
    """

    figures: dict[str, Figure]
    details: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As a record holds it: the details, and the figures under `figures`."""
        return self.details | {"figures": {n: f.as_json() for n, f in self.figures.items()}}
