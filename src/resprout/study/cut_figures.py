"""What a cut came to, in figures: units, parameters, bytes, operations, and layer by layer."""

import copy
from collections import Counter
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn
from transformers import PreTrainedModel

from resprout.models.cost import count_cost
from resprout.models.description import parameter_total, skeleton
from resprout.models.modeling_cut import is_changed
from resprout.models.sparse import SPARSE
from resprout.pruning.adapters import adapter_for
from resprout.pruning.cut import MASKS, Cut
from resprout.pruning.masks import zeros
from resprout.pruning.request import Request
from resprout.study.cut_plan import Plan

Figures: TypeAlias = dict[str, Any]
FORMAT = 1
_OUTSIDE = "outside the layers"


def figures_of(plan: Plan, model: PreTrainedModel, cut: Cut) -> Figures:
    """All figures but time and memory, as JSON holds them.

    Args:
        plan: of the cut.
        model: the cut model, in the precision in which it is saved.
        cut: its cut.
    """
    asked, before, request = plan.asked, plan.before, plan.request
    total, after = parameter_total(before), parameter_total(model)
    dtype = getattr(before.config, "dtype", None) or torch.float32  # the checkpoint's, if it says
    weights, counted = weight_bytes(asked.model, total, dtype)
    return {
        "format": FORMAT,
        "model": asked.model,
        "revision": asked.revision,
        "method": cut.method,
        "unit": cut.unit,
        "scope": cut.scope,
        "cut": cut.cut,
        "protocol": cut.protocol,
        "head_unit": cut.head_unit,
        "seed": cut.seed,
        "calibration": cut.calibration,
        "requested": cut.requested,
        "expansion_rate": asked.expansion_rate,
        "achieved": cut.achieved,
        "units": {"prunable": cut.prunable, "kept": cut.kept},
        "prunable_parameters": cut.prunable_parameters,
        "prunable_parameters_cut": cut_share(before, cut, request),
        "dead_units": cut.dead_units,
        "earlier_cuts": len(cut.earlier),
        "parameters": {
            "before": total,
            "after": after,
            "non_embedding_before": before.num_parameters(exclude_embeddings=True),
            "non_embedding_after": model.num_parameters(exclude_embeddings=True),
            "held_at_zero_before": plan.previous.held if plan.previous is not None else 0,
            "held_at_zero": cut.held,
        },
        "bytes": {"weights_before": weights, "weights_before_counted": counted},
        "operations": operations(before, model, cut),
        "dtype": str(model.dtype).removeprefix("torch."),
        "sparse": asked.sparse,
        "loads_with": loads_with(model, asked.sparse, asked.portable),
        "layers": layers(before, model, cut, request),
    }


def cut_share(before: PreTrainedModel, cut: Cut, request: Request) -> float:
    """The fraction of the parameters of all prunable units that are in those that went."""
    if cut.unit == "weight":
        return cut.achieved
    sizes = [group.sizes() for group in request.groups(adapter_for(before))]
    kept = sum(int(s[units.kept].sum()) for s, units in zip(sizes, cut.groups, strict=True))
    return 1 - kept / sum(int(size.sum()) for size in sizes)


def layers(
    before: PreTrainedModel, model: PreTrainedModel, cut: Cut, request: Request
) -> list[dict[str, Any]]:
    """What stays of each layer: `name`, `kept`, `of`, in units (weights: prunable ones)."""
    if cut.unit == "layer":
        stays = set(cut.groups[0].kept.tolist())
        return [
            {"name": f"layer {layer}", "kept": int(layer in stays), "of": 1}
            for layer in range(cut.groups[0].count)
        ]
    if cut.unit != "weight":
        return [{"name": g.name, "kept": len(g.kept), "of": g.count} for g in cut.groups]
    of = _weights_by_layer(before, request, {})
    kept = _weights_by_layer(model, request, cut.masks)
    return [{"name": name, "kept": kept[name], "of": count} for name, count in of.items()]


def _weights_by_layer(
    model: PreTrainedModel, request: Request, masks: dict[str, torch.Tensor]
) -> Counter[str]:
    """How many prunable weights each layer has, without those that masks cut."""
    adapter = adapter_for(model)
    place = {
        id(parameter): f"layer {layer}"
        for layer, block in enumerate(adapter.blocks())
        for parameter in block.parameters()
    }
    counts: Counter[str] = Counter(dict.fromkeys(place.values(), 0))
    for name, parameter in adapter.prunable(request.rules).items():
        gone = zeros(masks[name]) if name in masks else 0
        counts[place.get(id(parameter), _OUTSIDE)] += parameter.numel() - gone
    return counts


def operations(before: PreTrainedModel, model: PreTrainedModel, cut: Cut) -> dict[str, Any]:
    """FLOPs per token of the forward pass, before and after; of a mask as many as before."""
    try:
        first = count_cost(before)
        masked = cut.cut == "mask"
        then = first if masked else count_cost(skeleton(copy.deepcopy(model.config)))
    except ValueError as error:
        return {"not_counted": str(error)}
    return {
        "context_tokens": first.context_tokens,
        "flops_per_token_before": first.flops_per_token,
        "flops_per_token_after": then.flops_per_token,
    }


def weight_bytes(name: str, parameters: int, dtype: torch.dtype) -> tuple[int, bool]:
    """Bytes of a subject's weights on disk; whether they were counted and not seen.

    Args:
        name: of the subject. Of a local folder the files are seen; of others the parameters times
            their size is taken.
        parameters: how many it has.
        dtype: of the weights where none is seen.
    """
    folder = Path(name)
    if folder.is_dir() and (files := weight_files(folder)):
        return sum(file.stat().st_size for file in files), False
    return parameters * dtype.itemsize, True


def weight_files(folder: Path) -> list[Path]:
    """The files that a model's weights are loaded from."""
    if (folder / SPARSE).is_file():
        return [folder / SPARSE]
    found = [file for file in sorted(folder.glob("*.safetensors")) if file.name != MASKS]
    return found or sorted(folder.glob("pytorch_model*.bin"))


def folder_bytes(folder: Path) -> dict[str, int]:
    """Bytes of a folder: its weights, its masks, and all that is in it now."""
    masks = folder / MASKS
    return {
        "weights_after": sum(file.stat().st_size for file in weight_files(folder)),
        "masks": masks.stat().st_size if masks.is_file() else 0,
        "folder": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
    }


def loads_with(model: nn.Module, sparse: bool, portable: bool) -> str:
    """How the folder is loaded again."""
    config: Any = model.config
    if sparse:
        return "resprout.load (the weights are stored sparse)"
    if is_changed(config):
        if portable:
            return "AutoModelForCausalLM.from_pretrained(..., trust_remote_code=True)"
        what = "sizes" if getattr(config, "reshaped", None) else "gates"
        return f"resprout.load (its configuration cannot say the {what}; --portable saves the code)"
    if config.model_type == "dendritic_biogpt":
        return (
            "AutoModelForCausalLM.from_pretrained, after `import resprout` or with "
            "trust_remote_code=True"
        )
    return "AutoModelForCausalLM.from_pretrained"
