"""What generation keeps of the past, neuron by neuron.

A neuron needs its keys, its values (already enriched by the NMDA trace, whose state they hold) and
the last inputs of its temporal convolution. One cache layer belongs to one neuron in one pass:
pass 0 of all neurons in order, then pass 1. They live in transformers' own `DynamicCache` or
`StaticCache`, so `generate`, beam search and assisted decoding treat them as any other.

Shapes: B batch, n branches, d branch width, W = n * d, T new positions, S positions in all.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer, StaticLayer

GROWTH_POSITIONS = 256


class NeuronCache(DynamicLayer):
    """Grows by whole stretches: appending in place keeps the time per token flat.

    All inputs of the convolution are kept, not only the last, so that `crop` is exact to any
    length.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.keys: Tensor | None = None  # (B, n, S, d)
        self.values: Tensor | None = None  # (B, n, S, d)
        self.conv_inputs: Tensor | None = None  # (B, S, W)
        self._rooms: dict[str, Tensor] = {}

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Note type and device; the tensors come with the first update."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append (B, n, T, d) keys and values; returns all, (B, n, S, d) each."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys = self._append("keys", key_states)
        self.values = self._append("values", value_states)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Positions held."""
        return 0 if self.keys is None else int(self.keys.shape[-2])

    def last_value(self) -> Tensor | None:
        """The enriched value of the last position, (B, n, 1, d): the trace's state."""
        return None if self.values is None else self.values[:, :, -1:]

    def with_conv_inputs(self, a: Tensor, taps: int) -> Tensor:
        """Append the convolution's inputs `a` (B, W, T) to the `taps` - 1 before them (0 where
        there are none): (B, W, taps - 1 + T).
        """
        T = a.shape[-1]
        self.conv_inputs = self._append("conv_inputs", a.transpose(1, 2))
        tail = self.conv_inputs[:, -(taps - 1 + T) :].transpose(1, 2)
        return torch.nn.functional.pad(tail, (taps - 1 + T - tail.shape[-1], 0))

    def _append(self, name: str, new: Tensor) -> Tensor:
        """Put `new` behind what is held, along the axis before the last."""
        held: Tensor | None = getattr(self, name)
        if held is None:
            return new
        if torch.is_grad_enabled() and (new.requires_grad or held.requires_grad):
            return torch.cat([held, new], dim=-2)  # in place would break the backward pass
        room = self._rooms.get(name)
        length, needed = held.shape[-2], held.shape[-2] + new.shape[-2]
        # A room is in use only while `held` is its beginning: beams or a reset replace `held`.
        fits = room is not None and room.data_ptr() == held.data_ptr()
        if room is None or not fits or room.shape[-2] < needed or room.shape[0] != held.shape[0]:
            shape = list(held.shape)
            shape[-2] = needed + max(GROWTH_POSITIONS, needed // 2)
            room = self._rooms[name] = held.new_empty(shape)
            room[..., :length, :] = held
        room[..., length:needed, :] = new
        return room[..., :needed, :]

    def reset(self) -> None:
        """Forget everything."""
        self.conv_inputs = None
        self._rooms = {}
        self.is_initialized = False
        super().reset()
        self.keys = self.values = None

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last positions; a negative number says how many, as in transformers."""
        if tokens_to_remove > 0:
            raise ValueError(
                f"crop: got {tokens_to_remove}, allowed is 0 or minus the positions to remove"
            )
        if tokens_to_remove == 0 or self.keys is None:
            return
        if -tokens_to_remove >= self.get_seq_length():
            self.reset()
            return
        super().crop(tokens_to_remove)
        if self.conv_inputs is not None:
            self.conv_inputs = self.conv_inputs[:, :tokens_to_remove]

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Take the given rows of the batch, for beam search."""
        self._each(lambda held: held.index_select(0, beam_idx.to(held.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row of the batch."""
        self._each(lambda held: held.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the given rows of the batch."""
        self._each(lambda held: held[indices])

    def offload(self) -> None:
        """Move to the CPU."""
        self._each(lambda held: held.to("cpu", non_blocking=True))

    def prefetch(self) -> None:
        """Move back to the neuron's device."""
        self._each(lambda held: held.to(self.device, non_blocking=True))

    def _each(self, change: Any) -> None:
        for name in ("keys", "values", "conv_inputs"):
            if (held := getattr(self, name)) is not None:
                setattr(self, name, change(held))


class StaticNeuronCache(StaticLayer):
    """Fixed tensors, written in place, for compiled decoding."""

    is_croppable = False

    def __init__(self, max_cache_len: int, **kwargs: Any):
        super().__init__(max_cache_len=max_cache_len, **kwargs)
        self.conv_inputs: Tensor | None = None  # (B, W, taps - 1): the last ones
        self.trace: Tensor | None = None  # (B, n, 1, d): the last enriched value

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write (B, n, T, d) keys and values in place; returns all room, (B, n, S, d) each."""
        if self.trace is None:
            self.trace = _fixed(torch.zeros_like(value_states[:, :, :1]))
        self.trace.copy_(value_states[:, :, -1:])
        keys, values = super().update(key_states, value_states)
        return keys, values

    def last_value(self) -> Tensor | None:
        """The enriched value of the last position, (B, n, 1, d): the trace's state."""
        return self.trace

    def with_conv_inputs(self, a: Tensor, taps: int) -> Tensor:
        """As `NeuronCache.with_conv_inputs`."""
        if self.conv_inputs is None:
            self.conv_inputs = _fixed(a.new_zeros(*a.shape[:2], taps - 1))
        window = torch.cat([self.conv_inputs, a], dim=-1)
        self.conv_inputs.copy_(window[..., window.shape[-1] - (taps - 1) :])
        return window

    def reset(self) -> None:
        """Forget everything, in place."""
        super().reset()
        for held in (self.conv_inputs, self.trace):
            if held is not None:
                held.zero_()

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Take the given rows of the batch, for beam search."""
        super().reorder_cache(beam_idx)
        if self.conv_inputs is not None and self.trace is not None:
            self.conv_inputs = self.conv_inputs.index_select(0, beam_idx)
            self.trace = self.trace.index_select(0, beam_idx)


def _fixed(tensor: Tensor) -> Tensor:
    """Mark a tensor as one that stays where it is, which compiled decoding needs."""
    if not torch.compiler.is_compiling():
        torch._dynamo.mark_static_address(tensor)
    return tensor


def adopt(cache: Cache, neurons: int) -> None:
    """Give an empty cache of transformers one layer per neuron and pass, `neurons` in all.

    Raises:
        ValueError: a cache that is not empty and not ours, or of a kind that cannot serve.
    """
    ours = [isinstance(layer, NeuronCache | StaticNeuronCache) for layer in cache.layers]
    if len(ours) == neurons and all(ours):
        return
    kinds = {type(layer) for layer in cache.layers}
    if not kinds <= {DynamicLayer, StaticLayer}:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise ValueError(
            f"past_key_values: got layers of {names}, allowed is an empty dynamic or static cache"
        )
    if cache.get_seq_length() > 0:
        raise ValueError("past_key_values: got another model's cache, allowed is an empty one")
    if StaticLayer in kinds:
        length = cache.layers[0].max_cache_len
        cache.layers = [StaticNeuronCache(max_cache_len=length) for _ in range(neurons)]
    else:
        cache.layers = [NeuronCache() for _ in range(neurons)]
    cache.layer_class_to_replicate = None
