"""Workloads: a batch of random prompts and how many tokens follow, where a model has room."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedConfig

from resprout.measure.speed.options import (
    DEFAULT_NEW_TOKENS,
    DEFAULT_PROMPT_TOKENS,
    SpeedOptions,
)
from resprout.models.device import resolve_device
from resprout.models.positions import position_limit

Notice = Callable[[str], None]


@dataclass(frozen=True)
class Workload:
    """One thing to time.

    Attributes:
        batch: B, sequences at once.
        prompt_tokens: T, of the longest prompt.
        new_tokens: N, per sequence.
        unequal: prompts of T / 2 to T tokens, padded on the left, instead of T each.
    """

    batch: int
    prompt_tokens: int
    new_tokens: int
    unequal: bool = False

    @property
    def name(self) -> str:
        """As figures are named: `batch8/prompt32/new50`."""
        unequal = "-unequal" if self.unequal else ""
        return f"batch{self.batch}/prompt{self.prompt_tokens}{unequal}/new{self.new_tokens}"

    @property
    def positions(self) -> int:
        """Prompt and new tokens of one sequence."""
        return self.prompt_tokens + self.new_tokens

    @property
    def lengths(self) -> list[int]:
        """Real tokens of each prompt, B of them; the first is the longest."""
        T = self.prompt_tokens
        shortest = (T + 1) // 2 if self.unequal else T
        return [round(float(length)) for length in np.linspace(T, shortest, self.batch)]

    @property
    def padding_share(self) -> float:
        """How much of the (B, T) prompt is padding."""
        return 1 - sum(self.lengths) / (self.batch * self.prompt_tokens)


def check_speed(
    config: PreTrainedConfig,
    options: SpeedOptions,
    device: torch.device | str,
    notice: Notice = lambda line: None,
) -> list[Workload]:
    """The workloads of a model, before it is loaded.

    Args:
        config: the model's.
        options: what is asked for.
        device: where it will run.
        notice: told which of the default lengths are left out.

    Raises:
        ValueError: no such device, CUDA graphs elsewhere than on CUDA, or a prompt with its new
            tokens longer than the model's positions.
    """
    place = resolve_device(device) if isinstance(device, str) else device
    if options.compile == "cuda-graphs" and place.type != "cuda":
        raise ValueError(f"compile: got 'cuda-graphs', allowed on {place.type} are off, compile")
    limit = position_limit(config)
    prompts = options.prompt_tokens or DEFAULT_PROMPT_TOKENS
    news = options.new_tokens or DEFAULT_NEW_TOKENS
    fitting, beyond = [], []
    for prompt in prompts:
        over = [new for new in news if limit is not None and prompt + new > limit]
        # Left out is only what nobody asked for.
        if over and (options.new_tokens is not None or len(over) == len(news)):
            raise ValueError(
                f"new_tokens: got {over[0]} after a prompt of {prompt} tokens, allowed are "
                f"{limit} positions in all, those of the model"
            )
        fitting += [(prompt, new) for new in news if new not in over]
        beyond += [f"{new} after a prompt of {prompt}" for new in over]
    if beyond:
        notice(f"speed: the model has {limit} positions; left out: {', '.join(beyond)}")
    return [
        workload
        for batch in options.batches
        for prompt, new in fitting
        for workload in _of(batch, prompt, new, fitting, options)
    ]


def _of(
    batch: int, prompt: int, new: int, fitting: list[tuple[int, int]], options: SpeedOptions
) -> list[Workload]:
    """A workload and, for the middle number of new tokens, the one with unequal prompts."""
    found = [Workload(batch, prompt, new)]
    news = sorted(n for p, n in fitting if p == prompt)
    if options.unequal and batch > 1 and prompt > 1 and new == news[len(news) // 2]:
        found.append(Workload(batch, prompt, new, unequal=True))
    return found


def common_workloads(
    configs: Mapping[str, PreTrainedConfig],
    options: SpeedOptions,
    device: torch.device,
    notice: Notice,
) -> list[Workload]:
    """The workloads that all models have room for: what is compared is timed alike.

    Raises:
        ValueError: see `check_speed`.
    """
    smallest = min(configs.values(), key=lambda config: position_limit(config) or float("inf"))
    return check_speed(smallest, options, device, notice)


def special_ids(config: PreTrainedConfig) -> set[int]:
    """The ids that a configuration names as begin, end or padding."""
    text = config.get_text_config(decoder=True)
    found: set[object] = set()
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = getattr(text, name, None)
        found.update(value if isinstance(value, list | tuple) else [value])
    return {id for id in found if isinstance(id, int)}


def prompt(workload: Workload, config: PreTrainedConfig, seed: int) -> tuple[Tensor, Tensor | None]:
    """Random ids, the same for equal vocabularies; the global random state is not used.

    Returns:
        ids (B, T), and for unequal prompts the mask (B, T) of real tokens, else None.
    """
    V = config.get_text_config(decoder=True).vocab_size
    plain = torch.tensor(sorted(set(range(V)) - special_ids(config)) or list(range(V)))
    generator = torch.Generator().manual_seed(seed)
    shape = (workload.batch, workload.prompt_tokens)  # (B, T)
    ids = plain[torch.randint(len(plain), shape, generator=generator)]
    if not workload.unequal:
        return ids, None
    T = workload.prompt_tokens
    places = torch.arange(T)[None]  # (1, T)
    real = places >= T - torch.tensor(workload.lengths)[:, None]  # (B, T)
    return ids.where(real, torch.zeros_like(ids)), real.long()
