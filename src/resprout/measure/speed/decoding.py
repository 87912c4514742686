"""Greedy decoding in the open: each step is ours, so each can be timed by itself.

Shapes: B batch, T prompt, N new tokens, S = T + N, V vocabulary.
"""

import inspect
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, StaticCache

from resprout.models.device import synchronise

# What takes tokens (B, 1), a cache, a mask and positions, and gives the next tokens (B, 1).
Step = Callable[[Tensor, Any, Tensor | None, Tensor | None], Tensor]


@dataclass(frozen=True)
class Run:
    """One decoding.

    Attributes:
        first_seconds: the prompt read and the first token chosen.
        step_seconds: N - 1 further tokens, one after the other.
        tokens: (B, N), on the CPU.
    """

    first_seconds: float
    step_seconds: list[float]
    tokens: Tensor

    @property
    def seconds(self) -> float:
        """The whole."""
        return self.first_seconds + sum(self.step_seconds)


class Decoder:
    """Continues batches of one shape with one model, greedily.

    Exactly N tokens follow each prompt: an end-of-text token is a token like others, so that every
    token counted is a real one. The model chooses its own cache; with `compile` a static one, which
    this decoder keeps, and the decode step is compiled whole: what torch cannot compile whole
    raises.

    Args:
        model: on its device, in evaluation mode.
        compile: as in `SpeedOptions`.
    """

    def __init__(self, model: PreTrainedModel, compile: str = "off"):
        self.model = model
        self.compile = compile
        self._parameters = inspect.signature(model.forward).parameters
        self._cache: StaticCache | None = None
        self._step: Step = self._forward
        if compile != "off":
            mode = "reduce-overhead" if compile == "cuda-graphs" else None
            self._step = torch.compile(self._forward, fullgraph=True, dynamic=False, mode=mode)

    def run(self, ids: Tensor, new_tokens: int, mask: Tensor | None = None) -> Run:
        """Decode once.

        Args:
            ids: (B, T), on the model's device.
            new_tokens: N.
            mask: (B, T), 1 = a real token; None = all are. Padding is on the left.

        Raises:
            ValueError: the model keeps no cache.
        """
        B, T = ids.shape
        device = ids.device
        whole, positions = self._places(B, T + new_tokens, mask)
        cache = self._fresh_cache(B, T + new_tokens)
        synchronise(device)
        started = time.perf_counter()
        token, cache = self._prefill(ids, cache, mask, positions)
        synchronise(device)
        marks = [started, time.perf_counter()]
        tokens = [token]
        for place in range(T, T + new_tokens - 1):
            if self.compile == "cuda-graphs":
                torch.compiler.cudagraph_mark_step_begin()
            # A compiled step has one shape, so its mask covers the places still to be written.
            upto = T + new_tokens if self.compile != "off" else place + 1
            token = self._step(
                token,
                cache,
                None if whole is None else whole[:, :upto],
                None if positions is None else positions[:, place : place + 1],
            )
            if self.compile == "cuda-graphs":
                token = token.clone()  # the next replay writes where this one lies
            synchronise(device)
            marks.append(time.perf_counter())
            tokens.append(token)
        seconds = [end - start for start, end in itertools.pairwise(marks)]
        return Run(seconds[0], seconds[1:], torch.cat(tokens, dim=1).cpu())

    def _forward(
        self, token: Tensor, cache: Any, mask: Tensor | None, positions: Tensor | None
    ) -> Tensor:
        """One position: tokens (B, 1) to the next ones, (B, 1)."""
        outputs = self.model(**self._arguments(token, cache, mask, positions))
        logits: Tensor = outputs.logits  # (B, 1, V)
        return logits[:, -1].argmax(-1, keepdim=True)

    def _prefill(
        self, ids: Tensor, cache: Any, mask: Tensor | None, positions: Tensor | None
    ) -> tuple[Tensor, Any]:
        """The prompt: its next tokens (B, 1), and the cache that holds it."""
        T = ids.shape[1]
        first = None if positions is None else positions[:, :T]
        arguments = self._arguments(ids, cache, mask, first)
        if "logits_to_keep" in self._parameters:
            arguments["logits_to_keep"] = 1
        outputs = self.model(**arguments)
        if outputs.past_key_values is None:
            raise ValueError(f"{type(self.model).__name__} keeps no cache to decode with")
        return outputs.logits[:, -1].argmax(-1, keepdim=True), outputs.past_key_values

    def _arguments(
        self, ids: Tensor, cache: Any, mask: Tensor | None, positions: Tensor | None
    ) -> dict[str, Any]:
        arguments: dict[str, Any] = {"input_ids": ids, "past_key_values": cache, "use_cache": True}
        if mask is not None:
            arguments["attention_mask"] = mask
        if positions is not None and "position_ids" in self._parameters:
            arguments["position_ids"] = positions
        return arguments

    def _places(self, B: int, S: int, mask: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """For padded prompts the mask and the positions of all places, (B, S) each."""
        if mask is None:
            return None, None
        whole = mask.new_ones(B, S)
        whole[:, : mask.shape[1]] = mask
        return whole, (whole.cumsum(-1) - 1).clamp(min=0)

    def _fresh_cache(self, B: int, S: int) -> StaticCache | None:
        """An empty static cache; the same tensors in each run, since compiled code knows them."""
        if self.compile == "off":
            return None
        if self._cache is None:
            self._cache = StaticCache(config=self.model.config, max_cache_len=S)
        else:
            self._cache.reset()
        return self._cache


@contextmanager
def undisturbed(models: Sequence[PreTrainedModel]) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards each module is in the mode that it was in.

    Not inference mode: bf16 weights used in it are multiplied three times as slowly on a CPU.
    """
    modes = [(module, module.training) for model in models for module in model.modules()]
    try:
        for model in models:
            model.eval()
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
