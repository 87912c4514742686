"""Sources: every format gives its documents, counts what it leaves out, can be entered anywhere."""

import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from resprout.data import hub, listing, pieces, textfiles
from resprout.data.outage import ConnectionLostError, kind_of
from resprout.data.pieces import Piece, Skipped, pieces_of
from resprout.data.sources import find_source, read_source

TEXTS = [f"document {i}: " + f"word{i} and some more text. " * (2 + i % 5) for i in range(40)]


def rows(texts, field="text"):
    return "".join(json.dumps({field: text, "number": i}) + "\n" for i, text in enumerate(texts))


def write(folder: Path, kind: str, texts=TEXTS) -> Path:
    path = folder / f"data.{kind}"
    data = rows(texts).encode()
    if kind == "jsonl":
        path.write_bytes(data)
    elif kind == "jsonl.gz":
        path.write_bytes(gzip.compress(data[:500]) + gzip.compress(data[500:]) + b"\0" * 64)
    elif kind == "jsonl.zst":
        pack = zstandard.ZstdCompressor().compress
        path.write_bytes(pack(data[:500]) + pack(data[500:]))
    elif kind == "parquet":
        table = pa.table({"number": range(len(texts)), "text": texts})
        pq.write_table(table, path, row_group_size=7)
    return path


def documents(items):
    found, parts = [], []
    for item in items:
        if isinstance(item, Piece):
            parts.append(item.text)
            if item.last:
                found.append((item.name, "".join(parts)))
                parts = []
    assert not parts
    return found


def skipped(items):
    return [(item.reason, item.where) for item in items if isinstance(item, Skipped)]


KINDS = ["jsonl", "jsonl.gz", "jsonl.zst", "parquet"]


@pytest.mark.parametrize("kind", KINDS)
def test_each_format_gives_its_documents(tmp_path, kind):
    source = find_source(str(write(tmp_path, kind)))
    expected = [(f"data.{kind}:{i}", text) for i, text in enumerate(TEXTS, 1)]
    assert documents(source.pieces(None)) == expected


@pytest.mark.parametrize("kind", [*KINDS, "folder", "txt"])
def test_reading_goes_on_from_any_position(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_CHARACTERS", 60)
    monkeypatch.setattr(textfiles, "PIECE_CHARACTERS", 60)
    monkeypatch.setattr(textfiles, "READ_WHOLE_BYTES", 300)
    monkeypatch.setattr(textfiles, "BLOCK_BYTES", 64)
    if kind == "folder":
        for i, text in enumerate(TEXTS):
            (tmp_path / f"{i:02}.txt").write_text(text * (1 + i % 7))
        path = tmp_path
    elif kind == "txt":
        path = tmp_path / "long.txt"
        path.write_text("\r\n".join(TEXTS), newline="")
    else:
        path = write(tmp_path, kind)
    source = find_source(str(path))
    whole = list(source.pieces(None))
    assert len(whole) > 40
    for i in random.Random(0).sample(range(len(whole)), 15):
        position = json.loads(json.dumps(whole[i].position))
        assert list(source.pieces(position)) == whole[i + 1 :]
    if kind == "txt":
        assert documents(whole) == [("long.txt", "\n".join(TEXTS))]


def test_what_cannot_be_used_is_left_out_and_named(tmp_path):
    path = tmp_path / "data.jsonl"
    good = json.dumps({"text": TEXTS[0]}).encode()
    lines = [
        b"\xef\xbb\xbf" + good,  # a byte order mark is no damage
        b'{"text": "cut off in the mid',
        b"",
        b'{"text": "' + b"\xff" * 60 + b'"}',
        b'{"text": "short"}',
        b'{"body": "no text"}',
        b'{"text": 17}',
        b'["text"]',
        b'{"text": "\\ud800' + b"x" * 60 + b'"}',
        b"[" * 100_000,
        good,
    ]
    path.write_bytes(b"\n".join(lines))
    items = list(find_source(str(path)).pieces(None))
    assert documents(items) == [("data.jsonl:1", TEXTS[0]), ("data.jsonl:11", TEXTS[0])]
    reasons = [reason for reason, _ in skipped(items)]
    assert reasons == ["corrupt", "undecodable", "short", "no_text", "no_text", "no_text",
                       "undecodable", "corrupt"]  # fmt: skip
    assert skipped(items)[0][1].startswith("data.jsonl:2 (")
    with pytest.raises(ValueError, match=r"data.jsonl:2 .*corrupt"):
        read_source(str(path))  # a study does not quietly do without


@pytest.mark.parametrize("kind", ["jsonl.gz", "jsonl.zst", "parquet"])
def test_a_truncated_file_gives_what_can_be_read_and_says_so(tmp_path, kind):
    texts = [random.Random(i).randbytes(100).hex() for i in range(200)]
    path = write(tmp_path, kind, texts)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    items = list(find_source(str(path)).pieces(None))
    expected = [(f"data.{kind}:{i}", text) for i, text in enumerate(texts, 1)]
    found = documents(items)
    assert found == expected[: len(found)]
    assert len(found) < 200
    assert [reason for reason, _ in skipped(items)] == ["corrupt"]
    assert f"data.{kind}" in skipped(items)[0][1]
    assert list(find_source(str(path)).pieces(items[-1].position)) == []  # counted once


def test_damage_within_a_parquet_file_costs_one_row_group(tmp_path):
    texts = [random.Random(i).randbytes(100).hex() for i in range(30)]
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"text": texts}), path, row_group_size=10, compression="zstd")
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + column.total_compressed_size] = b"\0" * column.total_compressed_size
    path.write_bytes(data)
    items = list(find_source(str(path)).pieces(None))
    assert [text for _, text in documents(items)] == texts[:10] + texts[20:]
    assert [reason for reason, _ in skipped(items)] == ["corrupt"]
    assert "row 11 to 20" in skipped(items)[0][1]


def test_an_undecodable_file_is_left_out_whole(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_bytes(TEXTS[0].encode() * 9 + b"\xff" + TEXTS[0].encode())
    (tmp_path / "b.py").write_bytes(b"# -*- coding: latin-1 -*-\n# " + b"\xe9" * 60)
    (tmp_path / "c.py").write_bytes(b"# -*- coding: klingon -*-\n" + b"x" * 60)
    (tmp_path / "d.md").write_bytes(b"\xef\xbb\xbf" + TEXTS[1].encode())
    for whole_bytes in (10**6, 16):  # read at once, and streamed
        monkeypatch.setattr(textfiles, "READ_WHOLE_BYTES", whole_bytes)
        items = list(find_source(str(tmp_path)).pieces(None))
        assert [name for name, _ in documents(items)] == ["b.py", "d.md"]
        assert documents(items)[0][1].count("é") == 60
        assert documents(items)[1][1] == TEXTS[1]
        wrong = len(TEXTS[0].encode()) * 9
        assert skipped(items)[0] == ("undecodable", f"a.txt (byte {wrong}: invalid start byte)")
        assert skipped(items)[1][0] == "undecodable"


def test_a_folder_is_walked_without_harm(tmp_path):
    (tmp_path / "sub" / ".git").mkdir(parents=True)
    write(tmp_path / "sub", "jsonl.gz")
    for name in ("b.txt", ".hidden.txt", "sub/.git/a.txt", "picture.png"):
        (tmp_path / name).write_text(TEXTS[0])
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    (tmp_path / "nowhere.txt").symlink_to(tmp_path / "nowhere.txt")
    source = find_source(str(tmp_path))
    assert [file.name for file in source.files] == ["b.txt", "sub/data.jsonl.gz"]
    source.check()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("pil", "did you mean 'pile'"),
        ("instaled", "did you mean 'installed'"),
        ("owner/set", "did you mean 'hf:owner/set'"),
        ("HERE/data.jsnl", "did you mean 'HERE/data.jsonl'"),
        ("HERE/empty", "holds no file of"),
        ("HERE/x.docx", "allowed are files of"),
        ("hf:", "allowed is hf:NAME"),
        ("hf:HERE/nowhere", "allowed is hf:NAME"),
        ("x" * 5000, "source: got"),
    ],
)
def test_sources_that_are_not_there(tmp_path, given, message):
    write(tmp_path, "jsonl")
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.docx").write_text("x")
    with pytest.raises(ValueError) as caught:
        find_source(given.replace("HERE", str(tmp_path)))
    assert message.replace("HERE", str(tmp_path)) in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_field_names_those_that_are_there(tmp_path, kind):
    path = str(write(tmp_path, kind))
    with pytest.raises(ValueError, match=r"'body' is not there; .* are: number, text"):
        find_source(path, text_field="body").check()
    with pytest.raises(ValueError, match=r"'number' holds int.*field of strings"):
        find_source(path, text_field="number").check()


def test_installed_packages_once_each(tmp_path, monkeypatch):
    root = tmp_path / "site"
    files = {
        "a/one.py": "x = 1  # one\n" * 10,
        "b/same.py": ("x = 1  # one\n" * 10).replace("\n", "\r\n"),
        "b/readme.md": TEXTS[0] * 3,
        "a-1.dist-info/METADATA": TEXTS[1] * 3,
        "a-1.dist-info/RECORD": TEXTS[2] * 3,
        "a-1.dist-info/top_level.txt": TEXTS[3] * 3,
        "a-1.dist-info/licenses/LICENSE.txt": TEXTS[4] * 3,
        "a/data.json": TEXTS[5],
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode())
    monkeypatch.setattr(listing.sysconfig, "get_paths", lambda: {"purelib": root, "platlib": root})
    monkeypatch.setattr(listing.site, "getsitepackages", lambda: [str(root)])
    source = find_source("installed")
    items = list(source.pieces(None))
    assert sorted(name for name, _ in documents(items)) == [
        "a-1.dist-info/METADATA", "a-1.dist-info/licenses/LICENSE.txt", "a/one.py", "b/readme.md",
    ]  # fmt: skip
    assert skipped(items) == [("duplicate", "b/same.py (the same as a/one.py)")]
    hashes = [file.sha256 for file in source.files]
    assert hashes == sorted(hashes)


def test_long_texts_are_cut_between_words(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_CHARACTERS", 100)
    monkeypatch.setattr(pieces, "LONGEST_PIECE_CHARACTERS", 400)
    text = "plain words, (a_b) = 'c' \n\n  indented  more\nline end " * 40
    cut = list(pieces_of("x", text, 0, 1))
    assert "".join(piece.text for piece in cut) == text
    assert [piece.last for piece in cut] == [False] * (len(cut) - 1) + [True]
    for piece in cut[1:]:
        assert piece.text[0] in " \n" and piece.text[1].isalnum()
    dense = "é" * 1000  # no place to cut: memory stays flat all the same
    assert [len(piece.text) for piece in pieces_of("x", dense, 0, 1)] == [400, 400, 200]
    assert sum(piece.text_bytes for piece in pieces_of("x", dense, 0, 1)) == 2000


# --- the Hub, by streams that fail -------------------------------------------------------------


class Flaky:
    """A data set of `count` rows that breaks at given rows, each so many times."""

    def __init__(self, breaks: dict[int, int], count=20, error=ConnectionError):
        self.breaks, self.count, self.error, self.opened = dict(breaks), count, error, 0

    def open(self, *given):
        self.opened += 1
        return _Opened(self)


class _Opened:
    def __init__(self, flaky):
        self.flaky, self.row, self.features = flaky, 0, {"text": "string"}

    def state_dict(self):
        return {"row": self.row}

    def load_state_dict(self, state):
        self.row = state["row"]

    def __iter__(self):
        while self.row < self.flaky.count:
            if self.flaky.breaks.get(self.row, 0) > 0:
                self.flaky.breaks[self.row] -= 1
                raise self.flaky.error("boom")
            self.row += 1
            yield {"text": TEXTS[self.row]}


@pytest.fixture
def fake_hub(monkeypatch):
    """name -> Flaky; returns a function that makes the source and what it said and slept."""
    monkeypatch.setattr(hub, "_ask", lambda name, revision: (f"sha of {name}", None))

    def make(sets, given="pile", retries=3):
        monkeypatch.setattr(hub, "open_stream", lambda chosen, *rest: sets[chosen.name].open())
        said, slept = [], []
        source = hub.hub_source(given, "text", "train", None, retries, said.append)
        source.sleep = slept.append
        return source, said, slept

    return make


def test_an_outage_is_waited_for_and_nothing_lost(fake_hub):
    source, said, slept = fake_hub({"o/s": Flaky({0: 2, 7: 3})}, "hf:o/s")
    found = documents(source.pieces(None))
    assert found == [(f"o/s:{i}", TEXTS[i]) for i in range(1, 21)]
    assert slept == [1, 2, 1, 2, 4]  # the count starts anew after progress
    assert len(said) == 5 and "boom; try 1 again in 1 s" in said[0]
    assert source.pinned() == {"name": "o/s", "config": None, "revision": "sha of o/s"}


def test_waits_grow_up_to_half_a_minute(fake_hub):
    source, _, slept = fake_hub({"o/s": Flaky({0: 7})}, "hf:o/s", retries=10)
    assert len(documents(source.pieces(None))) == 20
    assert slept == [1, 2, 4, 8, 16, 30, 30]


def test_the_pile_goes_on_to_its_next_source_only_before_anything_came(fake_hub):
    first, second, third = hub.PILE
    sets = {first: Flaky({0: 99}), second: Flaky({5: 99}), third: Flaky({})}
    source, said, _ = fake_hub(sets)
    got = []
    with pytest.raises(ConnectionLostError, match="boom, 4 times in a row"):
        got.extend(source.pieces(None))
    assert documents(got) == [(f"{second}:{i}", TEXTS[i]) for i in range(1, 6)]
    assert (sets[first].opened, sets[third].opened) == (4, 0)
    assert f"{first}: boom; going on to {second}" in said
    sets[second].breaks.clear()
    again, _, _ = fake_hub(sets)  # a new run, hours later
    again.pin(source.pinned())
    rest = documents(again.pieces(json.loads(json.dumps(got[-1].position))))
    assert rest == [(f"{second}:{i}", TEXTS[i]) for i in range(6, 21)]


def test_a_refusal_is_told_at_once(fake_hub):
    class GatedRepoError(Exception):
        pass

    source, _, slept = fake_hub({"o/s": Flaky({0: 9}, error=GatedRepoError)}, "hf:o/s")
    with pytest.raises(ValueError, match="o/s cannot be had"):
        source.check()
    assert slept == []
    assert kind_of(GatedRepoError()) == "refused"
    assert kind_of(TimeoutError()) == "connection"
    assert kind_of(ValueError("Bad split")) == "refused"


def test_a_stream_without_a_state_is_read_past(fake_hub, monkeypatch):
    source, _, _ = fake_hub({}, "hf:o/s")
    monkeypatch.setattr(hub, "open_stream", lambda *given: [{"text": text} for text in TEXTS])
    whole = list(source.pieces(None))
    assert documents(whole) == [(f"o/s:{i}", text) for i, text in enumerate(TEXTS, 1)]
    assert list(source.pieces(whole[10].position)) == whole[11:]


def test_a_missing_field_of_a_data_set(fake_hub):
    source, _, _ = fake_hub({"o/s": Flaky({})}, "hf:o/s")
    source.field = "body"
    with pytest.raises(ValueError, match=r"'body' is not there; the fields of o/s are: text"):
        source.check()


def test_a_local_data_set_through_the_library(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    write(folder, "jsonl")
    source = find_source(f"hf:{folder}")
    whole = list(source.pieces(None))
    assert documents(whole) == [(f"set:{i}", text) for i, text in enumerate(TEXTS, 1)]
    for i in (0, 17, 39):
        position = json.loads(json.dumps(whole[i].position))
        assert documents(source.pieces(position)) == documents(whole[i + 1 :])
    with pytest.raises(ValueError, match=r"'body' is not there; .* number, text"):
        find_source(f"hf:{folder}", text_field="body").check()
    with pytest.raises(ValueError, match="cannot be had"):
        find_source(f"hf:{folder}", split="nowhere").check()
