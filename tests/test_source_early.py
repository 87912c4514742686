"""What a look at a study's text tells: small sources whole, large ones not read for it."""

from pathlib import Path

import pytest

from resprout.data.windows import evaluation_windows
from resprout.models.biogpt import configuration
from resprout.study import early, source_early
from resprout.study.source_early import check_apart, check_text, of_data
from resprout.train.request import TrainRequest

TEXT = "Enough characters to be a document, more than fifty of them. "


@pytest.fixture
def text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "text"
    folder.mkdir()
    for index in range(20):
        (folder / f"{index}.txt").write_text(TEXT * 3)
    return folder


@pytest.mark.parametrize("out", ["text", "text/runs/a", "./text/../text/a", "link/a", "toward"])
def test_a_folder_in_the_text_is_refused(text, out):
    (text.parent / "link").symlink_to("text")
    (text.parent / "toward").symlink_to("text/new")
    for source in ("text", "link", str(text)):
        with pytest.raises(ValueError, match=r"out: '.*' lies in the text of data\.source '"):
            check_apart("out", Path(out), "data.source", source)


def test_a_folder_in_what_lies_there_is_refused(text, monkeypatch):
    monkeypatch.chdir(text)
    with pytest.raises(ValueError, match=r"out: 'runs/small' lies in the text of data\.source"):
        check_apart("out", Path("runs/small"), "data.source", ".")
    check_apart("out", Path("../runs/small"), "data.source", ".")


@pytest.mark.parametrize("out", ["new", "textual", "..", "text/.runs/a", "."])
def test_a_folder_that_is_not_read_is_not(text, out):
    check_apart("out", Path(out), "data.source", "text")
    check_apart("out", Path(out), "data.source", "text/3.txt")
    check_apart("out", Path("text/a"), "data.source", "stdlib")


def test_tokens_that_are_there_already_are_not_read_as_text(tokens):
    check_apart("out", tokens.path / "run", "data.source", str(tokens.path))
    check_text(str(tokens.path), window=16)
    with pytest.raises(ValueError, match=r"window: got 100000, allowed is less than the training"):
        check_text(str(tokens.path), window=100_000)


def test_held_out_text_of_one_window_is_refused(tokens):
    """There would be no interval: of one window nothing can be drawn but itself."""
    held_out = len(tokens.val.tokens)
    assert held_out < len(tokens.train.tokens)
    for window in range(held_out - 3, held_out + 2):
        if len(evaluation_windows(held_out, window)) > 1:
            check_text(str(tokens.path), window=window)
        else:
            with pytest.raises(ValueError, match=f"window: got {window}, .* held-out split's "):
                check_text(str(tokens.path), window=window)


def test_what_large_sources_hold_is_not_read(text, monkeypatch):
    """Only their names are looked at, and what small files are among them."""
    monkeypatch.setattr(source_early, "LOOKED_AT_BYTES", 1000)
    (text / "large.txt").write_bytes(b"caf\xe9 " * 1000)
    check_text("text", 0.5)
    for share, split in ((1e-9, "val"), (1 - 1e-9, "train")):
        with pytest.raises(ValueError, match=f"held_out: .* of 21 documents leaves the {split} "):
            check_text("text", share)
    (text / "0.txt").write_bytes(b"caf\xe9 ")
    with pytest.raises(ValueError, match=r"source: 0\.txt \(byte 3.*allowed is UTF-8"):
        check_text("text", 0.5)


def test_of_many_files_the_first_are_looked_at(text, monkeypatch):
    monkeypatch.setattr(source_early, "LOOKED_AT_FILES", 5)
    (text / "9.txt").write_bytes(b"caf\xe9 " * 100)
    check_text("text", 0.5)


def test_what_unpacks_to_much_is_not_read_to_its_end(text, monkeypatch):
    import gzip

    monkeypatch.setattr(source_early, "_UNPACKED_BYTES", 1000)
    lines = [f'{{"text": "{TEXT}"}}\n'] * 100 + ["broken\n"]
    (text / "rows.jsonl.gz").write_bytes(gzip.compress("".join(lines).encode()))
    check_text("text/rows.jsonl.gz", 0.5)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"source: rows\.jsonl\.gz:101"):
        check_text(str(text / "rows.jsonl.gz"), 0.5)


def test_rows_are_held_out_by_their_own_names(text):
    (text / "rows.jsonl").write_text(f'{{"text": "{TEXT}"}}\n' * 30)
    check_text("text/rows.jsonl", 0.5)
    with pytest.raises(ValueError, match="held_out: got 1e-09, which of 30 documents"):
        check_text("text/rows.jsonl", 1e-9)


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ("source: 'x' is none", "data.source: 'x' is none"),
        ("tokens: 'x' is none", "data.source: 'x' is none"),
        ("held_out: got 1", "data.held_out: got 1"),
        ("text_field: 'text' is not there", "data.source: text_field: 'text' is not there"),
        ("x/manifest.json: broken", "data.source: x/manifest.json: broken"),
    ],
)
def test_errors_name_the_field_of_a_study(said, named):
    assert str(of_data(ValueError(said))) == named


def test_a_file_that_may_not_be_read_is_named():
    error = PermissionError(13, "Permission denied", "text/a.txt")
    said = "data.source: 'text/a.txt' cannot be read (Permission denied)"
    assert str(of_data(error)) == said


def test_limits_that_stand_twice_are_the_same():
    """The light copies, beside the configuration that imports transformers."""
    assert early.MOST_LAYERS == configuration.MOST_LAYERS
    bounds = TrainRequest.model_fields["soma_ffn_expansion"].metadata
    most = next(high for name, _, high in configuration._RANGES if name == "soma_expansion")
    assert [bound.lt for bound in bounds if hasattr(bound, "lt")] == [most]
