"""Whether prompts fit a model: their tokens, and how many new ones the context leaves."""

from collections.abc import Mapping, Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from resprout.measure.text.prompts import Prompt, named_prompts
from resprout.models.positions import position_limit
from resprout.models.quiet import quiet_transformers

NEW_TOKENS = 120  # where the caller asks for no number and the context has room


def check_lengths(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Mapping[str, str | Sequence[str]],
    new_tokens: int | None = None,
) -> int:
    """Refuse prompts that do not fit the model's context with their continuation.

    Args:
        model: the subject.
        tokenizer: its own.
        prompts: by category.
        new_tokens: per prompt; None = 120, or what the longest prompt leaves of the context.

    Returns:
        How many new tokens each prompt gets; as many for all, since figures of repetition depend on
        the length.

    Raises:
        ValueError: a prompt is too long, has no token, or has one that the model does not know.
    """
    encoded = encode(model, tokenizer, named_prompts(prompts))
    return room(model, encoded, new_tokens)


def encode(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt]
) -> list[tuple[Prompt, list[int]]]:
    """Each prompt with its tokens.

    Raises:
        ValueError: a prompt has no token, or one that the model does not know.
    """
    V = int(model.get_input_embeddings().weight.shape[0])
    encoded = []
    with quiet_transformers():  # a tokenizer's own remark on long texts; `room` says more
        for prompt in prompts:
            if not tokenizer(prompt.text, add_special_tokens=False).input_ids:
                raise ValueError(f"prompts: {prompt.name!r}: got no token, allowed is one or more")
            ids = list(tokenizer(prompt.text).input_ids)
            if max(ids) >= V:
                raise ValueError(
                    f"prompts: {prompt.name!r}: got token {max(ids)}, the model knows those up to "
                    f"{V - 1}: this is not its tokenizer"
                )
            encoded.append((prompt, ids))
    return encoded


def room(
    model: PreTrainedModel,
    encoded: Sequence[tuple[Prompt, list[int]]],
    new_tokens: int | None,
) -> int:
    """How many new tokens every prompt gets, as in `check_lengths`."""
    limit = position_limit(model.config)
    if limit is None:
        return NEW_TOKENS if new_tokens is None else new_tokens
    for prompt, ids in encoded:
        if new_tokens is not None and len(ids) + new_tokens > limit:
            raise ValueError(
                f"prompts: {prompt.name!r} needs {len(ids) + new_tokens} positions with its "
                f"{new_tokens} new tokens, allowed are up to the model's {limit}"
            )
        if len(ids) >= limit:
            raise ValueError(
                f"prompts: {prompt.name!r} needs {len(ids)} positions by itself, allowed are up to "
                f"{limit - 1}, one less than the model's {limit}"
            )
    if new_tokens is not None:
        return new_tokens
    return min(NEW_TOKENS, limit - max(len(ids) for _, ids in encoded))
