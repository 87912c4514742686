"""How heads change their states: one step for all heads of a model at once.

N heads of all layers together; all tensors are (N,).

This file needs torch only: see `modeling_cut`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .modeling_head_agency import (
    ACTIVE,
    FACTORS,
    MISALIGNED,
    NEVER,
    OVERLOADED,
    STATES,
    HeadAgency,
)

_KEPT = ("utilisation", "alignment", "violations", "first_violation", "last_violation", "since")


@torch.no_grad()
def update(layers: Sequence[HeadAgency], rules: dict[str, Any]) -> None:
    """A step: what layers have seen moves averages, and these (if they may) the states.

    Nothing here waits for the device. Layers on several devices go one device after the other.

    Args:
        layers: all of a model. In a step that looked at nothing, averages stay as they are.
        rules: as `AgencyOptions` has them, by name.
    """
    for device in {heads.gates.device for heads in layers}:
        _update([heads for heads in layers if heads.gates.device == device], rules)


def _update(layers: list[HeadAgency], rules: dict[str, Any]) -> None:
    sizes = [len(heads.gates) for heads in layers]
    now = {name: torch.cat([getattr(heads, name) for heads in layers]) for name in _KEPT}
    seen = [heads.seen for heads in layers]
    gates = torch.cat([heads.gate_values() for heads in layers])
    consent = torch.cat([heads.consent for heads in layers])
    for heads in layers:
        heads.seen = None
        heads.before_update = heads.state_factor
    steps: Any = [heads.step for heads in layers]
    torch._foreach_add_(steps, 1)
    m = rules["momentum"]
    for place, name in enumerate(("utilisation", "alignment")):
        if all(pair is None for pair in seen):
            break
        old = now[name]
        unseen = torch.full_like(old, torch.nan).split(sizes)  # a layer that was left out
        news = [n if pair is None else pair[place] for pair, n in zip(seen, unseen, strict=True)]
        new = torch.cat(news).to(old.dtype)
        moved_to = torch.where(old.isnan(), new, m * old + (1 - m) * new)
        now[name] = torch.where(new.isnan(), old, moved_to)
    broken = ~consent & (gates > 0)
    step = torch.cat([heads.step.expand(size) for heads, size in zip(layers, sizes, strict=True)])
    never = now["first_violation"] == NEVER
    now["first_violation"] = torch.where(broken & never, step, now["first_violation"])
    now["last_violation"] = torch.where(broken, step, now["last_violation"])
    now["violations"] = now["violations"] + broken
    now["since"] = now["since"] + 1
    state = torch.cat([heads.state for heads in layers])
    moved = None
    if rules["states"]:
        new = next_states(state, now["since"], now["utilisation"], now["alignment"], rules)
        moved, state = new != state, new
        now["since"] = torch.where(moved, 0, now["since"])
    into: Any = [getattr(heads, name) for name in now for heads in layers]
    values: Any = [part for name in now for part in now[name].split(sizes)]
    torch._foreach_copy_(into, values)
    if moved is not None:
        entered = torch.stack([moved & (state == place) for place in range(len(STATES))])
        factors = factors_of(state, consent, layers[0].state_factor)
        columns = zip(
            layers, state.split(sizes), entered.split(sizes, 1), factors.split(sizes), strict=True
        )
        for heads, own, went, factor in columns:
            heads.state.copy_(own)
            heads.entered += went
            heads.state_factor = factor.clone()  # not in place: the backward pass needs the old


def next_states(
    state: Tensor, since: Tensor, utilisation: Tensor, alignment: Tensor, rules: dict[str, Any]
) -> Tensor:
    """Active -> overloaded or misaligned by the averages; back after `recovery_steps`."""
    resting = (state == OVERLOADED) | (state == MISALIGNED)
    new = torch.where(resting & (since >= rules["recovery_steps"]), ACTIVE, state)
    active = state == ACTIVE
    new = torch.where(active & (alignment < rules["misaligned_below"]), MISALIGNED, new)
    return torch.where(active & (utilisation > rules["overloaded_above"]), OVERLOADED, new)


def factors_of(state: Tensor, consent: Tensor, like: Tensor) -> Tensor:
    """What states and consent multiply heads by, of the type of `like`."""
    found = torch.zeros(state.shape, dtype=like.dtype, device=like.device)
    for number, factor in enumerate(FACTORS):
        if factor:
            found = torch.where((state == number) & consent, factor, found)
    return found


@torch.no_grad()
def enter(heads: HeadAgency, new: Tensor) -> None:
    """Put a layer's heads into new states, (H,), and count the transitions."""
    moved = new != heads.state
    heads.entered += torch.stack([moved & (new == place) for place in range(len(STATES))])
    heads.since.copy_(torch.where(moved, 0, heads.since))
    heads.state.copy_(new)
    set_factors(heads)


@torch.no_grad()
def set_factors(heads: HeadAgency) -> None:
    """Bring `state_factor` in line with states and consent."""
    heads.state_factor = factors_of(heads.state, heads.consent, heads.state_factor)
