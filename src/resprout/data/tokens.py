"""Tokens on disk: `train.bin` and `val.bin`, memory-mapped, with a manifest that describes them.

The files are raw little-endian unsigned integers, as in the published study (and nanoGPT), with
the end-of-text token after each document. The manifest keeps each split's byte count, so that a
loss per token can be given in bits per byte, which no tokenizer can flatter.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from resprout.data import sources
from resprout.data import tokenizer as bpe
from resprout.data.sources import Document
from resprout.data.windows import unigram_entropy
from resprout.files import new_folder, read_json, write_json

MANIFEST = "manifest.json"
SPLITS = ("train", "val")
DOCUMENTS_PER_BATCH = 256  # so that memory stays flat while all cores encode


Tokens = NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class Split:
    """One split: its tokens, (n,) unsigned integers on disk, and the UTF-8 bytes they stand for."""

    tokens: Tokens
    text_bytes: int
    documents: int


@dataclass(frozen=True)
class TokenSet:
    """A prepared folder: two splits, the tokenizer and what they were made from."""

    path: Path
    train: Split
    val: Split
    manifest: dict[str, Any]

    @property
    def digest(self) -> str:
        """Names this data: changes with any token, of either split, or with the tokenizer."""
        return str(self.manifest["digest"])

    @cached_property
    def unigram_nats_per_token(self) -> float:
        """The held-out loss of the training split's single-token frequencies."""
        vocab_size = self.manifest["vocab_size"]
        return unigram_entropy(self.train.tokens, self.val.tokens, vocab_size)

    @property
    def tokenizer_digest(self) -> str:
        """sha256 of the tokenizer that made the tokens."""
        return str(self.manifest["tokenizer_sha256"])

    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made the tokens."""
        return bpe.load(self.path / "tokenizer.json")

    @classmethod
    def open(cls, path: Path) -> "TokenSet":
        """Memory-map a prepared folder.

        Raises:
            ValueError: the folder was not prepared, or a file has not the size the manifest says.
        """
        if not (path / MANIFEST).is_file():
            raise ValueError(f"tokens: {str(path)!r} holds no {MANIFEST}; it is not prepared data")
        manifest = read_json(path / MANIFEST)
        dtype = np.dtype(manifest["dtype"])
        splits = {}
        for name in SPLITS:
            entry = manifest["splits"][name]
            file = path / f"{name}.bin"
            if not file.is_file() or file.stat().st_size != entry["tokens"] * dtype.itemsize:
                raise ValueError(f"tokens: {str(file)!r} is missing or not of the size recorded")
            mapped = np.memmap(file, dtype=dtype, mode="r")
            splits[name] = Split(mapped, entry["bytes"], entry["documents"])
        return cls(path, splits["train"], splits["val"], manifest)


def prepare(
    documents: list[Document],
    path: Path,
    held_out: float,
    vocab_size: int | None = None,
    tokenizer: Tokenizer | None = None,
    end_of_text: int = 0,
    source: str = "",
) -> TokenSet:
    """Tokenise documents into `path`, split by document.

    Args:
        documents: in their fixed order.
        path: the folder to make; appears whole or not at all.
        held_out: share of the documents (by a hash of their names) that become validation.
        vocab_size: train a byte-level BPE of this size on the training documents, or
        tokenizer: use this one, with `end_of_text` as the id written after each document.
        end_of_text: see `tokenizer`; a trained tokenizer brings its own.
        source: how the documents were named, for the manifest.

    Raises:
        ValueError: a split would be empty.
    """
    split_documents: dict[str, list[Document]] = {name: [] for name in SPLITS}
    for document in documents:
        chosen = "val" if sources.is_held_out(document.name, held_out) else "train"
        split_documents[chosen].append(document)
    for name, part in split_documents.items():
        if not part:
            raise ValueError(
                f"held_out: {held_out} of {len(documents)} documents leaves the {name} split "
                "empty; allowed is a fraction that gives each split at least one document"
            )
    if tokenizer is None:
        if vocab_size is None:
            raise ValueError("prepare: give vocab_size (to train a tokenizer) or a tokenizer")
        tokenizer = bpe.train_bpe((doc.text for doc in split_documents["train"]), vocab_size)
        end_of_text = bpe.end_of_text_id(tokenizer)
    dtype = np.dtype(np.uint16 if tokenizer.get_vocab_size() <= 2**16 else np.uint32)
    with new_folder(path) as folder:
        splits = {}
        for name in SPLITS:
            ids = _encode(split_documents[name], tokenizer, end_of_text, dtype)
            ids.tofile(folder / f"{name}.bin")
            splits[name] = {
                "tokens": int(ids.size),
                "bytes": sum(len(doc.text.encode()) for doc in split_documents[name]),
                "documents": len(split_documents[name]),
                "sha256": hashlib.sha256(ids.tobytes()).hexdigest(),
            }
        tokenizer.save(str(folder / "tokenizer.json"))
        tokenizer_sha256 = bpe.digest(tokenizer)
        parts = [tokenizer_sha256, *(str(splits[name]["sha256"]) for name in SPLITS)]
        manifest = {
            "source": source,
            "documents_sha256": sources.digest(documents),
            "held_out": held_out,
            "dtype": dtype.name,
            "vocab_size": tokenizer.get_vocab_size(),
            "end_of_text": end_of_text,
            "tokenizer_sha256": tokenizer_sha256,
            "digest": hashlib.sha256("".join(parts).encode()).hexdigest(),
            "splits": splits,
        }
        write_json(folder / MANIFEST, manifest)
    return TokenSet.open(path)


def _encode(
    documents: list[Document], tokenizer: Tokenizer, end_of_text: int, dtype: np.dtype[Any]
) -> Tokens:
    pieces = []
    for start in range(0, len(documents), DOCUMENTS_PER_BATCH):
        texts = [doc.text for doc in documents[start : start + DOCUMENTS_PER_BATCH]]
        for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False):
            pieces.append(np.array([*encoding.ids, end_of_text], dtype=dtype))
    return np.concatenate(pieces)
