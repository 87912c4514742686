"""The measure `loss`: a whole held-out set, with everything that is made from its nats."""

import time

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from resprout.data.held_out import HeldOut
from resprout.data.windows import document_windows, evaluation_windows, strided_windows
from resprout.measure.drawn import DOCUMENTS, owners, what_is_drawn
from resprout.measure.figure import Measured
from resprout.measure.loss_figures import loss_details, loss_figures
from resprout.measure.loss_options import LossOptions
from resprout.measure.precision import Choice, choose_precision
from resprout.measure.scoring import Window, window_nats
from resprout.measure.statistics import RESAMPLES
from resprout.models.positions import position_limit

LONGEST_WINDOW = 1024  # default for models that know more positions


def check_loss(config: PreTrainedConfig, options: LossOptions, definition: str | None) -> None:
    """Refuse windows that the model cannot take.

    Raises:
        ValueError: naming the option.
    """
    limit = position_limit(config)
    if limit is not None and (options.window or 0) > limit:
        raise ValueError(f"window: got {options.window}, the model has {limit} positions")
    if options.stride is not None and definition is not None:
        raise ValueError(f"stride: not allowed with {definition!r}, whose windows are lm-eval's")
    window = options.window or window_of(config, options, definition)
    if options.stride is not None and options.stride > window:
        raise ValueError(f"stride: got {options.stride}, allowed is 1 to the window's {window}")


def window_of(config: PreTrainedConfig, options: LossOptions, definition: str | None) -> int:
    """T: as asked for, or the default."""
    if options.window is not None:
        return options.window
    limit = position_limit(config)
    if definition is not None:
        return limit or 2048  # what lm-eval takes where a model says nothing
    return min(limit or LONGEST_WINDOW, LONGEST_WINDOW)


def measure_loss(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    held_out: HeldOut,
    options: LossOptions | None = None,
) -> Measured:
    """Loss, perplexity, bits per byte and word perplexity over a whole held-out set.

    By default the documents are one stream, the end of text after each, in adjoining windows; each
    token but the first is predicted once. `wikitext2` is measured as lm-eval does: each page by
    itself, from the beginning-of-text token on, and items are pages.

    Args:
        model: on its device.
        tokenizer: the model's; needed for `wikitext2` alone, whose pages begin with its token.
        held_out: in the model's tokens.
        options: default all defaults.

    Returns:
        Figures `nats_per_token`, `perplexity`, `bits_per_byte`, `byte_perplexity` and
        `word_perplexity`; details with the nats of each window.

    Raises:
        ValueError: windows that the model cannot take; ids that it does not know; too few tokens.
        FloatingPointError: a loss is not a number.
    """
    options = options or LossOptions()
    check_loss(model.config, options, held_out.definition)
    started = time.perf_counter()
    documents: list[int] | None = None
    T = window_of(model.config, options, held_out.definition)
    if held_out.definition is None:
        tokens, windows = held_out.stream, _of_stream(held_out, T, options.stride)
        owner = np.arange(len(windows))
        documents = owners(windows, held_out.ends).tolist()
    else:
        tokens, windows, owner = _of_documents(held_out, tokenizer, T)
    check_ids(tokens, model.config.get_text_config(decoder=True).vocab_size, held_out.source)
    # A figure that others have defined is to be theirs, to the digit.
    exact = held_out.definition is not None and options.precision == "auto"
    asked = "fp32" if exact else options.precision
    choice = choose_precision(asked, model, tokens, windows, options.batch_windows)
    each = window_nats(model, tokens, windows, options.batch_windows, choice.autocast)
    counted = np.array([count for _, _, count in windows])
    nats = np.bincount(owner, each).astype(np.float64)
    counts = np.bincount(owner, counted).astype(np.int64)
    seconds = time.perf_counter() - started
    drawn = what_is_drawn(documents, len(nats))
    if held_out.definition is not None:
        drawn = f"{len(nats):,} pages"
    protocol = loss_protocol(held_out, T, options, len(windows), choice, drawn)
    figures = loss_figures(nats, counts, held_out, options.seed, protocol, seconds, documents)
    details = loss_details(nats, counts, held_out, figures)
    if documents is not None:
        details[DOCUMENTS] = documents
    details |= {"window": T, "stride": options.stride, "precision": choice.as_json()}
    return Measured(figures, details)


def check_ids(tokens: NDArray[np.integer], vocabulary: int, source: str) -> None:
    """Refuse ids that the model's embedding has not.

    Raises:
        ValueError: naming the highest.
    """
    highest = int(tokens.max(initial=0))
    if highest >= vocabulary:
        raise ValueError(
            f"tokenizer: {source!r} in its tokens has ids up to {highest}, the model knows those "
            f"up to {vocabulary - 1}"
        )


def _of_stream(held_out: HeldOut, T: int, stride: int | None) -> list[Window]:
    if len(held_out.stream) < 2:
        raise ValueError(
            f"data: {held_out.source!r} has {len(held_out.stream)} tokens, needs 2 or more"
        )
    if stride is not None:
        return strided_windows(len(held_out.stream), T, stride)
    return [(start, n, n) for start, n in evaluation_windows(len(held_out.stream), T)]


def _of_documents(
    held_out: HeldOut, tokenizer: PreTrainedTokenizerBase | None, T: int
) -> tuple[NDArray[np.int64], list[Window], NDArray[np.int64]]:
    """The stream with a beginning before each document, its windows, and whose each is."""
    begin = None
    if tokenizer is not None:
        begin = tokenizer.bos_token_id
        if begin is None:
            begin = tokenizer.eos_token_id
    if begin is None:
        raise ValueError(
            f"tokenizer: {held_out.source!r} begins with its beginning or end of text, it has none"
        )
    parts: list[NDArray[np.int64]] = []
    windows: list[Window] = []
    owner: list[int] = []
    offset = 0
    for number, ids in enumerate(held_out.documents):
        parts += [np.array([begin], dtype=np.int64), ids]
        if len(ids):
            found = document_windows(len(ids) + 1, T)
            windows += [(offset + start, inputs, count) for start, inputs, count in found]
            owner += [number] * len(found)
        offset += len(ids) + 1
    return np.concatenate(parts), windows, np.array(owner)


def loss_protocol(
    held_out: HeldOut, T: int, options: LossOptions, windows: int, choice: Choice, drawn: str
) -> str:
    """How the loss was measured, in a sentence."""
    precision = choice.precision
    if choice.difference is not None:
        precision += (
            f" ({choice.reason}; difference of bf16 on {choice.windows} windows "
            f"{choice.difference:+.1e}, half-width of the interval {choice.half_width:.1e})"
        )
    n = len(held_out.documents)
    if held_out.definition is not None:
        how = (
            f"{held_out.source} as lm-eval defines it: {n} pages, each by itself from the "
            f"beginning of text on, in {windows} windows of {T} tokens"
        )
    else:
        way = (
            f"{windows} adjoining windows of {T} tokens"
            if options.stride is None
            else f"{windows} overlapping windows of {T} tokens with a stride of {options.stride}"
        )
        how = (
            f"the whole held-out set of {held_out.source}, {n} documents as one stream, "
            f"{way}, each token but the first predicted once"
        )
    return f"{how}; {precision}; interval: bootstrap over {drawn}, {RESAMPLES:,} resamples"
