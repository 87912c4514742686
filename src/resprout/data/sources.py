"""Where text comes from: a source gives documents in a fixed order, each with a stable name."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resprout.data.pieces import (
    MIN_DOCUMENT_CHARACTERS,
    Item,
    Piece,
    Position,
    Skipped,
    Source,
    entered,
    pieces_of,
)
from resprout.hints import did_you_mean
from resprout.refusals import check_text, shown

NAMED = ("installed", "pile", "stdlib")
HUB_PREFIX = "hf:"
DEFAULT_FIELD = "text"


@dataclass(frozen=True)
class Document:
    """One text and the name by which it is ordered and held out (a relative POSIX path)."""

    name: str
    text: str


class Documents:
    """Documents in memory as a source. The base of a position is how many are behind."""

    def __init__(self, documents: Sequence[Document], description: str):
        self.documents = documents
        self.description = description

    def identity(self) -> dict[str, Any]:
        """sha256 over all names and texts."""
        return {"sha256": digest(self.documents)}

    def check(self) -> None:
        """Nothing to look for: they are text."""

    def pieces(self, position: Position | None) -> Iterator[Item]:
        """All documents from a position on."""
        first, given = entered(position, 0)
        for index in range(first, len(self.documents)):
            document = self.documents[index]
            yield from pieces_of(document.name, document.text, index, index + 1, given)
            given = 0

    def sample(self, limit_bytes: int) -> Iterator[Item]:
        """All of them: they fit in memory already."""
        yield from self.pieces(None)

    def pinned(self) -> Any:
        """Nothing: `identity` says all."""
        return None

    def pin(self, found: Any) -> None:
        """Nothing to hold to."""


def source_name(source: str | Path) -> str:
    """A source as its name or path in words; a ValueError for what can be neither."""
    if not isinstance(source, str | Path):
        raise ValueError(
            f"source: got {shown(source)}, allowed are {', '.join(map(repr, NAMED))}, hf:NAME or "
            "the path of a file or folder"
        )
    return str(source)


def find_source(
    given: str | Path,
    text_field: str = DEFAULT_FIELD,
    split: str = "train",
    revision: str | None = None,
    max_retries: int = 10,
    notice: Callable[[str], None] = print,
) -> Source:
    """The source of that name or path, checked as far as that costs little.

    Args:
        given: `stdlib`, `installed`, `pile`, `hf:NAME[:CONFIG]`, or the path of a text, JSON lines
            or Parquet file or of a folder of them.
        text_field: of JSON lines, Parquet and Hub data sets.
        split: of a Hub data set.
        revision: of a Hub data set; default its newest.
        max_retries: how often a broken connection is tried again.
        notice: told of every such try.

    Raises:
        ValueError: no such source, or it has no such field.
    """
    given = source_name(given)
    check_source(given, hub=True)
    check_text("text_field", text_field)
    check_text("split", split)
    if revision is not None:
        check_text("revision", revision)
        if not given.startswith(HUB_PREFIX):
            raise ValueError(f"revision: got {revision!r}, allowed only with a source hf:NAME")
    if given == "pile" or given.startswith(HUB_PREFIX):
        from resprout.data.hub import hub_source

        return hub_source(given, text_field, split, revision, max_retries, notice)
    from resprout.data import listing

    if given == "stdlib":
        return listing.stdlib_source()
    if given == "installed":
        return listing.installed_source()
    return listing.path_source(given, text_field)


def read_source(source: str) -> list[Document]:
    """All documents of a local source, whole and in memory: what a study reads.

    Args:
        source: `stdlib` (this Python's standard library), `installed` (all packages), or a file or
            folder as `find_source` takes them.

    Raises:
        ValueError: the source does not exist, holds no usable document, or holds something that
            cannot be read: a study should not quietly do without a part of its text.
    """
    check_source(source)
    documents, parts = [], []
    for item in find_source(source).pieces(None):
        if isinstance(item, Piece):
            parts.append(item.text)
            if item.last:
                documents.append(Document(item.name, "".join(parts)))
                parts = []
        elif item.reason == "undecodable" and source != "installed":
            raise ValueError(f"source: {item.where} is not UTF-8")
        elif item.reason in ("corrupt", "no_text"):
            raise ValueError(f"source: {item.where}: {item.reason.replace('_', ' ')}")
    if not documents:
        raise ValueError(
            f"source: {source!r} holds no document of at least {MIN_DOCUMENT_CHARACTERS} characters"
        )
    return documents


def refuse_unreadable(source: str, skipped: Skipped) -> None:
    """What is the user's own must be readable; of large collections nearly all is.

    Raises:
        ValueError: something of the user's own could not be read.
    """
    collection = source in ("installed", "pile") or source.startswith(HUB_PREFIX)
    if not collection and skipped.reason in ("corrupt", "no_text", "undecodable"):
        raise ValueError(f"source: {skipped.where}: {skipped.reason.replace('_', ' ')}")


def check_source(source: str, hub: bool = False) -> None:
    """Refuse a source that is not there, before anything is read.

    Args:
        source: as the user named it.
        hub: whether sources on the Hub are allowed too; a study needs its text to stay the same.
    """
    on_hub = source == "pile" or source.startswith(HUB_PREFIX)
    local = source in ("stdlib", "installed") or os.path.lexists(source)
    if local or (hub and on_hub):
        return
    names = "'stdlib', 'installed', 'pile', hf:NAME" if hub else "'stdlib' or the path, 'installed'"
    known = [*NAMED, *_neighbours(source)] if hub else ["stdlib", "installed", *_neighbours(source)]
    hint = did_you_mean(source, known)
    if hub and not hint and source.count("/") == 1 and not source.startswith((".", "/", "~")):
        hint = f"; did you mean {HUB_PREFIX + source!r}?"
    if hub:
        raise ValueError(
            f"source: got {source!r}, allowed are {names} or the path of a file or folder{hint}"
        )
    raise ValueError(
        f"source: got {source!r}, allowed is 'stdlib' or the path of a text file or folder "
        f"(or 'installed'){hint}"
    )


def _neighbours(source: str) -> list[str]:
    """Paths beside one that is not there, which it may have been meant to be."""
    try:
        folder = Path(source).parent
        return [str(path) for path in folder.iterdir()] if folder.is_dir() else []
    except OSError:  # a name that is too long, a folder that may not be read
        return []


def digest(documents: Sequence[Document]) -> str:
    """sha256 over names and texts, in order: two equal digests are the same data."""
    total = hashlib.sha256()
    for document in documents:
        for part in (document.name, document.text):
            encoded = part.encode("utf-8", "surrogatepass")
            total.update(len(encoded).to_bytes(8, "big"))
            total.update(encoded)
    return total.hexdigest()


def is_held_out(name: str, fraction: float) -> bool:
    """Whether a document belongs to validation: by a hash of its name, so adding others moves none.

    The first 64 bits of sha256(name), read as a number in [0, 1), lie below `fraction`.
    """
    leading = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8]
    return int.from_bytes(leading, "big") / 2**64 < fraction
