"""What a cut is asked to be, checked against a model's shapes before any weight is looked at."""

from dataclasses import dataclass
from numbers import Real
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from resprout.pruning.adapters import HEAD_UNITS, Adapter, HeadUnit, adapter_for
from resprout.pruning.amounts import Kind, check_amount, parse_pattern, plural
from resprout.pruning.methods import Method, resolve
from resprout.pruning.protocols import Protocol
from resprout.pruning.protocols import protocol as protocol_named
from resprout.pruning.units import Group
from resprout.pruning.units_selection import counts_to_keep

_MLP: tuple[str, ...] = ("glu_neuron", "mlp_neuron")


@dataclass(frozen=True)
class Request:
    """A cut as asked for; what each field means stands at `resprout.prune`."""

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
    dead_unit: Kind | None
    sequential: bool

    def groups(self, adapter: Adapter) -> list[Group]:
        """The units that it is about; empty for single weights."""
        if self.method.unit == "weight":
            return []
        return adapter.groups(self.method.unit, self.head_unit)


def read_request(
    model: PreTrainedModel,
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
) -> Request:
    """Check what needs no numbers; arguments as in `resprout.prune`.

    Args:
        model: on any device, also the meta device.
        method: see `resprout.prune`, as all that follow.

    Raises:
        ValueError: naming the option, the value got and what is allowed.
    """
    chosen, where = resolve(method, scope)
    rules = protocol_named(protocol)
    if cut not in ("mask", "remove"):
        raise ValueError(f"cut: got {cut!r}, allowed are mask, remove")
    if head_unit not in HEAD_UNITS:
        raise ValueError(f"head_unit: got {head_unit!r}, allowed are {', '.join(HEAD_UNITS)}")
    if type(seed) is not int or seed < 0:
        raise ValueError(f"seed: got {seed!r}, allowed is a whole number from 0")
    amount = _amount(chosen, where, amount, expansion_rate)
    check_not_quantised(model.config)
    adapter = adapter_for(model)
    if chosen.unit == "weight":
        adapter.prunable(rules)  # refuses a model without any
        if cut == "remove" and dead_threshold is None:
            raise ValueError(
                f"cut: got 'remove', but {method} cuts single weights, which leave no smaller "
                "tensor; allowed is mask, or remove with a dead_threshold"
            )
        groups = []
    else:
        groups = adapter.groups(chosen.unit, _head_unit(head_unit))
    if round_to is not None:
        if type(round_to) is not int or round_to < 1:
            raise ValueError(f"round_to: got {round_to!r}, allowed is a whole number from 1")
        if chosen.unit not in _MLP:
            raise ValueError(f"round_to: got {round_to}, allowed only for neurons of an MLP")
    if expansion_rate is not None:
        rates(adapter, groups, expansion_rate)
    if where == "global" and any(group.strata > 1 for group in groups):
        raise ValueError(
            "scope: got 'global' with single query heads, of which every key-value group must lose "
            "as many; allowed is per_layer, or head_unit='group'"
        )
    dead = _dead_unit(adapter, chosen, dead_threshold, dead_unit)
    return Request(
        name=method,
        method=chosen,
        scope=where,
        amount=amount,
        expansion_rate=expansion_rate,
        cut=cut,
        round_to=round_to,
        head_unit=_head_unit(head_unit),
        seed=seed,
        rules=rules,
        dead_threshold=dead_threshold,
        dead_unit=dead,
        sequential=bool(sequential),
    )


def rates(adapter: Adapter, groups: list[Group], expansion_rate: float) -> list[int]:
    """How many neurons each layer keeps at an expansion rate.

    Raises:
        ValueError: not a rate, or above the present one.
    """
    widths = [int(adapter.config.hidden_size)] * len(groups)
    return counts_to_keep([group.count for group in groups], expansion_rate, widths)


def check_not_quantised(config: Any) -> None:
    """Refuse weights that are codes rather than numbers.

    Raises:
        ValueError: naming the way in which they are quantised.
    """
    settings = getattr(config, "quantization_config", None)
    if settings is None:
        return
    plain = settings if isinstance(settings, dict) else settings.to_dict()
    way = plain.get("quant_method", "unknown way")
    raise ValueError(
        f"model: its weights are quantised ({getattr(way, 'value', way)}); allowed is a model in "
        "fp32, bf16 or fp16"
    )


def _head_unit(value: str) -> HeadUnit:
    return "query" if value == "query" else "group"


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


def _dead_unit(
    adapter: Adapter, method: Method, threshold: float | None, unit: str | None
) -> Kind | None:
    if threshold is None:
        if unit is not None:
            raise ValueError(f"dead_unit: got {unit!r} without a dead_threshold")
        return None
    real = isinstance(threshold, Real) and not isinstance(threshold, bool)
    if not real or not 0 <= threshold <= 1:
        raise ValueError(f"dead_threshold: got {threshold!r}, allowed is a fraction from 0 to 1")
    if method.unit != "weight":
        raise ValueError(
            f"dead_threshold: got {threshold!r}, allowed only where single weights are cut, "
            f"{method.name} cuts {plural(method.unit)}"
        )
    if unit is None:
        return adapter.dying
    allowed = [kind for kind in adapter.kinds if kind != "layer"]
    for kind in allowed:
        if kind == unit:
            return kind
    raise ValueError(
        f"dead_unit: got {unit!r}, allowed are {', '.join(allowed) or 'none in this family'}"
    )


def parameter_names(model: nn.Module) -> dict[int, str]:
    """id(parameter) -> its name; a tied tensor under its first."""
    return {id(parameter): name for name, parameter in model.named_parameters()}
