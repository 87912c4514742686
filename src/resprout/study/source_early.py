"""What a look at a study's text tells before torch is imported; nothing large is read for it."""

import os
from collections.abc import Collection
from itertools import islice
from pathlib import Path

from resprout.data.listing import Files
from resprout.data.pieces import MIN_DOCUMENT_CHARACTERS, Piece
from resprout.data.sources import find_source, is_held_out, refuse_unreadable
from resprout.data.tokens import MANIFEST, TokenSet

# Always whole, and it takes a second or more to list them.
COLLECTIONS = ("stdlib", "installed")
LOOKED_AT_FILES = 1000
LOOKED_AT_BYTES = 4 * 2**20
_UNPACKED_BYTES = 8 * LOOKED_AT_BYTES  # of compressed files


def check_apart(option: str, folder: Path, field: str, source: str) -> None:
    """Refuse to write into the text that is read: what is written would be text of the next run.

    Args:
        option: what the user calls the folder.
        folder: to write into.
        field: what the user calls the source.
        source: a folder of text, or any other source, which nothing can lie in.

    Raises:
        ValueError: the folder lies in the source.
    """
    if source in COLLECTIONS or not Path(source).is_dir() or _is_prepared(source):
        return
    inside = Path(os.path.relpath(os.path.realpath(folder), os.path.realpath(source)))
    # Outside of it, the way there begins with `..`; and hidden folders are not read.
    if not any(name.startswith(".") for name in inside.parts):
        raise ValueError(
            f"{option}: {str(folder)!r} lies in the text of {field} {source!r} and would be read "
            "as part of it; allowed is a folder outside of it"
        )


def of_data(error: ValueError | OSError) -> ValueError:
    """What is said of a source, of tokens or of a share, said of the fields of a study."""
    if isinstance(error, OSError):
        return ValueError(f"data.source: {error.filename!r} cannot be read ({error.strerror})")
    named, _, said = str(error).partition(": ")
    if named in ("held_out", "window"):
        return ValueError(f"data.{error}")
    return ValueError(f"data.source: {said if named in ('source', 'tokens') else error}")


def check_text(source: str, held_out: float | None = None, window: int | None = None) -> None:
    """Refuse text that cannot be used: small sources whole, others as far as a look tells.

    Args:
        source: of a study.
        held_out: share of the documents for validation; None where nobody knows yet.
        window: tokens predicted per window.

    Raises:
        ValueError: naming `source`, `held_out` or `window`, and the file.
    """
    if source in COLLECTIONS:
        return
    if _is_prepared(source):
        tokens = TokenSet.open(Path(source), checked=True)  # sizes alone; digests when it is read
        check_tokens(tokens, window)
        return
    found = find_source(source)
    assert isinstance(found, Files)  # a study's source is local
    found.check()
    read, whole = _documents(found)
    if whole and not read:
        raise ValueError(
            f"source: {source!r} holds no document of at least {MIN_DOCUMENT_CHARACTERS} characters"
        )
    names = read if whole else found.document_names
    if held_out is not None and names is not None:
        check_split(names, held_out)


def check_tokens(tokens: TokenSet, window: int | None) -> None:
    """Refuse windows of which the training split has none, or the held-out split only one.

    Of one held-out window there is no interval, and no comparison with one.

    Raises:
        ValueError: naming the window and the split.
    """
    count = len(tokens.train.tokens)
    if window is not None and count <= window:
        raise ValueError(
            f"window: got {window}, allowed is less than the training split's {count} tokens"
        )
    count = len(tokens.val.tokens)
    if window is not None and count <= window + 1:
        raise ValueError(
            f"window: got {window}, which holds all of the held-out split's {count} tokens; "
            "allowed is less, so that there are several windows and an interval"
        )


def check_split(names: Collection[str], held_out: float) -> None:
    """Refuse a share that leaves a split without a document.

    Args:
        names: of the documents, or of all that may come to be one.
        held_out: share of them for validation.

    Raises:
        ValueError: naming the split.
    """
    there = {is_held_out(name, held_out) for name in names}
    for held, split in ((False, "train"), (True, "val")):
        if held not in there:
            raise ValueError(
                f"held_out: got {held_out}, which of {len(names)} documents leaves the {split} "
                "split empty; allowed is a share that gives each split at least one document"
            )


def _documents(found: Files) -> tuple[set[str], bool]:
    """Names of the documents of the first files, which can be read, and whether these are all.

    Raises:
        ValueError: naming a file that cannot be read.
    """
    small, left = [], LOOKED_AT_BYTES
    for file in islice(found.files, LOOKED_AT_FILES):
        size = file.path.stat().st_size
        if size <= left:
            small.append(file)
            left -= size
    names, read = set(), 0
    for item in Files(found.description, small, found.field, found.sampled).pieces(None):
        if not isinstance(item, Piece):
            try:
                refuse_unreadable(found.description, item)
            except ValueError as error:
                raise ValueError(f"{error}; allowed is UTF-8 text, whole") from error
            continue
        names.add(item.name)
        read += item.text_bytes
        if read > _UNPACKED_BYTES:
            return names, False
    return names, len(small) == len(found.files)


def _is_prepared(source: str) -> bool:
    return (Path(source) / MANIFEST).is_file()
