"""Tokens on disk: `train.bin` and `val.bin`, memory-mapped, with a manifest that describes them.

The files are raw little-endian unsigned integers, as in the published study (and nanoGPT), with
the end-of-text token after each document. The manifest keeps each split's byte count, so that a
loss per token can be given in bits per byte, which no tokenizer can flatter.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tokenizers import Tokenizer

from resprout.data import tokenizer as bpe
from resprout.data.folder import MANIFEST as MANIFEST
from resprout.data.folder import TOKENIZER_FILES
from resprout.data.windows import unigram_entropy
from resprout.data.writer import HEADER_BYTES, ROW_BYTES, SPLITS
from resprout.files import file_sha256, read_json
from resprout.seals import SEAL, seal_holds

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

DAMAGED = (
    "is damaged: it is not as it was written (sha256); allowed is whole data, such as "
    "`resprout prepare --start_over` makes anew"
)

Tokens = NDArray[np.unsignedinteger]

# No folder holds more: a number in a file may not fill the memory, where no seal vouches for it.
_MOST_IDS = 2**24
_Count = Annotated[int, Field(ge=0, le=2**48)]


@dataclass(frozen=True)
class Split:
    """One split: its tokens, (n,) unsigned integers on disk, and the UTF-8 bytes they stand for."""

    tokens: Tokens
    text_bytes: int
    documents: int
    index_path: Path | None = None

    @cached_property
    def index(self) -> NDArray[np.uint64]:
        """(documents, 2) on disk: where each ends (after its end of text), and its UTF-8 bytes.

        Raises:
            ValueError: data of an earlier version, which has no index.
        """
        if self.index_path is None:
            raise ValueError("tokens: prepared by an earlier version, without an index")
        index: NDArray[np.uint64] = np.load(self.index_path, mmap_mode="r")
        return index


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

    def check_vocabulary(self, tokenizer: Tokenizer | None, option: str, name: str = "") -> None:
        """Refuse data that another tokenizer made.

        Args:
            tokenizer: the subject's; None is not compared.
            option: what the user calls the data.
            name: of the subject's tokenizer, where it has one.

        Raises:
            ValueError: naming both tokenizers.
        """
        if tokenizer is None or bpe.same_encoding(tokenizer, self.tokenizer()):
            return
        theirs = self.manifest.get("tokenizer") or self.tokenizer_digest[:12]
        raise ValueError(
            f"{option}: {str(self.path)!r} is in another vocabulary: it was prepared with the "
            f"tokenizer {theirs}, the subject's is {name or bpe.digest(tokenizer)[:12]}"
        )

    def transformers_tokenizer(self, max_length: int | None = None) -> "PreTrainedTokenizerFast":
        """The tokenizer as transformers' class: the folder's own files where it has them.

        Args:
            max_length: positions of the model that it is meant for; None leaves it as it is.
        """
        if not (self.path / "tokenizer_config.json").is_file():
            return bpe.for_transformers(self.tokenizer(), max_length)
        from transformers import AutoTokenizer

        found: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(self.path)
        if max_length is not None:
            found.model_max_length = max_length
        return found

    @classmethod
    def open(cls, path: Path, checked: bool = False) -> "TokenSet":
        """Memory-map a prepared folder.

        All its files are read once and compared with the manifest's sha256, at more than 1 GB/s:
        a flipped bit is noticed before anything is trained or measured on it. Folders of earlier
        versions have digests of the tokens (and mostly the indexes), not of the tokenizer's files.

        Args:
            path: of the folder.
            checked: this very run has compared the digests; only sizes are looked at.

        Raises:
            ValueError: the folder was not prepared, or a file is not as the manifest says.
        """
        if not (path / MANIFEST).is_file():
            raise ValueError(f"tokens: {str(path)!r} holds no {MANIFEST}; it is not prepared data")
        manifest = read_manifest(path / MANIFEST)
        dtype = np.dtype(manifest["dtype"])
        splits = {}
        for name in SPLITS:
            entry = manifest["splits"][name]
            file = path / f"{name}.bin"
            if not file.is_file() or file.stat().st_size != entry["tokens"] * dtype.itemsize:
                raise ValueError(f"tokens: {str(file)!r} is missing or not of the size recorded")
            mapped = np.memmap(file, dtype=dtype, mode="r")
            index = None
            if "index_sha256" in entry:
                index = path / f"{name}.index.npy"
                size = HEADER_BYTES + ROW_BYTES * entry["documents"]
                if not index.is_file() or index.stat().st_size != size:
                    raise ValueError(
                        f"tokens: {str(index)!r} is missing or not of the size recorded"
                    )
            splits[name] = Split(mapped, entry["bytes"], entry["documents"], index)
        if not checked:
            check_digests(path, manifest)
        return cls(path, splits["train"], splits["val"], manifest)


class _SplitShape(BaseModel):
    """One split in a manifest."""

    model_config = ConfigDict(strict=True)

    tokens: _Count
    bytes: _Count
    documents: _Count
    sha256: str = ""
    index_sha256: str = ""


class _Splits(BaseModel):
    """Both."""

    train: _SplitShape
    val: _SplitShape


class _SkippedShape(BaseModel):
    """What was left out for one reason."""

    model_config = ConfigDict(strict=True)

    count: _Count
    first: str


class _ManifestShape(BaseModel):
    """All that is read of a manifest; what each field means stands at `manifest.manifest_of`."""

    model_config = ConfigDict(strict=True)

    dtype: Literal["uint16", "uint32"]
    vocab_size: Annotated[int, Field(ge=1, le=_MOST_IDS)]
    end_of_text: Annotated[int, Field(ge=0, lt=_MOST_IDS)]
    digest: Annotated[str, Field(min_length=1)]
    tokenizer_sha256: Annotated[str, Field(min_length=1)]
    tokenizer: str | None = None
    tokenizer_files: dict[str, str] = {}
    splits: _Splits
    skipped: dict[str, _SkippedShape] = {}
    target_tokens: int | None = None


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest, as it was written.

    Raises:
        ValueError: it is not JSON, of something else, or changed since.
    """
    manifest = read_json(path)
    if not isinstance(manifest, dict) or not {"dtype", "splits"} <= manifest.keys():
        raise ValueError(f"tokens: {str(path)!r} is no manifest of prepared data")
    if not seal_holds(manifest):
        raise ValueError(f"tokens: {str(path)!r} {DAMAGED}")
    try:
        _ManifestShape.model_validate(manifest)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(
            f"tokens: {str(path)!r} lacks or garbles {where} ({first['msg']})"
        ) from error
    return {name: value for name, value in manifest.items() if name != SEAL}


def check_digests(folder: Path, manifest: dict[str, Any]) -> None:
    """Compare all files with the manifest's sha256.

    Raises:
        ValueError: naming the first that differs.
    """
    expected = {
        name: sha256
        for name, sha256 in manifest.get("tokenizer_files", {}).items()
        if name in TOKENIZER_FILES
    }
    for split in SPLITS:
        entry = manifest["splits"][split]
        kinds = {"sha256": "bin", "index_sha256": "index.npy"}
        expected |= {f"{split}.{end}": entry[key] for key, end in kinds.items() if key in entry}
    for name, sha256 in expected.items():
        file = folder / name
        if not file.is_file() or file_sha256(file) != sha256:
            raise ValueError(f"tokens: {str(file)!r} {DAMAGED}")
