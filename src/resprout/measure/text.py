"""Generated text, and how varied and how repetitive it is. The figures are pure functions."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase


def distinct_n(sequences: Sequence[Sequence[int]], n: int) -> float | None:
    """Different n-grams over all n-grams of the sequences together (Li et al. 2016, distinct-n).

    None where no sequence has n tokens.
    """
    grams = [tuple(ids[i : i + n]) for ids in sequences for i in range(len(ids) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None


def repetition_n(sequences: Sequence[Sequence[int]], n: int) -> float | None:
    """Mean over sequences of the share of n-grams already seen in the same sequence.

    seq-rep-n of Welleck et al. 2019 (section 6.1): 1 - different / all n-grams. None where no
    sequence has n tokens.
    """
    shares = []
    for ids in sequences:
        own = distinct_n([ids], n)
        if own is not None:
            shares.append(1 - own)
    return sum(shares) / len(shares) if shares else None


@torch.inference_mode()
def generate_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Mapping[str, str],
    new_tokens: int,
    temperature: float,
    top_k: int,
    seed: int,
) -> dict[str, Any]:
    """Continue each prompt, one by one, each from the same seed.

    Args:
        model: on its device.
        tokenizer: the model's own.
        prompts: category -> prompt.
        new_tokens: at most so many per prompt; an end-of-text token ends it earlier.
        temperature: 0 = greedy.
        top_k: 0 = all tokens may be drawn.
        seed: of the draws. The global random state is left as it was.

    Returns:
        `samples` (category, prompt, text, tokens) and distinct-1/2/3 and repetition-3 of them.

    Raises:
        ValueError: a prompt and its continuation are longer than the model's context.
    """
    check_lengths(model, tokenizer, prompts, new_tokens)
    model.eval()
    choice: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        choice = {"do_sample": True, "temperature": temperature, "top_k": top_k}
    samples, continuations = [], []
    for category, prompt in prompts.items():
        ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=True).input_ids
        with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
            torch.manual_seed(seed)
            output = model.generate(
                ids.to(model.device),
                attention_mask=torch.ones_like(ids).to(model.device),
                max_new_tokens=new_tokens,
                pad_token_id=tokenizer.eos_token_id,
                **choice,
            )
        new = output[0, ids.shape[1] :].tolist()
        continuations.append(new)
        samples.append(
            {
                "category": category,
                "prompt": prompt,
                "text": tokenizer.decode(new, skip_special_tokens=True),
                "tokens": len(new),
            }
        )
    return {
        "distinct_1": distinct_n(continuations, 1),
        "distinct_2": distinct_n(continuations, 2),
        "distinct_3": distinct_n(continuations, 3),
        "repetition_3": repetition_n(continuations, 3),
        "new_tokens": new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "seed": seed,
        "samples": samples,
    }


def check_lengths(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Mapping[str, str],
    new_tokens: int,
) -> None:
    """Refuse prompts that do not fit the model's context with their continuation."""
    limit = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    for category, prompt in prompts.items():
        needed = len(tokenizer(prompt).input_ids) + new_tokens
        if limit is not None and needed > limit:
            raise ValueError(
                f"prompts: {category!r} needs {needed} positions with its {new_tokens} new "
                f"tokens, allowed are up to the model's {limit}"
            )
