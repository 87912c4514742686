"""Surgery: units taken out of a model's tensors, and the configuration brought in line."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from resprout.models.agency.attachment import settle_agency
from resprout.models.modeling_cut import (
    HEAD_NUMBERS,
    LayerConfig,
    class_for,
    fit,
    plain_class,
)
from resprout.pruning.adapters import Adapter
from resprout.pruning.units import Group


@torch.no_grad()
def remove_units(
    model: PreTrainedModel,
    adapter: Adapter,
    groups: Sequence[Group],
    kept: Sequence[Tensor],
    masks: dict[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Take units out, in place, tensor by tensor: at most one tensor is held twice.

    Args:
        model: any model that the adapter knows.
        adapter: of the model's family.
        groups: all groups of one kind.
        kept: per group the indices of the units that stay.
        masks: parameter name -> True where kept, of a cut that is held; they are cut alike.

    Returns:
        The masks of what is left, under the parameters' new names.
    """
    names = {name: id(parameter) for name, parameter in model.named_parameters()}
    held = {names[name]: mask for name, mask in (masks or {}).items()}
    for group, stays in zip(groups, kept, strict=True):
        if len(stays) == group.count:
            continue
        if group.whole:
            adapter.drop_whole(group, stays)
        gone = torch.ones(group.count, dtype=torch.bool)
        gone[stays] = False
        lines: dict[tuple[int, str, int], tuple[Any, Tensor]] = {}
        for part in group.parts:
            key = (id(part.module), part.name, part.dim)
            if key not in lines:
                size = part.parameter.shape[part.dim]
                lines[key] = (part.module, torch.ones(size, dtype=torch.bool))
            lines[key][1][part.index[gone].flatten()] = False
        for (_, name, dim), (module, line) in lines.items():
            parameter = getattr(module, name)
            places = line.nonzero().flatten()
            parameter.data = parameter.data.index_select(dim, places.to(parameter.device))
            parameter.grad = None
            if id(parameter) in held:
                held[id(parameter)] = held[id(parameter)].index_select(
                    dim, places.to(held[id(parameter)].device)
                )
            fit(module)
    settle(model, adapter)
    left = {id(parameter): name for name, parameter in model.named_parameters()}
    return {left[key]: mask for key, mask in held.items() if key in left}


def settle(model: PreTrainedModel, adapter: Adapter) -> None:
    """Let the configuration say the model's sizes.

    What the family's own fields can say goes there; the rest into `config.reshaped`, from which
    `models.modeling_cut` builds it. A configuration that the family refuses is not used.
    """
    config = model.config
    settle_agency(model)
    if hasattr(config, "reshaped"):
        del config.reshaped
    model.__class__ = class_for(plain_class(type(model)), config)
    twin = _skeleton(model, config)
    different = _different_shapes(model, twin)
    for change in adapter.uniform():
        if different == {}:
            break
        trial = copy.deepcopy(config)
        for field, value in change.items():
            setattr(trial, field, value)
        try:
            other = _skeleton(model, trial)
        except Exception:  # each family has errors of its own for what it refuses
            continue
        left = _different_shapes(model, other)
        if left is not None and (different is None or len(left) < len(different)):
            twin, different = other, left
            for field, value in change.items():
                setattr(config, field, value)
    assert different is not None, "the family's configuration cannot say which modules there are"
    for block in adapter.blocks():
        adapter.fit_block(block)
    expected = dict(twin.named_modules())
    numbers, own = {}, {}
    for name, module in model.named_modules():
        fields = vars(module)
        if isinstance(fields.get("config"), LayerConfig):
            own[name] = dict(fields["config"].own)
        found = {
            field: fields[field]
            for field in HEAD_NUMBERS
            if field in fields and fields[field] != vars(expected[name]).get(field)
        }
        if found:
            numbers[name] = found
    if different or numbers or own:
        config.reshaped = {"shapes": different, "numbers": numbers, "config": own}
        # So that whoever saves it, and by whatever means, saves what it is.
        model.__class__ = class_for(plain_class(type(model)), config)


def _skeleton(model: PreTrainedModel, config: Any) -> PreTrainedModel:
    # Read back from its own dictionary, since that is when a family checks it.
    fresh = type(config).from_dict(config.to_dict())
    with torch.device("meta"):
        return type(model)(fresh)


def _different_shapes(model: PreTrainedModel, twin: PreTrainedModel) -> dict[str, list[int]] | None:
    """Parameters that are not of the shape that they have in a twin, with theirs.

    None where the twin has other parameters.
    """
    expected = {name: p.shape for name, p in twin.named_parameters()}
    found = {name: p.shape for name, p in model.named_parameters()}
    if expected.keys() != found.keys():
        return None
    return {name: list(shape) for name, shape in found.items() if shape != expected[name]}
