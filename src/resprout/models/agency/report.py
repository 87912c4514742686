"""What became of the heads, layer by layer."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from resprout.models.agency.attachment import heads_of
from resprout.models.modeling_head_agency import STATES, HeadAgency


@dataclass(frozen=True)
class LayerAgency:
    """The heads of one layer; each list has an entry per head.

    Attributes:
        layer: its number.
        heads: how many.
        gates: 0 to 1, as they are used in evaluation.
        states: names.
        consent: whether the head may be used.
        factors: what the head's output is multiplied by: gate, state and consent.
        utilisation: moving average, None before any step.
        alignment: moving average, None before any step.
        entered: state -> how often each head went into it.
        violations: steps in which a head without consent had an open gate.
        first_violation: the first such step, None where there is none.
        last_violation: the last one.
    """

    layer: int
    heads: int
    gates: list[float]
    states: list[str]
    consent: list[bool]
    factors: list[float]
    utilisation: list[float | None]
    alignment: list[float | None]
    entered: dict[str, list[int]]
    violations: list[int]
    first_violation: list[int | None]
    last_violation: list[int | None]


@dataclass(frozen=True)
class AgencyReport:
    """A model's heads. `step`: observed steps so far. `str()` of it is a table by layer."""

    step: int
    layers: list[LayerAgency]

    @property
    def violations(self) -> list[dict[str, int]]:
        """The heads that were used without consent: layer, head, how often, first and last step."""
        return [
            {
                "layer": layer.layer,
                "head": head,
                "count": count,
                "first_step": layer.first_violation[head] or 0,
                "last_step": layer.last_violation[head] or 0,
            }
            for layer in self.layers
            for head, count in enumerate(layer.violations)
            if count
        ]

    def as_json(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"step": self.step, "layers": [asdict(layer) for layer in self.layers]}

    def __str__(self) -> str:
        heading = (
            "layer",
            "heads",
            *STATES,
            "no consent",
            "gate",
            "use",
            "alignment",
            "violations",
        )
        rows = [heading, *map(_row, self.layers)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(heading))]
        return "\n".join(
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            for row in rows
        )


def agency_report(model: nn.Module) -> AgencyReport:
    """Gates, states, consent, utilisation, alignment, transitions and violations, by layer.

    Raises:
        ValueError: the model has no agency.
    """
    found = heads_of(model)
    layers = [_layer(number, heads) for number, heads in enumerate(found)]
    return AgencyReport(max(int(heads.step) for heads in found), layers)


@torch.no_grad()
def _layer(number: int, heads: HeadAgency) -> LayerAgency:
    training, heads.training = heads.training, False  # the fixed gates, never a draw
    gates, factors = heads.gate_values(), heads.factors()
    heads.training = training
    return LayerAgency(
        layer=number,
        heads=len(heads.gates),
        gates=gates.float().tolist(),
        states=[STATES[state] for state in heads.state.tolist()],
        consent=heads.consent.tolist(),
        factors=factors.float().tolist(),
        utilisation=_seen(heads.utilisation),
        alignment=_seen(heads.alignment),
        entered=dict(zip(STATES, heads.entered.tolist(), strict=True)),
        violations=heads.violations.tolist(),
        first_violation=[step if step >= 0 else None for step in heads.first_violation.tolist()],
        last_violation=[step if step >= 0 else None for step in heads.last_violation.tolist()],
    )


def _seen(values: Tensor) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.float().tolist()]


def _row(layer: LayerAgency) -> tuple[str, ...]:
    counts = [str(layer.states.count(state)) for state in STATES]
    return (
        str(layer.layer),
        str(layer.heads),
        *counts,
        str(layer.consent.count(False)),
        _mean(list(layer.gates)),
        _mean(layer.utilisation),
        _mean(layer.alignment),
        str(sum(layer.violations)),
    )


def _mean(values: list[float | None] | list[float]) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.3f}" if known else "-"
