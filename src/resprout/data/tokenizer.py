"""Tokenizers: a byte-level BPE trained on the text, saved and loaded the transformers way."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
SMALLEST_VOCABULARY = 257  # 256 bytes and the end of text


def train_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE (Sennrich et al. 2016, on bytes as in GPT-2) trained on `texts`.

    Args:
        texts: the training texts only; a tokenizer that has seen the held-out set is not fair.
        vocab_size: entries in all, the end-of-text token among them.

    Raises:
        ValueError: `vocab_size` leaves no room for all bytes.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise ValueError(f"vocab_size: got {vocab_size}, allowed is {SMALLEST_VOCABULARY} or more")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def digest(tokenizer: Tokenizer) -> str:
    """sha256 of the tokenizer's own JSON: equal digests give equal tokens."""
    return hashlib.sha256(tokenizer.to_str().encode()).hexdigest()


def for_transformers(
    tokenizer: Tokenizer, max_length: int | None = None
) -> "PreTrainedTokenizerFast":
    """The tokenizer as transformers' class, with the end of text as its special tokens."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        bos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )


def end_of_text_id(tokenizer: Tokenizer) -> int:
    """The id that `train_bpe` gave the end of text."""
    found = tokenizer.token_to_id(END_OF_TEXT)
    assert found is not None
    return int(found)


def load(path: Path) -> Tokenizer:
    """Read a `tokenizer.json`."""
    return Tokenizer.from_file(str(path))
