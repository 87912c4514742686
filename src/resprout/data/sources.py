"""Where text comes from: a source is a fixed-order list of documents, each with a stable name."""

import ast
import hashlib
import os
import sysconfig
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SKIPPED_FOLDERS = frozenset(
    {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
)
TEXT_SUFFIXES = frozenset({".txt", ".md", ".rst", ".py"})
MIN_DOCUMENT_CHARACTERS = 50  # as published: shorter documents are skipped


@dataclass(frozen=True)
class Document:
    """One text and the name by which it is ordered and held out (a relative POSIX path)."""

    name: str
    text: str


def read_source(source: str) -> list[Document]:
    """All documents of a source.

    Args:
        source: `stdlib` (this Python's standard library), or the path of a UTF-8 text file or
            of a folder of them (`.txt`, `.md`, `.rst`, `.py`).

    Raises:
        ValueError: the source does not exist, cannot be decoded, or holds no usable document.
    """
    check_source(source)
    if source == "stdlib":
        documents = list(_stdlib_documents(Path(sysconfig.get_paths()["stdlib"])))
    else:
        documents = list(_folder_documents(Path(source)))
    documents = [doc for doc in documents if len(doc.text) >= MIN_DOCUMENT_CHARACTERS]
    if not documents:
        raise ValueError(
            f"source: {source!r} holds no document of at least {MIN_DOCUMENT_CHARACTERS} characters"
        )
    return documents


def check_source(source: str) -> None:
    """Refuse a source that is not there, before anything is read."""
    if source != "stdlib" and not os.path.lexists(source):
        raise ValueError(
            f"source: got {source!r}, allowed is 'stdlib' or the path of a text file or folder"
        )


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


def _stdlib_documents(root: Path) -> Iterator[Document]:
    """Python's own library: every source file, tests and installed packages left out."""
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.py"))
    for name in paths:
        parts = name.split("/")
        # _sysconfigdata is written by the build and holds one machine's paths.
        if SKIPPED_FOLDERS.intersection(parts[:-1]) or parts[-1].startswith("_sysconfigdata"):
            continue
        if name == "pydoc_data/topics.py":
            yield Document(name, _topics(root / name))
        else:
            with tokenize.open(root / name) as file:  # honours each file's declared encoding
                yield Document(name, file.read())


def _topics(path: Path) -> str:
    """The prose of `pydoc_data/topics.py`, a module that assigns one dict of help texts."""
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            return "\n\n".join(ast.literal_eval(node.value).values())
    raise ValueError(f"source: {path.name} of this Python has no dict of topics")


def _folder_documents(path: Path) -> Iterator[Document]:
    root = path if path.is_dir() else path.parent
    files = path.rglob("*") if path.is_dir() else iter([path])
    chosen = {
        file.relative_to(root).as_posix(): file
        for file in files
        if file.is_file() and (file == path or file.suffix in TEXT_SUFFIXES)
    }
    for name in sorted(chosen):
        try:
            yield Document(name, chosen[name].read_text("utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError(f"source: {chosen[name]} is not UTF-8 ({error.reason})") from error
