"""Files as a source: one, a folder of them, this Python's library, its installed packages."""

import hashlib
import os
import site
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from resprout.data import lines, parquet
from resprout.data.pieces import Item, Position, Skipped, entered, pieces_of
from resprout.data.textfiles import read_text, read_topics
from resprout.files import file_sha256

SKIPPED_FOLDERS = frozenset(
    {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
)
TEXT_SUFFIXES = (".txt", ".md", ".rst", ".py")
SUFFIXES = (*TEXT_SUFFIXES, *lines.SUFFIXES, ".parquet")
HASHED_WHOLE_BYTES = 64 * 2**20
HASHED_ENDS_BYTES = 2**20
LISTED_FILES = 16  # a manifest names each file of a source up to this many
BOM = b"\xef\xbb\xbf"


class ListedFile(NamedTuple):
    """A file of a source."""

    name: str  # relative, POSIX
    path: Path
    sha256: str | None = None  # where it is known already
    duplicate_of: str | None = None


class Files:
    """A source made of files, in a fixed order. The base of a position is `[file, place in it]`."""

    def __init__(self, description: str, files: list[ListedFile], field: str, sampled: bool):
        """Args: `sampled`: whether the beginning is a fair sample of the whole."""
        self.description = description
        self.files = files
        self.field = field
        self.sampled = sampled

    def identity(self) -> dict[str, Any]:
        """Names, sizes and sha256 of all files."""
        total, size = hashlib.sha256(), 0
        listed = []
        for file in self.files:
            file_bytes = file.path.stat().st_size
            entry = [
                _plain(file.name),
                file_bytes,
                file.sha256 or _fingerprint(file.path, file_bytes),
            ]
            total.update(repr(entry).encode())
            size += file_bytes
            listed.append(entry)
        found: dict[str, Any] = {"files": len(listed), "bytes": size, "sha256": total.hexdigest()}
        if len(listed) <= LISTED_FILES:
            found["listed"] = listed
        if self._has_fields():
            found["text_field"] = self.field
        return found

    def pinned(self) -> Any:
        """Nothing: `identity` says all."""
        return None

    def pin(self, found: Any) -> None:
        """Nothing to hold to."""

    def pieces(self, position: Position | None) -> Iterator[Item]:
        """The documents of all files, in order."""
        (first, place), given = entered(position, [0, None])
        for index in range(first, len(self.files)):
            yield from self._read(index, place, given)
            place, given = None, 0

    def sample(self, limit_bytes: int) -> Iterator[Item]:
        """The beginning; of text files in the order of their names, ones drawn from all of them."""
        total = sum(file.path.stat().st_size for file in self.files)
        if self.sampled or total <= limit_bytes or self._has_fields():
            yield from self.pieces(None)
            return
        for index, file in enumerate(self.files):
            drawn = hashlib.sha256(b"sample " + file.name.encode("utf-8", "surrogatepass")).digest()
            if int.from_bytes(drawn[:8], "big") / 2**64 < limit_bytes / total:
                yield from self._read(index, None, 0)

    @property
    def is_one_document(self) -> bool:
        """Whether it can only ever give one: a single text file."""
        return len(self.files) == 1 and not self._has_fields()

    @property
    def document_names(self) -> list[str] | None:
        """Of text files, which are a document each, or too short for one; None of rows."""
        return None if self._has_fields() else [file.name for file in self.files]

    def check(self) -> None:
        """Refuse files without the text's field, naming the fields that are there.

        Raises:
            ValueError: no file with fields has this one, or it never holds a string.
        """
        problems = []
        for file in self.files:
            if not _has_fields(file.path):
                return
            problem = _field_problem(file, self.field)
            if problem is None:
                return
            problems.append(problem)
        if problems:
            raise ValueError(problems[0])

    def _has_fields(self) -> bool:
        return any(_has_fields(file.path) for file in self.files)

    def _read(self, index: int, place: Any, given: int) -> Iterator[Item]:
        file = self.files[index]
        before, after = [index, place], [index + 1, None]
        if file.duplicate_of is not None:
            where = f"{file.name} (the same as {file.duplicate_of})"
            yield Skipped("duplicate", where, [after, 0])
        elif file.path.name.endswith(lines.SUFFIXES):
            yield from lines.read_lines(file.path, file.name, self.field, index, place, given)
        elif file.path.suffix == ".parquet":
            yield from parquet.read_parquet(file.path, file.name, self.field, index, place, given)
        elif self.description == "stdlib" and file.name == "pydoc_data/topics.py":
            yield from pieces_of(file.name, read_topics(file.path), before, after, given)
        else:
            yield from read_text(file.path, file.name, before, after, given)


def path_source(given: str, field: str) -> Files:
    """The source of a file or of a folder, recursively, in the order of the names.

    Raises:
        ValueError: not a kind of file that is read, or a folder without one.
    """
    path = Path(given)
    if path.is_dir():
        files = [
            ListedFile(name, path / name) for name in sorted(_walk(path)) if name.endswith(SUFFIXES)
        ]
        if not files:
            raise ValueError(f"source: the folder {given!r} holds no file of {', '.join(SUFFIXES)}")
    elif path.is_file():
        if path.suffix and not path.name.endswith(SUFFIXES):
            raise ValueError(
                f"source: got {given!r}, allowed are files of {', '.join(SUFFIXES)}, "
                "and folders of them"
            )
        files = [ListedFile(path.name, path)]
    else:
        raise ValueError(f"source: {given!r} is neither a file nor a folder")
    return Files(given, files, field, sampled=False)


def folder_identity(root: Path) -> dict[str, Any]:
    """Names, sizes and sha256 of all files of a folder, whatever their kind."""
    files = [ListedFile(name, root / name) for name in sorted(_walk(root))]
    found = Files(str(root), files, "", sampled=False).identity()
    found.pop("text_field", None)
    return found


def stdlib_source() -> Files:
    """This Python's own library: every source file, tests and installed packages left out."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = []
    for name in sorted(path.relative_to(root).as_posix() for path in root.rglob("*.py")):
        *folders, last = name.split("/")
        # _sysconfigdata is written by the build and holds one machine's paths.
        if not SKIPPED_FOLDERS.intersection(folders) and not last.startswith("_sysconfigdata"):
            files.append(ListedFile(name, root / name))
    return Files("stdlib", files, "text", sampled=False)


def installed_source() -> Files:
    """All installed packages' Python sources and documents, each content once.

    Ordered by a hash of the content: packages differ much in size and kind, and so any beginning
    of the stream (a target, a sample to train a tokenizer on) is a fair sample of the whole.
    """
    paths = sysconfig.get_paths()
    roots = {paths["purelib"], paths["platlib"], *site.getsitepackages()}
    found = []
    for root in sorted({Path(root).resolve() for root in roots}):
        for name in _walk(root):
            folder, _, last = name.rpartition("/")
            about = folder.endswith((".dist-info", ".egg-info"))
            # RECORD, top_level.txt, entry_points.txt and the like are lists for programs.
            if last == "METADATA" if about else last.endswith(TEXT_SUFFIXES):
                found.append((_content_sha256(root / name), name, root / name))
    files: list[ListedFile] = []
    for sha256, name, path in sorted(found):
        again = bool(files) and files[-1].sha256 == sha256
        kept = (files[-1].duplicate_of or files[-1].name) if again else None
        files.append(ListedFile(name, path, sha256, kept))
    return Files("installed", files, "text", sampled=True)


def _walk(root: Path) -> Iterable[str]:
    """Regular files under a folder; hidden ones out, links to folders not followed (loops)."""
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            path = Path(folder) / name
            if not name.startswith(".") and path.is_file():
                yield path.relative_to(root).as_posix()


def _plain(name: str) -> str:
    """A file's name as text: one that is not UTF-8 on disk has its bytes replaced."""
    return name.encode("utf-8", "replace").decode()


def _has_fields(path: Path) -> bool:
    return path.name.endswith((*lines.SUFFIXES, ".parquet"))


def _field_problem(file: ListedFile, field: str) -> str | None:
    """Why no text can come from the field, None where some can (or nothing can be told)."""
    if file.path.suffix == ".parquet":
        try:
            kinds = parquet.columns(file.path)
        except ValueError:
            return None  # damaged: counted when it is read
        if field in kinds and parquet.is_text(kinds[field]):
            return None
        got = f"holds {kinds[field]}" if field in kinds else None
        return _no_field(file.name, field, got, kinds)
    rows = [row for row in lines.first_rows(file.path) if isinstance(row, dict)]
    values = [row[field] for row in rows if field in row]
    if not rows or any(isinstance(value, str) for value in values):
        return None
    got = f"holds {type(values[0]).__name__}" if values else None
    return _no_field(file.name, field, got, dict.fromkeys(key for row in rows for key in row))


def _no_field(name: str, field: str, got: str | None, fields: Iterable[str]) -> str:
    there = ", ".join(sorted(fields)) or "none"
    what = f"{got}, allowed is a field of strings" if got else "is not there"
    return f"text_field: {field!r} {what}; the fields of {name} are: {there}"


def _fingerprint(path: Path, size: int) -> str:
    """sha256 of a file; of a large one, of its first and last MiB (its size is told beside)."""
    if size <= HASHED_WHOLE_BYTES:
        return file_sha256(path)
    with path.open("rb") as file:
        ends = hashlib.sha256(file.read(HASHED_ENDS_BYTES))
        file.seek(size - HASHED_ENDS_BYTES)
        ends.update(file.read(HASHED_ENDS_BYTES))
    return ends.hexdigest()


def _content_sha256(path: Path) -> str:
    """sha256 of a text file's content, whatever its line ends and byte order mark."""
    content = path.read_bytes().removeprefix(BOM)
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return hashlib.sha256(content).hexdigest()
