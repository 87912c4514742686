"""The memory that training needs on each device, counted on shapes alone: nothing is allocated.

Counted: fp32 weights, gradients and AdamW's two moments; what each operation keeps for the backward
pass under bf16 autocast, with and without gradient checkpointing; the loss; what DDP and FSDP2 add.
Not counted: what the allocator wastes, the kernels' workspaces, the gradients of activations while
one block is gone back through, and CUDA itself (about half a GB).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from resprout.models.autocast_shapes import Bf16Autocast
from resprout.models.cross_entropy import CHUNK_BYTES
from resprout.models.positions import position_limit

# fp32: the weight, its gradient, and AdamW's two moments.
BYTES_PER_PARAMETER = 16
# DDP collects gradients into buckets, beside the gradients themselves.
BUCKET_BYTES_PER_PARAMETER = 4
# FSDP2 gathers a block's weights and its gradients: 4 bytes each in fp32; in bf16 half of that,
# with the next block's gathered ahead.
GATHERED_BYTES_PER_PARAMETER = 8
# Where a model has more positions, or no limit, a sequence is planned with so many.
USUAL_TOKENS = 2048
# Whole logits at the loss: bf16, their fp32 copy and its log-softmax (backward: log-softmax, its
# gradient, and that in bf16).
BYTES_PER_LOGIT = 10


@dataclass(frozen=True)
class Kept:
    """Bytes that the forward pass keeps for the backward pass, of one batch.

    `inputs`: of each block as it is called (twice with two passes).
    `insides`: of each block, what it keeps beside its input; keys and values that serve several
    heads are counted as repeated for each (a fused kernel may not need that).
    `outside`: of all that is no block, the head and the loss excepted.
    `weight_copies`: the bf16 copies of weights that autocast makes.
    """

    inputs: tuple[int, ...]
    insides: tuple[int, ...]
    outside: int
    weight_copies: int

    def activations(self, checkpointing: bool) -> int:
        """All of it; with checkpointing each block's input, and the inside of one block."""
        inside = max(self.insides) if checkpointing else sum(self.insides)
        return sum(self.inputs) + inside + self.outside


@dataclass(frozen=True)
class MemoryPlan:
    """Per device, in bytes; on one device nothing is sharded.

    `gathered`: with FSDP2, the parameters outside of the blocks, which it keeps whole through a
    step, and the largest block, with their gradients. `loss`: chunked on one device, which holds no
    whole logits; else whole.
    """

    devices: int
    batch_size: int
    block_tokens: int
    parameters: int
    gathered: int
    kept: Kept
    loss: int

    def parts(self, sharded: bool, checkpointing: bool) -> dict[str, int]:
        """What takes how much; their sum is the whole. `sharded`: FSDP2, else DDP."""
        state = BYTES_PER_PARAMETER * self.parameters
        buckets = BUCKET_BYTES_PER_PARAMETER * self.parameters if self.devices > 1 else 0
        return {
            "weights, gradients, moments (fp32)": -(-state // self.devices) if sharded else state,
            "bf16 copies of weights": 0 if sharded else self.kept.weight_copies,
            "DDP's buckets of gradients": 0 if sharded else buckets,
            "gathered: embeddings, head, a block": self.gathered if sharded else 0,
            "activations": self.kept.activations(checkpointing),
            "loss": self.loss,
        }

    def total(self, sharded: bool, checkpointing: bool) -> int:
        """All that is counted."""
        return sum(self.parts(sharded, checkpointing).values())


class NotCountableError(ValueError):
    """The model has no head or blocks to checkpoint, or its code needs real numbers to run."""


def check_plan(
    config: PreTrainedConfig, devices: int, batch_size: int, block_tokens: int | None
) -> int:
    """The tokens of a sequence: given, or the model's positions up to `USUAL_TOKENS`.

    Raises:
        ValueError: a figure below 1, or more tokens than positions.
    """
    limit = position_limit(config)
    T = min(limit or USUAL_TOKENS, USUAL_TOKENS) if block_tokens is None else block_tokens
    for option, value in (("devices", devices), ("batch_size", batch_size), ("block_size", T)):
        if value < 1:
            raise ValueError(f"{option}: got {value}, allowed is 1 or more")
    if limit is not None and limit < T:
        raise ValueError(f"block_size: got {T}, allowed are up to the model's {limit} positions")
    return T


def plan_memory(
    model: PreTrainedModel, devices: int = 1, batch_size: int = 1, block_tokens: int | None = None
) -> MemoryPlan:
    """Count on a model that lies on the meta device.

    Args:
        model: see above.
        devices: N, over which DDP repeats or FSDP2 divides the model.
        batch_size: B, sequences per device and step.
        block_tokens: T, of a sequence; None = see `check_plan`.

    Raises:
        ValueError: as `check_plan`.
        NotCountableError: see there.
    """
    T = check_plan(model.config, devices, batch_size, block_tokens)
    blocks = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
    head = model.get_output_embeddings()
    if not blocks or head is None:
        raise NotCountableError(
            f"{type(model).__name__} has no head, or no blocks that can be checkpointed"
        )
    sizes = [_parameters(block) for block in blocks]
    total = _parameters(model)
    V, D = head.weight.shape
    return MemoryPlan(
        devices=devices,
        batch_size=batch_size,
        block_tokens=T,
        parameters=total,
        gathered=GATHERED_BYTES_PER_PARAMETER * (total - sum(sizes) + max(sizes)),
        kept=_count_kept(model, blocks, batch_size, T),
        loss=_loss_bytes(batch_size * T, V, D, chunked=devices == 1),
    )


def _parameters(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())


def _loss_bytes(rows: int, V: int, D: int, chunked: bool) -> int:
    """The head's bf16 copy (V, D), and whole logits (rows, V) or what `linear_cross_entropy` holds:
    a chunk of them (bf16 and fp32), and the gradients of its inputs, (rows, D) in bf16, and of the
    head, in fp32.
    """
    if not chunked:
        return 2 * V * D + BYTES_PER_LOGIT * rows * V
    return 2 * V * D + min(CHUNK_BYTES, 4 * rows * V) * 6 // 4 + 2 * rows * D + 4 * V * D


class _Tally:
    """Notes what is kept, by storage, and in which call of a block it was kept first."""

    def __init__(self) -> None:
        # By address; all storages are held, so that no address is used twice.
        self.saved: dict[int, tuple[Any, int | None]] = {}
        self.inputs: dict[int, Any] = {}
        self.calls = 0
        self.current: int | None = None

    def note(self, tensor: Tensor) -> Tensor:
        """Of a tensor that an operation keeps."""
        storage = tensor.untyped_storage()
        self.saved.setdefault(storage._cdata, (storage, self.current))
        return tensor

    def enter(self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A block starts; its input is its first tensor."""
        x = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        self.inputs[x.untyped_storage()._cdata] = x.untyped_storage()
        self.calls, self.current = self.calls + 1, self.calls

    def leave(self, block: nn.Module, args: Any, output: Any) -> None:
        """A block ends."""
        self.current = None

    def kept(self, parameters: Iterable[Tensor], copies: Iterable[Tensor]) -> Kept:
        """The sums, without the weights themselves."""
        copied = list(copies)
        others = {t.untyped_storage()._cdata for t in (*parameters, *copied)} | self.inputs.keys()
        places: dict[int | None, int] = dict.fromkeys([None, *range(self.calls)], 0)
        for address, (storage, place) in self.saved.items():
            if address not in others:
                places[place] += storage.nbytes()
        return Kept(
            inputs=tuple(storage.nbytes() for storage in self.inputs.values()),
            insides=tuple(places[call] for call in range(self.calls)),
            outside=places[None],
            weight_copies=sum(copy.nbytes for copy in copied),
        )


def _count_kept(
    model: PreTrainedModel, blocks: list[GradientCheckpointingLayer], B: int, T: int
) -> Kept:
    """Of the forward pass up to the head."""
    ids = torch.zeros(B, T, dtype=torch.long, device="meta")
    # Most models look at positions to build their mask, which the meta device has not, and some at
    # the mask to number the positions: give them the mask, then both.
    mask = {"attention_mask": torch.ones(B, 1, T, T, dtype=torch.bool, device="meta")}
    positions = torch.arange(T, device="meta")[None].expand(B, T)
    reason: Exception | None = None
    for arguments in (mask, mask | {"position_ids": positions}):
        tally, autocast = _Tally(), Bf16Autocast()
        hooks: list[Any] = [
            block.register_forward_pre_hook(tally.enter, with_kwargs=True) for block in blocks
        ]
        hooks += [block.register_forward_hook(tally.leave) for block in blocks]
        try:
            with autocast, saved_tensors_hooks(tally.note, lambda tensor: tensor):
                model.train().base_model(input_ids=ids, use_cache=False, **arguments)
            return tally.kept(model.parameters(), autocast.weight_copies.values())
        except Exception as error:
            reason = error
        finally:
            for hook in hooks:
                hook.remove()
    raise NotCountableError(f"{type(model).__name__} cannot be run on shapes alone ({reason})")
