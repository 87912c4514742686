"""Continuing prompts in batches, so that a text depends on its model, prompt and seed alone.

Shapes: B texts of a batch, P positions of its longest prompt, N new tokens, V vocabulary.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from resprout.measure.text.drawing import Draws, uniforms_of
from resprout.measure.text.options import BATCH_TEXTS
from resprout.measure.text.prompts import Prompt
from resprout.models.device import synchronise
from resprout.models.generation import ends_of_text
from resprout.models.quiet import quiet_transformers


@dataclass(frozen=True)
class Text:
    """What a model made of one prompt.

    Attributes:
        prompt: what it continued.
        seed: of its draws.
        prompt_ids: the prompt's tokens, with what the tokenizer puts before them.
        ids: the new tokens, without the end of text.
        text: the same, decoded.
        ended: the model ended it; else it was stopped.
    """

    prompt: Prompt
    seed: int
    prompt_ids: list[int]
    ids: list[int]
    text: str
    ended: bool


@dataclass(frozen=True)
class Batch:
    """What one batch cost: `tokens` really written, ends of text among them, no padding."""

    texts: int
    tokens: int
    seconds: float


@torch.inference_mode()
def write(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Sequence[tuple[Prompt, list[int]]],
    new_tokens: int,
    temperature: float,
    top_k: int,
    seeds: Sequence[int] = (0,),
    batch_texts: int = BATCH_TEXTS,
) -> tuple[list[Text], list[Batch]]:
    """Continue every prompt with every seed.

    Prompts are padded on the left and written together. In exact arithmetic the batch changes
    nothing: greedily the most probable token is taken, and each draw comes from the text's own
    random numbers. In floating point two tokens that are all but equally probable can change
    places, in bf16 more often than in fp32. The model's own generation settings (its top-p, its
    penalties) are not used, so that every subject writes under the same conditions; only the tokens
    with which it ends are. No global random state is touched.

    Args:
        model: on its device; put in evaluation mode here.
        tokenizer: its own; not changed.
        encoded: prompts and tokens, from `encode`; they fit (`room`).
        new_tokens: at most so many per text.
        temperature: 0 = greedy.
        top_k: 0 = all tokens may be drawn.
        seeds: one text per prompt and seed.
        batch_texts: texts written together; changes speed and memory only.

    Returns:
        The texts, seed by seed in the prompts' order, and the batches as they were written.

    Raises:
        FloatingPointError: a logit is not a number.
    """
    model.eval()
    work = [(prompt, ids, seed) for seed in seeds for prompt, ids in encoded]
    # Neighbours in length share a batch: less padding. The longest first: memory fails at once.
    order = sorted(range(len(work)), key=lambda i: -len(work[i][1]))
    ends = ends_of_text(model, tokenizer)
    texts: dict[int, Text] = {}
    batches = []
    for start in range(0, len(order), batch_texts):
        chosen = order[start : start + batch_texts]
        uniforms = None
        if temperature > 0:
            own = [uniforms_of(work[i][0].text, work[i][2], new_tokens) for i in chosen]
            uniforms = torch.stack(own)  # (B, N)
        draws = Draws(uniforms, temperature, top_k)
        synchronise(model.device)
        began = time.perf_counter()
        rows = _generate(model, [work[i][1] for i in chosen], new_tokens, draws, ends)
        synchronise(model.device)
        seconds = time.perf_counter() - began
        if draws.broken:
            raise FloatingPointError("a logit is not a number: the model cannot write")
        tokens = 0
        for i, row in zip(chosen, rows, strict=True):
            prompt, prompt_ids, seed = work[i]
            length = next((at for at, token in enumerate(row) if token in ends), len(row))
            ended = length < len(row)
            tokens += length + ended
            text = decode_after(tokenizer, prompt_ids, row[:length])
            texts[i] = Text(prompt, seed, prompt_ids, row[:length], text, ended)
        batches.append(Batch(len(chosen), tokens, seconds))
    return [texts[i] for i in range(len(work))], batches


def decode_after(tokenizer: PreTrainedTokenizerBase, prompt_ids: list[int], ids: list[int]) -> str:
    """New tokens as they read behind their prompt: some tokenizers drop a text's first space."""

    def decode(tokens: list[int]) -> str:
        return str(
            tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )

    before, whole = decode(prompt_ids), decode(prompt_ids + ids)
    return whole[len(before) :] if whole.startswith(before) else decode(ids)


def _generate(
    model: PreTrainedModel,
    prompts: list[list[int]],
    new_tokens: int,
    draws: Draws,
    ends: list[int],
) -> list[list[int]]:
    """What was written behind each prompt: up to N tokens, padding after the end of text."""
    P = max(map(len, prompts))
    filler = ends[0] if ends else 0
    ids = torch.tensor([[filler] * (P - len(own)) + own for own in prompts])  # (B, P)
    mask = torch.tensor([[0] * (P - len(own)) + [1] * len(own) for own in prompts])
    settings = GenerationConfig(
        max_new_tokens=new_tokens,
        do_sample=False,
        num_beams=1,
        use_cache=True,
        eos_token_id=ends or None,
        pad_token_id=filler,
    )
    with quiet_transformers(), _own_settings_aside(model):
        output = model.generate(
            ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=settings,
            logits_processor=LogitsProcessorList([draws]),
        )
    rows: list[list[int]] = output[:, P:].tolist()
    return rows


@contextmanager
def _own_settings_aside(model: PreTrainedModel) -> Iterator[None]:
    """`generate` fills what is not given from the model's own settings: they are put aside."""
    own: Any = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own
