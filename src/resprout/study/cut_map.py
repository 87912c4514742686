"""What a cut took where: a few numbers per layer, for the report's drawing."""

import re
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from resprout.pruning.adapters import adapter_for
from resprout.pruning.amounts import Kind
from resprout.pruning.cut import Cut
from resprout.pruning.cutting import mask_rows
from resprout.pruning.request import parameter_names
from resprout.pruning.units import Group

# More units of a layer than this are told in so many equal stretches: a drawing has no more room.
CELLS = 64
# Of a cut of single weights: in which units they are counted, the first that the family has.
_UNITS: tuple[Kind, ...] = ("branch", "head")
# `transformer.h.3.mlp.c_fc.weight`: the number after the first list is the layer's.
_LAYER = re.compile(r"^.*?\.(\d+)\.(.+?)(?:\.weight)?$")
_OUTSIDE = "outside the blocks"


def cut_map(model: PreTrainedModel, cut: Cut) -> dict[str, Any]:
    """The share that went, unit by unit and matrix by matrix.

    Args:
        model: the model that was cut.
        cut: what `prune` returned of it.

    Returns:
        `unit`: what the cells of `groups` are (None where the family has none known). `groups`:
        per layer (or cell of BioGPT) its `name`, its number of `units`, and `cut`, the share that
        went of each unit, or of each of 64 equal stretches of them. `matrices`, where single
        weights were cut: per layer, matrix -> [weights that went, weights]; BioGPT's neurons are
        taken together.
    """
    if cut.unit != "weight":
        groups = [
            {"name": unit.name, "units": unit.count, "cut": _gone(unit.count, unit.kept)}
            for unit in cut.groups
        ]
        return {"unit": cut.group_kind, "groups": groups, "matrices": []}
    adapter = adapter_for(model)
    kind = next((kind for kind in _UNITS if kind in adapter.kinds), None)
    wanted = set(cut.prunable_names)
    held: dict[int, Tensor | None] = {
        key: cut.masks.get(name) if name in wanted else None
        for key, name in parameter_names(model).items()
    }
    found = [] if kind is None or cut.cut == "remove" else adapter.groups(kind)
    return {
        "unit": kind,
        "groups": [
            {"name": group.name, "units": group.count, "cut": _rounded(_shares(group, held))}
            for group in found
        ],
        # What was taken out is in no mask any more, so the rest would pass for the whole.
        "matrices": [] if cut.cut == "remove" else _matrices(cut),
    }


def _gone(count: int, kept: Tensor) -> list[float]:
    gone = torch.ones(count)
    gone[kept] = 0
    return _rounded(gone)


def _shares(group: Group, held: dict[int, Tensor | None]) -> Tensor:
    """(units,) the share of each unit's prunable weights that went."""
    total, gone = torch.zeros(group.count), torch.zeros(group.count)
    for of, rows in mask_rows(group, held):
        if rows is not None:
            total[of] += rows.shape[1]
            gone[of] += (~rows).sum(1)
    return gone / total.clamp(min=1)


def _rounded(shares: Tensor) -> list[float]:
    if len(shares) > CELLS:
        shares = torch.stack([stretch.mean() for stretch in shares.tensor_split(CELLS)])
    return [round(share, 3) for share in shares.tolist()]


def _matrices(cut: Cut) -> list[dict[str, Any]]:
    """Per layer: matrix -> [weights that went, weights]."""
    layers: dict[str, dict[str, list[int]]] = {}
    for name in cut.prunable_names:
        mask = cut.masks.get(name)
        if mask is None:
            continue
        found = _LAYER.match(name)
        layer, matrix = (f"layer {found[1]}", found[2]) if found else (_OUTSIDE, name)
        matrix = re.sub(r"^(neurons|neuron_projs)\.\d+\.?", "", matrix) or "projection"
        counts = layers.setdefault(layer, {}).setdefault(matrix, [0, 0])
        counts[0] += mask.numel() - int(mask.count_nonzero())
        counts[1] += mask.numel()
    return [{"name": name, "matrices": matrices} for name, matrices in layers.items()]
