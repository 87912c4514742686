"""Windows over a token stream: which tokens are inputs and which are predicted. Pure functions.

A window of length T holds T + 1 tokens: T inputs and the T targets one position later, so that
every subject predicts the same tokens from the same contexts.
"""

import numpy as np
from numpy.typing import NDArray

SAMPLES = 128  # windows of a calibration
WINDOW_TOKENS = 512  # of each
_COUNTED_AT_ONCE = 2**24  # tokens


def evaluation_windows(tokens: int, length: int) -> list[tuple[int, int]]:
    """Fixed, adjoining windows that predict each token but the first exactly once.

    Args:
        tokens: how many the stream has.
        length: T, predicted tokens per window; the last window may be shorter.

    Returns:
        (start, predicted) pairs: inputs are `start .. start + predicted - 1`, targets one later.

    Raises:
        ValueError: fewer than two tokens, or a length below 1.
    """
    if length < 1:
        raise ValueError(f"window: got {length}, allowed is 1 or more")
    if tokens < 2:
        raise ValueError(f"tokens: got {tokens}, needs at least 2 to predict one")
    return [(start, min(length, tokens - 1 - start)) for start in range(0, tokens - 1, length)]


def strided_windows(tokens: int, length: int, stride: int) -> list[tuple[int, int, int]]:
    """Overlapping windows that predict each token but the first once, most with a long context.

    Each window begins `stride` tokens after the one before it, and only what that one had not
    predicted counts: the sliding window of transformers' perplexity guide, and of GPT-2's figures.

    Args:
        tokens: how many the stream has.
        length: T, inputs per window.
        stride: at most T.

    Returns:
        (start, inputs, counted) triples: the last `counted` predictions of each window count.

    Raises:
        ValueError: fewer than two tokens, or a stride that is no part of the window.
    """
    if not 1 <= stride <= length:
        raise ValueError(f"stride: got {stride}, allowed is 1 to the window's {length} tokens")
    if stride == length:
        return [(start, size, size) for start, size in evaluation_windows(tokens, length)]
    found, reached = [], 0
    for start, _ in evaluation_windows(tokens, stride):
        size = min(length, tokens - 1 - start)
        found.append((start, size, start + size - reached))
        reached = start + size
        if reached == tokens - 1:
            break
    return found


def document_windows(tokens: int, length: int) -> list[tuple[int, int, int]]:
    """The windows of one document, as lm-eval's `loglikelihood_rolling` takes them.

    They adjoin, but the last, which would be shorter, reaches back for a whole window of context.

    Args:
        tokens: of the document, with the one before its first.
        length: T, inputs per window.

    Returns:
        (start, inputs, counted) triples, as `strided_windows`.
    """
    found = []
    for start, size in evaluation_windows(tokens, length):
        begin = max(0, start + size - length)
        found.append((begin, start + size - begin, size))
    return found


def training_starts(
    tokens: int, length: int, count: int, seed: int, order: str = "shuffle"
) -> NDArray[np.int64]:
    """Where each training window starts, in the order of training.

    Depends on the arguments alone, so that all subjects see the same tokens in the same order.

    Args:
        tokens: how many the stream has.
        length: T, predicted tokens per window.
        count: how many windows in all.
        seed: of the order.
        order: `shuffle`: adjoining windows, each once per epoch, each epoch in its own order.
            `random`, as the published BioGPT training: windows that start anywhere, drawn
            independently, so that some tokens come often and some never.

    Raises:
        ValueError: the stream is shorter than one window.
    """
    windows = (tokens - 1) // length
    if windows < 1:
        raise ValueError(f"window: got {length}, but the training split has only {tokens} tokens")
    generator = np.random.default_rng(seed)
    if order == "random":
        return generator.integers(0, tokens - length, count, dtype=np.int64)
    epochs = [generator.permutation(windows) for _ in range(-(-count // windows))]
    chosen = np.concatenate(epochs)[:count] if epochs else np.empty(0, dtype=np.int64)
    return chosen.astype(np.int64) * length


def stack(tokens: NDArray[np.unsignedinteger], batch: list[tuple[int, int]]) -> NDArray[np.int64]:
    """The windows of one batch as (B, T + 1) token ids."""
    return np.stack([tokens[start : start + length + 1] for start, length in batch]).astype(
        np.int64
    )


def unigram_entropy(
    tokens: NDArray[np.unsignedinteger], other: NDArray[np.unsignedinteger], vocab_size: int
) -> float:
    """Cross-entropy of `other` under the single-token frequencies of `tokens`, nats per token.

    Frequencies are add-one smoothed, so that an unseen token costs a finite amount. What a
    model must beat to have learned anything beyond how often each token occurs.
    """
    counts = np.ones(vocab_size)
    for start in range(0, len(tokens), _COUNTED_AT_ONCE):  # bincount makes 8 bytes of each
        part = tokens[start : start + _COUNTED_AT_ONCE]
        counts += np.bincount(part, minlength=vocab_size)
    return float(-np.log(counts / counts.sum())[other].mean())
