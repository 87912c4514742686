"""What a cut is asked to be, checked against a model's shapes before any weight is looked at."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from resprout.pruning.adapters import Adapter, adapter_for
from resprout.pruning.amounts import Kind, counts_to_keep, plural
from resprout.pruning.families import check_dead_unit, check_not_quantised
from resprout.pruning.options import CutOptions, read_options
from resprout.pruning.units import Group


@dataclass(frozen=True)
class Request(CutOptions):
    """A cut as asked for of a certain model; what each field means stands at `resprout.prune`."""

    dead_unit: Kind | None

    def groups(self, adapter: Adapter) -> list[Group]:
        """The units that it is about; empty for single weights."""
        if self.method.unit == "weight":
            return []
        return adapter.groups(self.method.unit, self.head_unit)


def read_request(
    model: PreTrainedModel, method: str, amount: float | None = None, **options: Any
) -> Request:
    """Check what needs no numbers.

    Args:
        model: on any device, also the meta device.
        method: see `resprout.prune`, as all that follow.
        amount: see there.
        options: further ones of `read_options`.

    Raises:
        ValueError: naming the option, the value got and what is allowed.
    """
    asked = read_options(method, amount, **options)
    check_not_quantised(getattr(model.config, "quantization_config", None))
    adapter = adapter_for(model)
    groups: list[Group] = []
    if asked.method.unit == "weight":
        adapter.prunable(asked.rules)  # refuses a model without any
    else:
        groups = adapter.groups(asked.method.unit, asked.head_unit)
    kept = None
    if asked.expansion_rate is not None:
        kept = rates(adapter, groups, asked.expansion_rate)
    if asked.round_to is not None and (asked.amount or kept):
        _check_round_to(asked.round_to, groups)
    if asked.scope == "global" and any(group.strata > 1 for group in groups):
        raise ValueError(
            "scope: got 'global' with single query heads, of which every key-value group must lose "
            "as many; allowed is per_layer, or head_unit='group'"
        )
    dead = None
    if asked.dead_threshold is not None:
        own = model.config.model_type
        named = asked.dead_unit is not None
        dead = check_dead_unit(str(asked.dead_unit), own) if named else adapter.dying
    given = {field.name: getattr(asked, field.name) for field in fields(asked)}
    return Request(**(given | {"dead_unit": dead}))


def _check_round_to(round_to: int, groups: Sequence[Group]) -> None:
    """Refuse a multiple that leaves nothing to cut: a layer keeps at least that many.

    Raises:
        ValueError: naming the neurons that a layer has.
    """
    largest = max(groups, key=lambda group: group.count)
    if round_to >= largest.count:
        raise ValueError(
            f"round_to: got {round_to}, which leaves nothing to cut; allowed is less than the "
            f"{largest.count} {plural(largest.kind)} of {largest.name}"
        )


def rates(adapter: Adapter, groups: list[Group], expansion_rate: float) -> list[int]:
    """How many neurons each layer keeps at an expansion rate.

    Raises:
        ValueError: not a rate, or above the present one.
    """
    widths = [int(adapter.config.hidden_size)] * len(groups)
    return counts_to_keep([group.count for group in groups], expansion_rate, widths)


def parameter_names(model: nn.Module) -> dict[int, str]:
    """id(parameter) -> its name; a tied tensor under its first."""
    return {id(parameter): name for name, parameter in model.named_parameters()}
