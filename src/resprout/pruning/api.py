"""`prune`: a model, a method and an amount in; a cut out, the model changed in place."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from resprout.pruning.adapters import DeadUnit, adapter_for
from resprout.pruning.cut import Cut
from resprout.pruning.masks import apply_masks
from resprout.pruning.methods import method as method_named
from resprout.pruning.protocols import protocol as protocol_named
from resprout.pruning.selection import check_amount, count_to_cut, keep_highest


def prune(
    model: PreTrainedModel,
    method: str,
    amount: float,
    *,
    protocol: str = "fair",
    dead_threshold: float | None = None,
) -> Cut:
    """Cut a model in place.

    Args:
        model: any causal model of transformers.
        method: a name of `resprout.pruning.METHODS`; now `magnitude` (single weights, global).
        amount: fraction of the prunable weights to set to zero, 0 to 1.
        protocol: `fair` (default) or `paper`: decides the prunable set.
        dead_threshold: where the family has units that can die (BioGPT's neurons), one with more
            than this fraction of its weights at zero is zeroed whole, biases and norms too.
            None = none dies.

    Returns:
        The cut; `cut.achieved` exceeds `cut.requested` by what died.

    Raises:
        ValueError: unknown method or protocol, an amount or threshold outside 0 to 1, a model
            without prunable weights, or weights that are NaN. The model is then unchanged.
    """
    chosen = method_named(method)
    rules = protocol_named(protocol)
    check_amount(amount)
    if dead_threshold is not None and not 0 <= dead_threshold <= 1:
        raise ValueError(
            f"dead_threshold: got {dead_threshold!r}, allowed is a fraction from 0 to 1"
        )
    adapter = adapter_for(model)
    prunable = adapter.prunable(rules)
    weights = [parameter.detach() for parameter in prunable.values()]
    cut = count_to_cut(sum(weight.numel() for weight in weights), amount)
    masks = dict(zip(prunable, keep_highest(weights, chosen.score, cut), strict=True))
    dead: list[DeadUnit] = []
    if dead_threshold is not None:
        dead = [unit for unit in adapter.dead_units() if _is_dead(unit, masks, dead_threshold)]
        for unit in dead:
            for name in unit.parameters:
                masks[name] = torch.zeros_like(model.get_parameter(name), dtype=torch.bool)
    apply_masks(model, masks)
    return Cut(
        method=chosen.name,
        unit=chosen.unit,
        protocol=rules.name,
        requested=float(amount),
        masks=masks,
        prunable_names=list(prunable),
        dead_units=[unit.name for unit in dead],
    )


def _is_dead(unit: DeadUnit, masks: dict[str, Tensor], threshold: float) -> bool:
    """Whether more than `threshold` of the unit's prunable weights are cut."""
    own = [masks[name] for name in unit.weights if name in masks]
    total = sum(mask.numel() for mask in own)
    zeros = sum(int((~mask).sum()) for mask in own)
    return total > 0 and zeros > threshold * total
