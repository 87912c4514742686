"""What a source gives: documents, long ones in pieces, and word of what was left out.

A position says where reading goes on: `[base, given]`, base being the source's own place before a
document and `given` how many pieces of that document are behind. It is plain JSON, so that it can
be written down and a killed run can go on from it.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Protocol

MIN_DOCUMENT_CHARACTERS = 50  # as published: shorter documents are skipped
PIECE_CHARACTERS = 128 * 1024
# A text with no place to cut (no spaces) is cut anywhere here: memory has to stay flat.
LONGEST_PIECE_CHARACTERS = 16 * PIECE_CHARACTERS

Position = list[Any]
Reason = Literal["short", "corrupt", "no_text", "undecodable", "duplicate"]


class Piece(NamedTuple):
    """A document, or a piece of a long one; the pieces of a document follow one another."""

    name: str  # of the document: by it documents are held out
    text: str
    text_bytes: int  # in UTF-8
    position: Position  # after this piece
    last: bool = True


class Skipped(NamedTuple):
    """Something that was left out, and why."""

    reason: Reason
    where: str
    position: Position


Item = Piece | Skipped


class DamagedError(Exception):
    """A file's data cannot be read on: it ends too soon, or does not decompress."""


class Source(Protocol):
    """A stream of documents in a fixed order that can be entered again at any position."""

    description: str  # what the user called it

    def identity(self) -> dict[str, Any]:
        """What names its text; two equal identities give the same documents."""

    def check(self) -> None:
        """Refuse, with a ValueError, what can give no text, as far as a first look tells."""

    def pieces(self, position: Position | None) -> Iterator[Item]:
        """All that follows `position`; None is the beginning."""

    def sample(self, limit_bytes: int) -> Iterator[Item]:
        """Documents of about `limit_bytes` in all that stand for the whole, to train on."""

    def pinned(self) -> Any:
        """What was found on opening and must stay (a data set's commit), as JSON; else None."""

    def pin(self, found: Any) -> None:
        """Hold to what `pinned` gave in an earlier run."""


def entered(position: Position | None, beginning: Any) -> tuple[Any, int]:
    """(base, pieces given of the document there) of a position; None is the beginning."""
    base, given = position or (beginning, 0)
    return base, given


def pieces_of(
    name: str, text: str, before: Any, after: Any, given: int = 0
) -> Iterator[Piece | Skipped]:
    """A document as the pieces that it is encoded in, or word of why it is left out.

    Args:
        name: of the document.
        text: of the document.
        before: the source's base before it.
        after: the source's base after it.
        given: how many of its pieces to leave out, since an earlier run had them.
    """
    if len(text) < MIN_DOCUMENT_CHARACTERS:
        yield Skipped("short", name, [after, 0])
        return
    size = utf8_bytes(text)
    if size is None:
        yield Skipped("undecodable", f"{name} (half a surrogate pair)", [after, 0])
        return
    if len(text) <= PIECE_CHARACTERS:
        yield Piece(name, text, size, [after, 0])
        return
    start = number = 0
    while start < len(text):
        end = cut_at(text, start, whole=True)
        assert end is not None
        number += 1
        if number > given:
            last = end == len(text)
            piece = text[start:end]
            position = [after, 0] if last else [before, number]
            yield Piece(name, piece, utf8_bytes(piece) or 0, position, last)
        start = end


def cut_at(text: str, start: int, whole: bool) -> int | None:
    """Where the piece that begins at `start` ends; None where only more text can tell.

    A cut stands before a single space or newline between two word characters. There every
    pre-tokenizer in use begins a new word, so that the pieces give the tokens of the whole.

    Args:
        text: the text, or what is there of it.
        start: where the piece begins.
        whole: whether nothing follows `text`.
    """
    limit = start + PIECE_CHARACTERS
    if len(text) <= limit + 1 and not whole:
        return None
    if len(text) <= limit:
        return len(text)
    for mark in (" ", "\n"):
        end = limit + 1
        while (end := text.rfind(mark, start + 1, end)) > 0:
            if _between_words(text, end):
                return end
    for end in range(limit, min(len(text) - 1, start + LONGEST_PIECE_CHARACTERS)):
        if text[end] in " \n" and _between_words(text, end):
            return end
    if len(text) > start + LONGEST_PIECE_CHARACTERS:
        return start + LONGEST_PIECE_CHARACTERS
    return len(text) if whole else None


def _between_words(text: str, at: int) -> bool:
    return at + 1 < len(text) and text[at - 1].isalnum() and text[at + 1].isalnum()


def utf8_bytes(text: str) -> int | None:
    """How many bytes the text takes in UTF-8; None where it holds half a surrogate pair."""
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None


def describe_skipped(skipped: dict[str, dict[str, Any]]) -> str:
    """`3 corrupt (first: a.jsonl:7), ...`, empty where nothing was left out."""
    return ", ".join(
        f"{entry['count']:,} {reason.replace('_', ' ')} (first: {entry['first']})"
        for reason, entry in sorted(skipped.items())
    )
