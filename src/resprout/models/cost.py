"""What a model costs to run and to train, counted on shapes alone: nothing is allocated."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from resprout.models.positions import position_limit

LONGEST_COUNTED = 1024


@dataclass(frozen=True)
class Cost:
    """Counted for one sequence of `context_tokens` in fp32.

    `flops_per_token`: of the forward pass; a multiplication and an addition are two. Products,
    convolutions and attention are counted (its whole T x T square, though half is masked), the
    elementwise rest is not. A training step takes three times as many.
    `cache_bytes_per_token`: what generation keeps of each position.
    `activation_bytes`: what the forward pass keeps for the backward pass, logits included.
    """

    context_tokens: int
    flops_per_token: float
    cache_bytes_per_token: float
    activation_bytes: int


def count_cost(model: PreTrainedModel, context_tokens: int = LONGEST_COUNTED) -> Cost:
    """Count on a model that lies on the meta device.

    Args:
        model: see above.
        context_tokens: T, at most the model's limit.

    Raises:
        ValueError: the model's code needs real numbers to run.
    """
    limit = position_limit(model.config) or context_tokens
    T = min(context_tokens, limit)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        outputs = _run(model.eval(), T, use_cache=True)
    held = [
        value
        for layer in getattr(outputs.past_key_values, "layers", [])
        for value in vars(layer).values()
        if isinstance(value, Tensor)
    ]
    return Cost(
        context_tokens=T,
        flops_per_token=counter.get_total_flops() / T,
        cache_bytes_per_token=sum(tensor.numel() * 4 for tensor in held) / T,
        activation_bytes=_saved_bytes(model.train(), T),
    )


def _run(model: PreTrainedModel, T: int, use_cache: bool) -> Any:
    ids = torch.zeros(1, T, dtype=torch.long, device="meta")
    # Most models look at positions to build their mask, which the meta device has not, and some at
    # the mask to number the positions: give them first nothing, then the mask, then both.
    mask = torch.ones(1, 1, T, T, dtype=torch.bool, device="meta")
    positions = torch.zeros(1, T, dtype=torch.long, device="meta")
    attempts: list[dict[str, Tensor]] = [
        {},
        {"attention_mask": mask},
        {"attention_mask": mask, "position_ids": positions},
    ]
    reason: Exception | None = None
    for arguments in attempts:
        try:
            return model(input_ids=ids, use_cache=use_cache, **arguments)
        except Exception as error:
            reason = error
    raise ValueError(f"{type(model).__name__} cannot be run on shapes alone ({reason})")


def _saved_bytes(model: PreTrainedModel, T: int) -> int:
    parameters = {p.untyped_storage()._cdata for p in model.parameters()}
    saved: dict[int, Any] = {}  # by storage, held so that no address is used twice

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in parameters:
            saved[storage._cdata] = storage
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        outputs = _run(model, T, use_cache=False)
    return sum(storage.nbytes() for storage in saved.values()) + outputs.logits.numel() * 4
