"""What is made from the nats of a held-out set: per token, byte and word, with intervals."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from resprout.data.held_out import HeldOut
from resprout.measure.drawn import by_document
from resprout.measure.figure import Figure
from resprout.measure.loss import bits_per_byte, perplexity
from resprout.measure.statistics import mean_interval


def loss_figures(
    nats: NDArray[np.float64],
    counts: NDArray[np.int64],
    held_out: HeldOut,
    seed: int,
    protocol: str,
    seconds: float,
    documents: list[int] | None = None,
) -> dict[str, Figure]:
    """All figures of a loss; each is a function of the nats over a total of something.

    Args:
        nats: (W,) per item.
        counts: (W,) predicted tokens per item.
        held_out: what was predicted.
        seed: of the bootstrap over items.
        protocol: how it was measured.
        seconds: what that took.
        documents: (W,) of each item, which are drawn together; None = each item by itself.
    """
    total, items = float(nats.sum()), len(nats)
    by_page = held_out.definition is not None
    tokens = len(held_out.stream)
    intervals: dict[int, tuple[float, float]] = {}  # by what it is a mean over: most share one

    def interval(sizes: NDArray[Any]) -> tuple[float, float]:
        if id(sizes) not in intervals:
            totals = by_document(nats, documents)
            intervals[id(sizes)] = mean_interval(totals, by_document(sizes, documents), seed=seed)
        return intervals[id(sizes)]

    def figure(sizes: NDArray[Any], scale: float, unit: str, of: Any) -> Figure:
        """of(nats / (sizes * scale)) with its interval over items."""
        value = of(total / (float(sizes.sum()) * scale))
        if value is None:
            return Figure(None, unit, items, protocol, seconds, reason="beyond a float")
        if items < 2:
            return Figure(value, unit, items, protocol, seconds, reason="one item has no interval")
        low, high = (of(v / scale) for v in interval(sizes))
        if low is None or high is None:
            return Figure(value, unit, items, protocol, seconds, reason="interval beyond a float")
        return Figure(value, unit, items, protocol, seconds, (low, high))

    # Of a document its own bytes and words; of a window, which may part a word, the whole set's.
    bytes_, byte_scale = (held_out.bytes, 1.0)
    if not by_page:
        bytes_, byte_scale = counts, held_out.text_bytes / tokens
    figures = {
        "nats_per_token": figure(counts, 1.0, "nats per token", float),
        "perplexity": figure(counts, 1.0, "per token", perplexity),
        "bits_per_byte": figure(
            bytes_, byte_scale, "bits per byte", lambda nats: bits_per_byte(nats, 1.0)
        ),
        "byte_perplexity": figure(bytes_, byte_scale, "per byte", perplexity),
    }
    if held_out.words is None or held_out.word_count is None:
        figures["word_perplexity"] = Figure(
            None,
            "per word",
            items,
            protocol,
            seconds,
            reason="the text is not at hand, only tokens",
        )
    else:
        words, word_scale = (held_out.words, 1.0)
        if not by_page:
            words, word_scale = counts, held_out.word_count / tokens
        figures["word_perplexity"] = figure(words, word_scale, "per word", perplexity)
    return figures


def loss_details(
    nats: NDArray[np.float64],
    counts: NDArray[np.int64],
    held_out: HeldOut,
    figures: dict[str, Figure],
) -> dict[str, Any]:
    """What a comparison by windows needs, and the figures as records have always held them."""

    def interval(name: str) -> list[float] | None:
        found = figures[name].ci95
        return None if found is None else list(found)

    value = figures["nats_per_token"].value
    return {
        "nats_per_token": value,
        "perplexity": figures["perplexity"].value,
        "bits_per_byte": figures["bits_per_byte"].value,
        "ci95": interval("nats_per_token") or [value, value],
        "bits_per_byte_ci95": interval("bits_per_byte"),
        "perplexity_ci95": interval("perplexity") or [None, None],
        "unit": "nats per token",
        "tokens": int(counts.sum()),
        "windows": len(counts),
        "tokens_per_byte": len(held_out.stream) / held_out.text_bytes,
        "window_tokens": counts.tolist(),
        "window_nats": [round(float(value), 4) for value in nats],
        "data": held_out.source,
        "data_digest": held_out.digest,
        "documents": len(held_out.documents),
        "text_bytes": held_out.text_bytes,
        "words": held_out.word_count,
    }
