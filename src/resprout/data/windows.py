"""Windows over a token stream: which tokens are inputs and which are predicted. Pure functions.

A window of length T holds T + 1 tokens: T inputs and the T targets one position later, so that
every subject predicts the same tokens from the same contexts.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


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


def batches(windows: list[tuple[int, int]], size: int) -> Iterator[list[tuple[int, int]]]:
    """Runs of at most `size` windows of one length, in order."""
    batch: list[tuple[int, int]] = []
    for window in windows:
        if batch and (len(batch) == size or window[1] != batch[0][1]):
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


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
    counts = np.bincount(tokens, minlength=vocab_size) + 1.0
    return float(-np.log(counts / counts.sum())[other].mean())
