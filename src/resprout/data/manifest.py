"""What is written beside the tokens: where they come from, what they are, and their digests."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tokenizers

from resprout.data import tokenizer as bpe
from resprout.data.encoder import Encoder
from resprout.data.folder import FORMAT, TOKENIZER_FILES
from resprout.data.pieces import Source
from resprout.data.request import Request
from resprout.data.writer import SPLITS, Writer
from resprout.files import file_sha256
from resprout.seals import sealed

if TYPE_CHECKING:
    from resprout.data.engine import State, Words


def manifest_of(
    folder: Path,
    request: Request,
    source: Source,
    words: "Words",
    encoder: Encoder,
    writer: Writer,
    state: "State",
) -> dict[str, Any]:
    """The manifest of whole work: no time of day, no path, so that equal work gives equal files."""
    from resprout import __version__

    splits = {}
    for name in SPLITS:
        counts = writer.counts[name]
        splits[name] = {
            "tokens": counts.tokens,
            "bytes": counts.text_bytes,
            "documents": counts.documents,
            "sha256": writer.hashes[f"{name}.bin"].hexdigest(),
            "index_sha256": file_sha256(folder / f"{name}.index.npy"),
        }
    tokenizer_sha256 = bpe.digest(words.tokenizer)
    parts = [tokenizer_sha256, *(str(splits[name]["sha256"]) for name in SPLITS)]
    training = None
    if request.train_tokenizer is not None:
        paper = request.protocol == "paper"
        training = {
            "vocab_size": request.train_tokenizer,
            "on": "documents of both splits" if paper else "training documents only",
            "at_most_bytes": request.train_tokenizer_bytes,
        }
    return sealed({
        "format": FORMAT,
        "source": request.source,
        "source_identity": request.text,
        "revision": source.pinned(),
        "documents_sha256": request.text.get("sha256"),
        "protocol": request.protocol,
        "held_out": request.val_fraction,
        "target_tokens": request.target_tokens,
        "source_exhausted": state.exhausted,
        "dtype": encoder.dtype.name,
        "vocab_size": encoder.vocab_size,
        "end_of_text": words.end_of_text,
        "tokenizer": (request.tokenizer or {}).get("name"),
        "tokenizer_trained": training,
        "tokenizer_sha256": tokenizer_sha256,
        "digest": hashlib.sha256("".join(parts).encode()).hexdigest(),
        "splits": splits,
        "skipped": state.skipped,
        "pieces": state.pieces,
        "versions": {"resprout": __version__, "tokenizers": tokenizers.__version__},
        "request": request.described(),
        "tokenizer_files": {
            path.name: file_sha256(path)
            for path in sorted(folder / name for name in TOKENIZER_FILES)
            if path.is_file()
        },
    })  # fmt: skip
