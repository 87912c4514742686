"""The one loss of all subjects: mean next-token cross-entropy over given targets.

transformers' own causal loss shifts inside and so predicts T - 1 targets of a window of T; the
published BioGPT loss predicts T. Here every subject predicts the same T targets (`data.windows`).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from resprout.models.biogpt.linear import Linear
from resprout.models.cross_entropy import linear_cross_entropy

LossFunction = Callable[[PreTrainedModel, Tensor, Tensor], Tensor]
_TOLERANCE = 1e-3  # nats; the two paths add in another order, in bf16 under autocast


def logits_loss(model: PreTrainedModel, inputs: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy, in nats, from the model's logits. `inputs`, `targets`: (B, T)."""
    logits = model(input_ids=inputs, use_cache=False).logits
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def fused_loss(model: PreTrainedModel, inputs: Tensor, targets: Tensor) -> Tensor:
    """The same, without ever holding all logits (B, T, V)."""
    hidden = model.base_model(input_ids=inputs, use_cache=False).last_hidden_state
    head = model.get_output_embeddings()
    return linear_cross_entropy(hidden.flatten(0, 1), head.weight, targets.flatten())


@torch.no_grad()
def choose_loss(model: PreTrainedModel, inputs: Tensor, targets: Tensor) -> LossFunction:
    """`fused_loss` where the model's head is a plain product, else `logits_loss`.

    Whether the head is plain is decided by trying (models scale or cap their logits in many
    ways): both are computed once on the given batch and have to agree.
    """
    head = model.get_output_embeddings()
    # Exactly these: an adapter around the head would be left out. No bias: none is added.
    if type(head) not in (nn.Linear, Linear) or head.bias is not None or model.base_model is model:
        return logits_loss
    training = model.training
    model.eval()
    try:
        expected = logits_loss(model, inputs, targets)
        got = fused_loss(model, inputs, targets)
    finally:
        model.train(training)
    return fused_loss if abs(got - expected) <= _TOLERANCE * (1 + abs(expected)) else logits_loss
