"""Scores of whole units, by a method's score name: one tensor (units,) per group, higher = keep."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from resprout.pruning import scores, statistics
from resprout.pruning.adapters import Adapter
from resprout.pruning.protocols import PROTOCOLS
from resprout.pruning.statistics import Progress
from resprout.pruning.units import Group

_OF_GLU: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "maw": scores.maw,
    "vow": scores.vow,
    "pon": scores.pon,
    "l2": scores.l2,
}


@torch.no_grad()
def unit_scores(
    model: PreTrainedModel,
    adapter: Adapter,
    groups: Sequence[Group],
    score: str,
    ids: Tensor | None,
    seed: int,
    progress: Progress,
) -> list[Tensor]:
    """Score all units.

    Args:
        model: with numbers in it.
        adapter: of its family.
        groups: all groups of one kind.
        score: the method's score.
        ids: (N, T) calibration windows, where the score needs them.
        seed: of random scores.
        progress: told of steps done.

    Raises:
        ValueError: the model has no gates, where they are the score.
    """
    if score == "random":
        return [scores.uniform(g.count, seed, place) for place, g in enumerate(groups)]
    if score == "gate":
        return gate_scores(adapter, groups)
    if score in _OF_GLU:
        return [_of_weights(_OF_GLU[score], group) for group in groups]
    if score == "magnitude":
        weights = {id(parameter) for parameter in adapter.prunable(PROTOCOLS["fair"]).values()}
        return [_magnitudes(group, weights) for group in groups]
    assert ids is not None
    if score == "entropy":  # the most diffuse attention goes first
        return [-found for found in statistics.head_entropies(model, groups, ids, progress)]
    if score == "influence":
        blocks = [block for (block,) in groups[0].whole]
        return [statistics.block_influences(model, blocks, ids, progress)]
    of_text = {"activation": statistics.unit_activations, "taylor": statistics.unit_taylor}
    return of_text[score](model, groups, ids, progress)


def gate_scores(adapter: Adapter, groups: Sequence[Group]) -> list[Tensor]:
    """The model's own gates.

    Raises:
        ValueError: it has none.
    """
    return [gate.float().cpu() for gate in gates_of(adapter, groups)]


def gates_of(adapter: Adapter, groups: Sequence[Group]) -> list[Tensor]:
    """The gates as the model has them, on any device, meta too.

    Raises:
        ValueError: it has none.
    """
    found = [adapter.gates(group) for group in groups]
    gates = [gate for gate in found if gate is not None]
    if len(gates) < len(groups):
        raise ValueError(
            f"method: heads-gate needs a gate per head, {type(adapter.model).__name__} has none"
        )
    return gates


def _of_weights(score: Callable[[Tensor, Tensor], Tensor], group: Group) -> Tensor:
    gate, up = (group.part(role).of_units().flatten(1) for role in ("gate", "up"))
    return score(gate, up).cpu()


def _magnitudes(group: Group, weights: set[int]) -> Tensor:
    """Root mean squares of the units' prunable weights; norms, biases and decays do not count."""
    if group.whole:
        found = []
        for modules in group.whole:
            own = [p for module in modules for p in module.parameters()]
            flat = [p.detach().flatten()[None] for p in own if id(p) in weights]
            squares = sum(float(scores.rms([p])) ** 2 * p.numel() for p in flat)
            found.append((squares / sum(p.numel() for p in flat)) ** 0.5)
        return torch.tensor(found)
    parts = [p for p in group.parts if p.masked and id(p.parameter) in weights]
    return scores.rms([part.of_units().flatten(1) for part in parts]).cpu()
