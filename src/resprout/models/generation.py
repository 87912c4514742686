"""Continuing a prompt: a model, a tokenizer that fits it, and the text as it comes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from resprout.hints import is_text
from resprout.models.device import resolve_device
from resprout.models.names import is_published
from resprout.models.positions import position_limit
from resprout.models.quiet import quiet_transformers
from resprout.models.sampling import DEFAULT_MAX_TOKENS, Sampling
from resprout.models.streaming import PieceStreamer
from resprout.models.subject import load_configuration, load_model
from resprout.models.tokenizers import Notice, check_vocabulary, find_tokenizer


class Writer:
    """Continues prompts. What does not fit is refused before the weights are loaded.

    Args:
        name: a model folder, a Hub id, a checkpoint file of the published program, or a size.
        tokenizer: folder or Hub id; None = the model's own. A checkpoint file's is looked for
            beside it, in `final/` beside it, and on the Hub (the published program's).
        revision: of a Hub model.
        device: `cpu`, `cuda`, ... or `auto`.
        dtype: default fp32.
        notice: told what the user might not expect, in one line.

    Raises:
        ValueError: no such model, device or dtype, no tokenizer, or one that does not fit.
    """

    def __init__(
        self,
        name: str,
        tokenizer: str | None = None,
        revision: str | None = None,
        device: str = "auto",
        dtype: str | None = None,
        notice: Notice = lambda line: None,
    ):
        self.name = name
        self.revision = revision
        self.device = resolve_device(device)
        self.dtype = dtype
        self.notice = notice
        # A checkpoint file has to be read whole to know its shape: once is enough.
        self._config = None if is_published(name) else load_configuration(name, revision)
        self._model: PreTrainedModel | None = None
        self.tokenizer = find_tokenizer(name, tokenizer, revision, notice)
        if self._config is not None:
            check_vocabulary(self.tokenizer, self._config)

    def load(self) -> PreTrainedModel:
        """The model on its device; loaded at the first call.

        Raises:
            ValueError: it cannot be loaded, or the tokenizer does not fit it.
        """
        if self._model is not None:
            return self._model
        with quiet_transformers():
            model = load_model(self.name, self.revision, self.device, self.dtype)
        if self._config is None:
            self._config = model.config
            check_vocabulary(self.tokenizer, model.config)
        self._model = model
        return model

    @property
    def config(self) -> PreTrainedConfig:
        """The configuration of the part that reads and writes text."""
        config = self._config or self.load().config
        text = config.get_text_config(decoder=True)
        assert isinstance(text, PreTrainedConfig)
        return text

    def encode(self, prompt: str, sampling: Sampling) -> tuple[Tensor, int]:
        """A prompt's ids, (1, T), and how many tokens may follow.

        Raises:
            ValueError: no token, more positions than the model has, or what is no UTF-8.
        """
        if not is_text(prompt):  # which no tokenizer takes
            raise ValueError(f"prompt: got {prompt!r}, allowed is text that is UTF-8")
        if not prompt or not self.tokenizer(prompt, add_special_tokens=False).input_ids:
            raise ValueError(f"prompt: got {prompt!r}, which has no token; allowed is one or more")
        ids = self.tokenizer(prompt, return_tensors="pt").input_ids
        T, asked = ids.shape[1], sampling.max_tokens or DEFAULT_MAX_TOKENS
        limit = position_limit(self.config)
        if limit is None or T + asked <= limit:
            return ids, asked
        left = limit - T
        if left <= 0:
            raise ValueError(
                f"prompt: got {T} tokens, allowed are up to {limit - 1}, one less than the "
                f"model's {limit} positions"
            )
        if sampling.max_tokens is not None:
            raise ValueError(
                f"max_tokens: got {asked}, allowed are up to {left}: the prompt has {T} "
                f"tokens, the model {limit} positions"
            )
        return ids, left

    @torch.inference_mode()
    def write(
        self, ids: Tensor, new_tokens: int, sampling: Sampling, emit: Callable[[str], None]
    ) -> str:
        """Continue what `encode` gave; the pieces of the continuation go to `emit` as they come.

        It ends with the end of text or after `new_tokens`. The global random state is left as it
        was.

        Returns:
            The whole continuation.
        """
        pieces: list[str] = []

        def keep(piece: str) -> None:
            pieces.append(piece)
            emit(piece)

        choice: dict[str, Any] = {"do_sample": False}
        if sampling.temperature > 0:
            choice = {
                "do_sample": True,
                "temperature": sampling.temperature,
                "top_k": sampling.top_k,
                "top_p": sampling.top_p,
            }
        model, place = self.load(), self.device
        with (
            torch.random.fork_rng(devices=[model.device] if place.type == "cuda" else []),
            quiet_transformers(),
        ):
            torch.manual_seed(sampling.seed)
            ends = ends_of_text(model, self.tokenizer)
            model.generate(
                ids.to(place),
                attention_mask=torch.ones_like(ids).to(place),
                max_new_tokens=new_tokens,
                num_beams=1,
                use_cache=True,
                eos_token_id=ends or None,
                pad_token_id=ends[0] if ends else 0,  # one text at a time: nothing is padded
                streamer=PieceStreamer(self.tokenizer, keep),
                **choice,
            )
        return "".join(pieces)


def ends_of_text(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokenizer's end, and the model's own (a chat model ends a turn by another token)."""
    own = getattr(model.generation_config, "eos_token_id", None)
    ends = own if isinstance(own, list) else [own]
    return sorted({int(end) for end in (*ends, tokenizer.eos_token_id) if end is not None})
