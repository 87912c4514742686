"""The options of a cut, checked among themselves: all that needs no model, and no torch."""

from dataclasses import dataclass
from numbers import Real
from typing import Literal

from resprout.pruning.amounts import check_amount, check_rate, parse_pattern, plural
from resprout.pruning.families import check_dead_unit, check_kind
from resprout.pruning.methods import Method, resolve
from resprout.pruning.protocols import Protocol
from resprout.pruning.protocols import protocol as protocol_named
from resprout.refusals import check_flag, check_one_of, check_seed, check_whole, shown

HeadUnit = Literal["group", "query"]
HEAD_UNITS: tuple[HeadUnit, ...] = ("group", "query")
CUTS = ("mask", "remove")
_MLP: tuple[str, ...] = ("glu_neuron", "mlp_neuron")


@dataclass(frozen=True)
class CutOptions:
    """The options of a cut that make sense together; what each means stands at `resprout.prune`."""

    name: str
    method: Method
    scope: str
    amount: float | None
    expansion_rate: float | None
    cut: str
    round_to: int | None
    head_unit: HeadUnit
    seed: int
    rules: Protocol
    dead_threshold: float | None
    dead_unit: str | None
    sequential: bool

    def check_family(self, model_type: str) -> None:
        """Refuse units that a family has not.

        Raises:
            ValueError: naming the family and what it has.
        """
        if self.method.unit != "weight":
            check_kind(self.method.unit, model_type)
        if self.dead_unit is not None:
            check_dead_unit(self.dead_unit, model_type)


def read_options(
    method: str,
    amount: float | None = None,
    *,
    cut: str = "mask",
    scope: str | None = None,
    expansion_rate: float | None = None,
    round_to: int | None = None,
    head_unit: str = "group",
    seed: int = 0,
    protocol: str = "fair",
    dead_threshold: float | None = None,
    dead_unit: str | None = None,
    sequential: bool = False,
) -> CutOptions:
    """Check options without a model; arguments as in `resprout.prune`.

    Raises:
        ValueError: naming the option, the value got and what is allowed.
    """
    chosen, where = resolve(method, scope)
    rules = protocol_named(protocol)
    check_one_of("cut", cut, CUTS)
    check_one_of("head_unit", head_unit, HEAD_UNITS)
    check_seed(seed)
    check_flag("sequential", sequential)
    amount = _amount(chosen, where, amount, expansion_rate)
    if chosen.unit == "weight" and cut == "remove" and dead_threshold is None:
        raise ValueError(
            f"cut: got 'remove', but {method} cuts single weights, which leave no smaller "
            "tensor; allowed is mask, or remove with a dead_threshold"
        )
    if round_to is not None:
        check_whole("round_to", round_to, 1)
        if chosen.unit not in _MLP:
            raise ValueError(f"round_to: got {round_to}, allowed only for neurons of an MLP")
    if expansion_rate is not None:
        check_rate(expansion_rate)
    _check_dead(chosen, dead_threshold, dead_unit)
    return CutOptions(
        name=method,
        method=chosen,
        scope=where,
        amount=amount,
        expansion_rate=None if expansion_rate is None else float(expansion_rate),
        cut=cut,
        # NumPy's numbers pass the checks, and JSON cannot hold them: manifests want Python's own.
        round_to=None if round_to is None else int(round_to),
        head_unit="query" if head_unit == "query" else "group",
        seed=int(seed),
        rules=rules,
        dead_threshold=None if dead_threshold is None else float(dead_threshold),
        dead_unit=dead_unit,
        sequential=bool(sequential),
    )


def _amount(
    method: Method, scope: str, amount: float | None, expansion_rate: float | None
) -> float | None:
    if ":" in scope:
        kept, of = parse_pattern(scope)
        implied = 1 - kept / of
        if expansion_rate is not None:
            raise ValueError(f"expansion_rate: not allowed with the pattern {scope}")
        if amount is not None:
            check_amount(amount)
            if abs(amount - implied) > 1e-9:
                raise ValueError(
                    f"amount: got {amount!r}, but the pattern {scope} cuts {implied:g}; leave the "
                    "amount out"
                )
        return implied
    if amount is not None and expansion_rate is not None:
        raise ValueError(
            f"amount: got {amount!r} with expansion_rate {expansion_rate!r}, allowed is one of them"
        )
    if expansion_rate is not None:
        if method.unit not in _MLP:
            raise ValueError(
                f"expansion_rate: got {expansion_rate!r}, allowed only for neurons of an MLP, "
                f"{method.name} cuts {plural(method.unit)}"
            )
        if scope != "per_layer":
            raise ValueError(f"expansion_rate: allowed with the scope per_layer, got {scope!r}")
        return None
    if amount is None:
        either = " or an expansion_rate" if method.unit in _MLP else ""
        raise ValueError(f"amount: missing, needed is a fraction from 0 to 1{either}")
    check_amount(amount)
    return float(amount)


def _check_dead(method: Method, threshold: float | None, unit: str | None) -> None:
    if threshold is None:
        if unit is not None:
            raise ValueError(f"dead_unit: got {unit!r} without a dead_threshold")
        return
    real = isinstance(threshold, Real) and not isinstance(threshold, bool)
    if not real or not 0 <= threshold <= 1:
        raise ValueError(
            f"dead_threshold: got {shown(threshold)}, allowed is a fraction from 0 to 1"
        )
    if method.unit != "weight":
        raise ValueError(
            f"dead_threshold: got {threshold!r}, allowed only where single weights are cut, "
            f"{method.name} cuts {plural(method.unit)}"
        )
