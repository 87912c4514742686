"""Gates that are learned: heads close by themselves where the loss does not need them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from resprout.models.agency import heads_of
from resprout.models.loss import LossFunction, choose_loss, logits_loss
from resprout.models.modeling_head_agency import (
    HIGHEST,
    LOWEST,
    TEMPERATURE,
    WITHDRAWN,
    HeadAgency,
)
from resprout.models.modeling_states import enter

# log alpha of a gate at 1 when learning begins: it is drawn as 1 in 80 % and as 0 in 1 % of all
# draws, so that each head is tried without, and none has far to go.
_OPEN = 3.0


class GateLoss:
    """The loss with a price on open heads: loss + penalty * mean P(gate > 0), nats per token.

    The probability of a hard-concrete gate is sigmoid(log alpha - beta log(-gamma / zeta))
    (Louizos, Welling and Kingma 2018, eq. 12; on heads: Voita et al. 2019, eq. 6), here a mean
    over all heads of the model, so that a penalty of 0.1 makes a whole model of open heads cost
    0.1 nat more than one of closed ones.

    Args:
        model: whose gates are being learned.
        penalty: in nats, from 0.
        learning_rate: of the gates (log alpha); weights keep the training's own.
        loss: the loss that the price comes upon; None = the shared one.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        penalty: float,
        learning_rate: float,
        loss: LossFunction | None = None,
    ):
        self.model = model
        self.heads = heads_of(model)
        self.penalty = penalty
        self.learning_rate = learning_rate
        self.loss = loss

    def check(self, sharded: bool) -> None:
        """Refuse what gates cannot be learned under.

        Raises:
            ValueError: the model's weights are to be spread over processes.
        """
        if sharded:
            raise ValueError("sharding: got fsdp, allowed while gates are learned is ddp")

    def __call__(self, model: PreTrainedModel, inputs: Tensor, targets: Tensor) -> Tensor:
        """The loss, a scalar. `inputs`, `targets`: (B, T)."""
        if self.loss is None:
            # Under a wrapper (DDP, compile) only its own forward does what it is there for.
            plain = model is self.model
            self.loss = choose_loss(model, inputs, targets) if plain else logits_loss
        return self.loss(model, inputs, targets) + self.penalty * self.open_share()

    def open_share(self) -> Tensor:
        """The expected share of heads whose gate is not 0, a scalar."""
        shift = TEMPERATURE * math.log(-LOWEST / HIGHEST)
        openings = torch.cat([_opening(heads) for heads in self.heads])
        return (openings - shift).sigmoid().mean()


@contextmanager
def learning_gates(
    model: PreTrainedModel,
    penalty: float,
    learning_rate: float = 0.05,
    loss: LossFunction | None = None,
) -> Iterator[GateLoss]:
    """Hard-concrete gates while the context lasts; its value is the loss to train with.

    Each gate starts where it is. At the end gates take the value that they have in evaluation, and
    heads whose gate is 0 withdraw. Where training fails or is stopped the gates are as before.

    Args:
        model: with agency; changed in place.
        penalty: nats per token that open heads cost, all together, from 0.
        learning_rate: of the gates, above 0. They have to move by several units, where weights
            move by thousandths.
        loss: that the price of open heads comes upon, such as distillation; default the shared
            one.

    Raises:
        ValueError: no agency, gates that are being learned already, or a number out of range.
    """
    check_gates(model, penalty, learning_rate)
    layers = heads_of(model)
    for heads in layers:
        heads.opening = nn.Parameter(_log_alpha(heads.gates.detach()))
        heads.gates.requires_grad_(False)
    try:
        yield GateLoss(model, float(penalty), float(learning_rate), loss)
        for heads in layers:
            settle(heads)
    finally:
        for heads in layers:
            heads.opening = None
            heads.gates.requires_grad_(True)


def check_gates(model: PreTrainedModel, penalty: float, learning_rate: float) -> None:
    """Refuse gates that cannot be learned.

    Raises:
        ValueError: see `learning_gates`.
    """
    for name, value, from_zero in (
        ("gate_penalty", penalty, True),
        ("gate_learning_rate", learning_rate, False),
    ):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not (0 <= value < math.inf) or (value == 0 and not from_zero):
            allowed = "0 or more" if from_zero else "above 0"
            raise ValueError(f"{name}: got {value!r}, allowed is a number {allowed}")
    if any(heads.opening is not None for heads in heads_of(model)):
        raise ValueError("model: its gates are being learned already")


@torch.no_grad()
def settle(heads: HeadAgency) -> None:
    """Gates take their learned values; heads with a closed gate withdraw."""
    training, heads.training = heads.training, False
    heads.gates.copy_(heads.gate_values())
    heads.training = training
    enter(heads, torch.where(heads.gates == 0, WITHDRAWN, heads.state))


def _opening(heads: HeadAgency) -> Tensor:
    assert heads.opening is not None, "its gates are not being learned"
    return heads.opening


def _log_alpha(gates: Tensor) -> Tensor:
    """log alpha of hard-concrete gates that have these values in evaluation; 1 and 0 are clipped.

    The inverse of clamp(sigmoid(log alpha) (zeta - gamma) + gamma, 0, 1).
    """
    share = (gates.float() - LOWEST) / (HIGHEST - LOWEST)
    return share.clamp(1e-6, 1 - 1e-6).logit().clamp(-_OPEN, _OPEN).to(gates.dtype)
