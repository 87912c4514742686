"""Methods by name: a score, the unit it scores, the scopes it competes in, and where it is from."""

import re
from dataclasses import dataclass
from typing import Literal

from resprout.hints import did_you_mean
from resprout.pruning.amounts import Kind

Unit = Literal["weight"] | Kind
PATTERN = re.compile(r"\d+:\d+")
_WEIGHTS = ("global", "per_layer", "per_row", "N:M")
_UNITS = ("per_layer", "global")


@dataclass(frozen=True)
class Method:
    """A named way to cut.

    Attributes:
        name: as users type it.
        unit: what one cut removes.
        score: the score's name; which function it is, `weights` and `unit_scores` know.
        scopes: among which units those with the lowest scores go; the first is the default.
            `N:M` stands for any pattern such as `2:4`: N of M weights stay.
        calibrated: whether it needs calibration text.
        source: where the score comes from.
    """

    name: str
    unit: Unit
    score: str
    scopes: tuple[str, ...]
    calibrated: bool
    source: str


def _methods() -> list[Method]:
    def units(name: str, unit: Unit, source: str, calibrated: bool = False, **more: str) -> Method:
        score = more.get("score", name.partition("-")[2])
        every = ("global", "per_layer") if unit in ("head", "branch", "neuron") else _UNITS
        scopes = ("global",) if unit == "layer" else every
        return Method(name, unit, score, scopes, calibrated, source)

    control = "random control"
    taylor = "Michel et al. 2019, eq. 2; Molchanov et al. 2019"
    norm = "Li et al. 2017: norm of the unit's weights (root mean square)"
    output = "norm of what the unit puts out on the text"
    martra = "Martra 2025 (OptiPFair)"
    per_row = ("per_row", "per_layer", "global", "N:M")
    return [
        Method("magnitude", "weight", "magnitude", _WEIGHTS, False, "Han et al. 2015, section 3"),
        Method("random", "weight", "random", _WEIGHTS, False, control),
        Method("wanda", "weight", "wanda", per_row, True, "Sun et al. 2023, eq. 1"),
        Method(
            "sparsegpt", "weight", "sparsegpt", ("per_layer", "N:M"), True,
            "Frantar and Alistarh 2023, algorithm 1",
        ),
        units("glu-maw", "glu_neuron", f"{martra}: peak-to-peak magnitude"),
        units("glu-vow", "glu_neuron", f"{martra}: variance of weights"),
        units("glu-pon", "glu_neuron", f"{martra}: product of L1 norms"),
        units("glu-l2", "glu_neuron", f"{martra}: sum of L2 norms"),
        units("glu-activation", "glu_neuron", output, calibrated=True),
        units("glu-taylor", "glu_neuron", taylor, calibrated=True),
        units("glu-random", "glu_neuron", control),
        units("mlp-magnitude", "mlp_neuron", norm),
        units("mlp-activation", "mlp_neuron", output, calibrated=True),
        units("mlp-taylor", "mlp_neuron", taylor, calibrated=True),
        units("mlp-random", "mlp_neuron", control),
        units(
            "heads-entropy", "head", "mean entropy of its attention: the most diffuse go first",
            calibrated=True,
        ),
        units("heads-magnitude", "head", norm),
        units("heads-taylor", "head", taylor, calibrated=True),
        units("heads-gate", "head", "the model's trained gates: the most closed go first"),
        units("heads-random", "head", control),
        units("branches-magnitude", "branch", norm),
        units("branches-taylor", "branch", taylor, calibrated=True),
        units("branches-random", "branch", control),
        units("neurons-magnitude", "neuron", norm),
        units("neurons-taylor", "neuron", taylor, calibrated=True),
        units("neurons-random", "neuron", control),
        units(
            "layers-influence", "layer", "Men et al. 2024 (ShortGPT), eq. 1: block influence",
            calibrated=True,
        ),
        units("layers-random", "layer", control),
    ]  # fmt: skip


METHODS: dict[str, Method] = {method.name: method for method in _methods()}


def method(name: str) -> Method:
    """The method of that name; `2:4` is `magnitude`, and `wanda-2:4` is `wanda`.

    Raises:
        ValueError: there is none; the nearest name is offered.
    """
    return resolve(name)[0]


def resolve(name: str, scope: str | None = None) -> tuple[Method, str]:
    """The method and the scope that a name and a scope mean.

    Args:
        name: a method's name, a pattern (`2:4`), or both (`wanda-2:4`).
        scope: None = the one that the name says, else the method's first.

    Raises:
        ValueError: no such method, or a scope that it has not.
    """
    plain, _, last = str(name).rpartition("-")
    said = last if PATTERN.fullmatch(last) else None
    base = (plain or "magnitude") if said else str(name)
    if base not in METHODS:
        hint = did_you_mean(base, METHODS)
        raise ValueError(
            f"method: got {name!r}, allowed are {', '.join(METHODS)}, and for weights a pattern "
            f"such as 2:4 or wanda-2:4{hint}"
        )
    found = METHODS[base]
    if said and scope not in (None, said):
        raise ValueError(f"scope: got {scope!r}, but the method {name!r} says {said}")
    wanted = scope or said or found.scopes[0]
    kind = "N:M" if isinstance(wanted, str) and PATTERN.fullmatch(wanted) else wanted
    if kind not in found.scopes or wanted == "N:M":
        allowed = ", ".join(s if s != "N:M" else "a pattern such as 2:4" for s in found.scopes)
        raise ValueError(f"scope: got {wanted!r}, allowed for {found.name} are {allowed}")
    return found, wanted


def table() -> list[tuple[str, str, str, str, str]]:
    """All methods as rows: name, unit, scopes, needs calibration or not, source."""
    return [
        (m.name, m.unit, ", ".join(m.scopes), "yes" if m.calibrated else "no", m.source)
        for m in METHODS.values()
    ]
