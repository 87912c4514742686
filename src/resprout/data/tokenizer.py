"""Tokenizers: a byte-level BPE trained on the text, saved and loaded the transformers way."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from resprout.files import new_file, write_text
from resprout.hub import ask_for_model, cached_file

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
TOKENIZER = "tokenizer.json"
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


def same_encoding(one: Tokenizer, other: Tokenizer) -> bool:
    """Whether two tokenizers give every text the same tokens.

    What only decodes, pads or frames (transformers adds such parts when it loads one) is left out.
    """
    parts = ("model", "normalizer", "pre_tokenizer", "added_tokens")
    a, b = (json.loads(tokenizer.to_str()) for tokenizer in (one, other))
    return all(a.get(part) == b.get(part) for part in parts)


def for_transformers(
    tokenizer: Tokenizer, max_length: int | None = None, end_of_text: str = END_OF_TEXT
) -> "PreTrainedTokenizerFast":
    """The tokenizer as transformers' class, with the end of text as its special tokens."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=end_of_text,
        bos_token=end_of_text,
        pad_token=end_of_text,
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


def save(
    folder: Path,
    tokenizer: Tokenizer,
    end_of_text: int,
    pretrained: "PreTrainedTokenizerFast | None" = None,
) -> None:
    """Write `tokenizer.json` and what transformers wants beside it.

    Args:
        folder: to write into.
        tokenizer: its file is written as it is, so that its digest stays the same.
        end_of_text: id.
        pretrained: the same as transformers loaded it, where it did, with its own settings.
    """
    if pretrained is None:
        word = tokenizer.id_to_token(end_of_text)
        if word is None:
            raise ValueError(f"end_of_text: got {end_of_text}, which the tokenizer does not have")
        pretrained = for_transformers(tokenizer, end_of_text=word)
    with tempfile.TemporaryDirectory() as temporary:
        pretrained.save_pretrained(temporary)
        for path in sorted(Path(temporary).iterdir()):
            if path.is_file() and path.name != TOKENIZER:
                with new_file(folder / path.name) as whole:
                    shutil.copyfile(path, whole)
    # Whole or not at all, as a run that is taken up again must be able to trust it.
    write_text(folder / TOKENIZER, tokenizer.to_str(pretty=True))


def pretrained(name: str) -> "PreTrainedTokenizerFast":
    """The tokenizer of that Hub id or folder, as transformers loads it.

    Raises:
        ValueError: it cannot be had, or is of no use here: no fast form, no end of text.
    """
    local = os.path.lexists(name)
    if local and not Path(name).is_dir():
        raise ValueError(f"tokenizer: {name!r} is a file; allowed are a folder or a Hub id")
    if local and not any(Path(name).glob("*token*")):
        raise ValueError(f"tokenizer: the folder {name!r} holds no tokenizer files")
    try:
        if not local and cached_file(name, TOKENIZER) is None:
            ask_for_model(name)
        from transformers import AutoTokenizer  # only now, for it takes seconds

        found = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # many libraries' errors, all meaning that it cannot be had
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"tokenizer: {name!r} is neither a folder with a tokenizer nor to be had from the Hub "
            f"({said}); allowed are a folder, a Hub id, or --train_tokenizer"
        ) from error
    if not found.is_fast:
        raise ValueError(f"tokenizer: {name!r} has no fast form, which is needed to use all cores")
    if found.eos_token_id is None:
        raise ValueError(f"tokenizer: {name!r} has no end of text to stand after each document")
    return found
