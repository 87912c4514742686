"""The house keeps its direction: rooms depend only leftwards, and files stay small."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "resprout"

# What each room may import; `files` (writing whole files), `seals` (digests in them), `hints` and
# `refusals` (words for users) are everybody's, `record` and its parts (the shape of a run's files)
# that of who writes and who reads them.
ALLOWED = {
    "files": {"write_errors"},
    "write_errors": {"hints"},
    "hints": set(),
    "hub": {"hints"},
    "lazy": set(),
    "refusals": set(),
    "seals": {"files"},
    "record": {"seals", "record_parts"},
    "record_parts": set(),
    "models": {"files", "hints", "hub", "refusals"},
    "data": {"files", "seals", "hints", "hub", "refusals"},
    "pruning": {"files", "hints", "refusals", "models", "data"},
    "train": {"files", "seals", "hints", "refusals", "models", "data", "pruning", "measure"},
    "measure": {"files", "seals", "hints", "lazy", "refusals", "models", "data"},
    "study": {
        "files", "seals", "hints", "hub", "refusals", "record", "record_parts", "models", "data",
        "pruning", "train", "measure",
    },
    "report": {"files", "hints", "refusals", "record", "measure"},
    "registration": {"models"},
}  # fmt: skip


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("room", ALLOWED)
def test_rooms_depend_only_leftwards(room):
    place = SOURCE / room
    files = list(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    assert files
    for file in files:
        for module in imports(file):
            if module.startswith("resprout."):
                other = module.split(".")[1]
                assert other == room or other in ALLOWED[room], f"{file.name} imports {module}"


def test_every_room_is_listed():
    rooms = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert rooms - {"__init__", "__main__", "__pycache__", "cli"} == set(ALLOWED)


def test_files_are_small_enough_to_hold_in_the_head():
    for path in [*SOURCE.rglob("*.py"), *(ROOT / "src" / "biogpt").rglob("*.py")]:
        assert len(path.read_text().splitlines()) <= 300, path
