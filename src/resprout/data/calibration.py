"""Calibration text: the windows of token ids that scores are computed on.

Shapes: N windows, T tokens per window, n tokens of a stream.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from resprout.data import tokenizer as bpe
from resprout.data.encoder import Encoder
from resprout.data.listing import Files
from resprout.data.pieces import MIN_DOCUMENT_CHARACTERS
from resprout.data.sources import find_source, refuse_unreadable
from resprout.data.tokens import TokenSet
from resprout.data.windows import SAMPLES, WINDOW_TOKENS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

AnyTokenizer: TypeAlias = "PreTrainedTokenizerBase | Tokenizer | None"
# Windows drawn from a few times their own text are spread over many documents, at little cost.
READ_TIMES = 4
PREPARED = "train.bin"

_DIGEST_CHARACTERS = 16
_Ids = NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class Calibration:
    """Windows of token ids.

    Attributes:
        ids: (N, T) int64, on the CPU.
        source: what they were taken from, as the user named it.
        tokenizer_digest: sha256 of the tokenizer that made the ids, where that is known.
    """

    ids: Tensor
    source: str
    tokenizer_digest: str | None = None

    @cached_property
    def digest(self) -> str:
        """The first 16 hex digits of sha256 over shape and ids: equal digests, equal windows."""
        total = hashlib.sha256(repr(tuple(self.ids.shape)).encode())
        total.update(self.ids.numpy().astype("<i8").tobytes())
        return total.hexdigest()[:_DIGEST_CHARACTERS]


def read_calibration(
    source: str | Path,
    tokenizer: AnyTokenizer,
    samples: int = SAMPLES,
    length: int = WINDOW_TOKENS,
    seed: int = 0,
    vocabulary: int | None = None,
) -> Calibration:
    """Windows drawn from a source; the same arguments and text give the same windows.

    From text: files come in an order shuffled by the seed, the rows of each in their own. Each
    document is tokenised, followed by the tokenizer's end of text where it has one. Reading stops
    as soon as there is four times what is asked for (`READ_TIMES`; it goes by batches of 2 MiB),
    so of one large file it is the beginning that counts. From a prepared folder: all of its
    training split.

    Windows start anywhere, in the middle of a document too, and never overlap: of all ways to
    place N windows of T tokens in n, each is equally likely. They come in random order, so the
    first few are a fair sample of all.

    Args:
        source: a folder of `resprout prepare`, or text as `resprout.data.sources.find_source`
            takes it: `stdlib`, `installed`, `hf:NAME`, a file, a folder.
        tokenizer: the subject's. Not needed for a prepared folder, but compared with its own.
        samples: N.
        length: T.
        seed: of order and places.
        vocabulary: how many ids the model knows; None does not check them.

    Raises:
        ValueError: no such source; text that cannot be read (of `installed` and the Hub it is left
            out); too little of it; no tokenizer, or one without a fast form; another vocabulary.
    """
    for name, value, least in (("samples", samples, 1), ("length", length, 1), ("seed", seed, 0)):
        if value < least:
            raise ValueError(f"{name}: got {value}, allowed is {least} or more")
    generator = np.random.default_rng(seed)
    given = str(source)
    if os.path.lexists(Path(given) / PREPARED):
        found = _drawn(TokenSet.open(Path(given)), tokenizer, samples, length, generator)
    else:
        encoder, has_end = _encoder(tokenizer)
        stream = _read(given, encoder, has_end, READ_TIMES * samples * length, generator)
        ids = _windows(stream, given, samples, length, generator)
        found = Calibration(ids, given, bpe.digest(encoder.tokenizer))
    _check(found, None, vocabulary)
    return found


def as_windows(
    ids_or_texts: Any,
    tokenizer: AnyTokenizer = None,
    limit: int | None = None,
    vocabulary: int | None = None,
) -> Calibration:
    """What a Python user has at hand, as windows.

    Args:
        ids_or_texts: whole numbers, as a tensor, an array or lists: (N, T) is taken as it is; (n,)
            is cut into windows of 512 tokens, or of `limit` if that is fewer, and the remainder
            dropped. A list of texts is tokenised, each with the end of text behind it where the
            tokenizer has one, and cut alike. Of a `TokenSet`, or the path of a prepared folder,
            128 such windows are drawn from the training split (seed 0), or as many as it has. A
            `Calibration` is checked and given back.
        tokenizer: the subject's; needed for texts, compared with that of prepared data.
        limit: the model's positions.
        vocabulary: how many ids the model knows; None does not check them.

    Raises:
        ValueError: nothing there, less than a window, numbers that are no ids, windows of unequal
            length or longer than `limit`, ids of another vocabulary.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit: got {limit}, allowed is 1 or more")
    given, length = ids_or_texts, min(WINDOW_TOKENS, limit or WINDOW_TOKENS)
    if isinstance(given, (str, Path)):
        if not os.path.lexists(Path(given) / PREPARED):
            raise ValueError(
                f"calibration: got {str(given)[:60]!r}, which is no prepared folder; allowed are "
                "one, a list of texts, or token ids"
            )
        given = TokenSet.open(Path(given))
    if isinstance(given, Calibration):
        found = given
    elif isinstance(given, TokenSet):
        samples = max(1, min(SAMPLES, len(given.train.tokens) // length))
        found = _drawn(given, tokenizer, samples, length, np.random.default_rng(0))
    elif isinstance(given, (list, tuple)) and given and all(isinstance(x, str) for x in given):
        encoder, has_end = _encoder(tokenizer)
        end = [encoder.end_of_text] if has_end else []
        stream = [i for text in given for i in (*encoder.encode(text), *end)]
        ids = _cut(np.array(stream, dtype=np.int64), length)
        found = Calibration(ids, "texts", bpe.digest(encoder.tokenizer))
    else:
        array = _id_array(given)
        found = Calibration(_cut(array, length) if array.ndim == 1 else _tensor(array), "ids")
    _check(found, limit, vocabulary)
    return found


def _encoder(tokenizer: AnyTokenizer) -> tuple[Encoder, bool]:
    """What tokenises documents, and whether an end of text follows each."""
    backend, end = _fast(tokenizer)
    if backend is None:
        got = "none" if tokenizer is None else f"{type(tokenizer).__name__} without a fast form"
        raise ValueError(f"tokenizer: got {got}; text needs the subject's own, with a fast form")
    return Encoder(backend, 0 if end is None else end), end is not None


def _fast(tokenizer: AnyTokenizer) -> tuple[Tokenizer | None, int | None]:
    """The tokenizer of the `tokenizers` library, if there is one, and its end of text."""
    if isinstance(tokenizer, Tokenizer):
        return tokenizer, tokenizer.token_to_id(bpe.END_OF_TEXT)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    end: int | None = getattr(tokenizer, "eos_token_id", None)
    return (backend if isinstance(backend, Tokenizer) else None), end


def _read(
    source: str, encoder: Encoder, has_end: bool, enough: int, generator: np.random.Generator
) -> _Ids:
    """(n,) ids of a source's documents, until there are `enough` or no more."""
    found = find_source(source)
    found.check()
    if isinstance(found, Files):
        files = [found.files[i] for i in generator.permutation(len(found.files))]
        found = Files(found.description, files, found.field, found.sampled)
    parts, tokens = [], 0
    for batch in encoder.batches(found.pieces(None), held_out=0):
        for _, skipped in batch.skipped:
            refuse_unreadable(source, skipped)
        ids, counts = encoder.encode_batch(batch)
        if not has_end:
            ids = np.delete(ids, np.cumsum(counts)[[piece.last for piece in batch.pieces]] - 1)
        parts.append(ids)
        tokens += len(ids)
        if tokens >= enough:
            break
    if not tokens:
        least = f"{MIN_DOCUMENT_CHARACTERS} characters"
        raise ValueError(f"source: {source!r} holds no document of at least {least}")
    return np.concatenate(parts)


def _drawn(
    tokens: TokenSet,
    tokenizer: AnyTokenizer,
    samples: int,
    length: int,
    generator: np.random.Generator,
) -> Calibration:
    """Windows of prepared data, which must be in the subject's own tokens."""
    own = getattr(tokenizer, "name_or_path", "")
    tokens.check_vocabulary(_fast(tokenizer)[0], "calibration", own)
    name = str(tokens.path)
    ids = _windows(tokens.train.tokens, name, samples, length, generator)
    return Calibration(ids, name, tokens.tokenizer_digest)


def _windows(
    stream: _Ids, source: str, samples: int, length: int, generator: np.random.Generator
) -> Tensor:
    """(N, T) windows of a stream (n,) that do not overlap, in random order."""
    # With each window taken as one item, n - N T + N items; any N of them may be the windows.
    spare = len(stream) - samples * length
    if spare < 0:
        there = f"{len(stream)} tokens, enough for {len(stream) // length}"
        raise ValueError(f"samples: got {samples} of {length} tokens, but {source!r} has {there}")
    items = np.sort(generator.choice(spare + samples, samples, replace=False))
    starts = generator.permutation(items + np.arange(samples) * (length - 1))
    return _tensor(np.stack([stream[start : start + length] for start in starts]))


def _cut(stream: _Ids, length: int) -> Tensor:
    """(N, T) adjoining windows of a stream (n,)."""
    N = len(stream) // length
    if N < 1:
        got = f"{len(stream)} tokens, a window takes {length}"
        raise ValueError(f"calibration: got {got}; allowed are as many, or ids of shape (1, n)")
    return _tensor(stream[: N * length].reshape(N, length))


def _tensor(ids: _Ids) -> Tensor:
    return torch.from_numpy(np.array(ids, dtype=np.int64, order="C"))  # a copy: theirs may change


def _id_array(given: Any) -> _Ids:
    """(N, T) or (n,) whole numbers of what might be anything."""
    if isinstance(given, Sequence):
        rows = [_array(row) for row in given]
        lengths = sorted({row.size for row in rows})
        if len(lengths) > 1:
            found = f"{lengths[0]} to {lengths[-1]}"
            raise ValueError(f"calibration: got windows of {found} tokens, allowed is one length")
        array = np.array(rows)
    else:
        array = _array(given)
    if (array.size and array.dtype.kind not in "iu") or array.ndim not in (1, 2):
        what = f"{array.dtype} of shape {array.shape}" if array.ndim else type(given).__name__
        raise ValueError(
            f"calibration: got {what}, allowed are whole numbers of shape (windows, tokens) or "
            "(tokens,), a list of texts, or prepared data"
        )
    return array


def _array(given: Any) -> NDArray[Any]:
    if isinstance(given, Tensor):
        if given.is_meta or given.layout != torch.strided:
            raise ValueError(
                "calibration: got a meta or sparse tensor, allowed are token ids in memory"
            )
        given = given.detach().cpu()
        # numpy has no bf16, and any float is refused alike.
        return (given.float() if given.is_floating_point() else given).numpy()
    return np.asarray(given)


def _check(found: Calibration, limit: int | None, vocabulary: int | None) -> None:
    """Refuse windows that the model cannot read."""
    N, T = found.ids.shape
    if N < 1 or T < 1:
        raise ValueError("calibration: got no token, allowed is one window or more")
    if limit is not None and limit < T:
        raise ValueError(f"calibration: got windows of {T} tokens, the model has {limit} positions")
    lowest, highest = int(found.ids.min()), int(found.ids.max())
    if lowest < 0:
        raise ValueError(f"calibration: got the id {lowest}, allowed is 0 or more")
    if vocabulary is not None and highest >= vocabulary:
        raise ValueError(
            f"calibration: {found.source!r} is in another vocabulary: its ids go up to {highest}, "
            f"the model knows those up to {vocabulary - 1}"
        )
