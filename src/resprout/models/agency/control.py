"""Gates, states and consent set by hand."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from resprout.models.agency.attachment import heads_of
from resprout.models.agency.options import state_number
from resprout.models.modeling_head_agency import HeadAgency
from resprout.models.modeling_states import enter, set_factors
from resprout.refusals import check_flag, shown


@torch.no_grad()
def set_gates(model: nn.Module, layer: int, gates: float | Sequence[float] | Tensor) -> None:
    """Set a layer's gates: one value for all heads, or (H,) values.

    Raises:
        ValueError: the model has no agency or no such layer, a gate is no number or lies outside
            0 to 1, or their number is wrong.
    """
    heads = _layer(model, layer)
    values = _numbers(gates)
    H = len(heads.gates)
    if values.ndim > 1 or (values.ndim == 1 and len(values) != H):
        raise ValueError(f"gates: got {tuple(values.shape)}, allowed is one or ({H},)")
    wrong = values[~((values >= 0) & (values <= 1))]
    if wrong.numel():
        raise ValueError(f"gates: got {wrong.flatten()[0].item():g}, allowed is 0 to 1")
    heads.gates.copy_(values.expand(H))


@torch.no_grad()
def set_state(model: nn.Module, layer: int, head: int, state: str) -> None:
    """Put a head into a state: active, overloaded, misaligned or withdrawn.

    Raises:
        ValueError: the model has no agency, no such layer or head, or there is no such state.
    """
    number = state_number(state)
    heads, head = _layer(model, layer), _head(model, layer, head)
    new = heads.state.clone()
    new[head] = number
    enter(heads, new)


@torch.no_grad()
def set_consent(model: nn.Module, layer: int, head: int, consent: bool) -> None:
    """Withdraw a head's consent (its factor is 0 then), or give it again.

    Raises:
        ValueError: the model has no agency, or no such layer or head; `consent` is neither True
            nor False.
    """
    check_flag("consent", consent)
    heads, head = _layer(model, layer), _head(model, layer, head)
    heads.consent[head] = bool(consent)
    set_factors(heads)


def _numbers(gates: float | Sequence[float] | Tensor) -> Tensor:
    """Gates of whatever form as fp32."""
    refusal = f"gates: got {shown(gates)}, allowed are numbers from 0 to 1"
    if isinstance(gates, Tensor) and (gates.is_meta or gates.is_complex()):
        raise ValueError(refusal)
    try:
        return torch.as_tensor(gates, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:  # words, None, lists of unequal lengths
        raise ValueError(refusal) from error


def _layer(model: nn.Module, layer: int) -> HeadAgency:
    found = heads_of(model)
    if type(layer) is not int or not 0 <= layer < len(found):
        raise ValueError(f"layer: got {layer!r}, allowed is 0 to {len(found) - 1}")
    return found[layer]


def _head(model: nn.Module, layer: int, head: int) -> int:
    count = len(_layer(model, layer).gates)
    if type(head) is not int or not 0 <= head < count:
        raise ValueError(f"head: got {head!r}, allowed is 0 to {count - 1}")
    return head
