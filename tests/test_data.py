"""Data: sources in a fixed order, tokens that give the text back, windows that miss nothing."""

import json
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resprout.data import sources, windows
from resprout.data import tokenizer as bpe
from resprout.data.prepare import prepare_documents
from resprout.data.sources import Document, is_held_out, read_source
from resprout.data.tokens import TokenSet


def test_stdlib_is_this_pythons_library():
    documents = read_source("stdlib")
    names = [document.name for document in documents]
    assert names == sorted(names)
    assert {"json/decoder.py", "argparse.py", "pydoc_data/topics.py"} <= set(names)
    skipped = ("test/", "tests/", "idle_test/", "site-packages/", "dist-packages/")
    assert not [name for name in names if any(f"/{part}" in f"/{name}" for part in skipped)]
    assert 8e6 < sum(len(document.text.encode()) for document in documents) < 20e6
    root = Path(sysconfig.get_paths()["stdlib"])
    by_name = {document.name: document.text for document in documents}
    assert by_name["json/decoder.py"] == (root / "json/decoder.py").read_text()
    assert "topics = {" not in by_name["pydoc_data/topics.py"]  # the prose, not its source
    assert sources.digest(documents) == sources.digest(read_source("stdlib"))


def test_folder_source(text_folder):
    (text_folder / "short.txt").write_text("too short")
    (text_folder / "picture.png").write_bytes(b"\x89PNG")
    documents = read_source(str(text_folder))
    assert len(documents) == 50
    assert documents[0].name == "folder/file_0.py"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.txt", b"\xff\xfe" * 60, "not UTF-8"),
        ("short.txt", b"short", "no document of at least 50"),
        (None, None, "allowed is 'stdlib' or the path"),
    ],
)
def test_bad_sources(tmp_path, name, content, message):
    path = tmp_path / (name or "nowhere")
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_source(str(path))


def test_holding_out_depends_on_the_name_alone():
    names = [f"file_{i}" for i in range(4000)]
    held = {name for name in names if is_held_out(name, 0.1)}
    assert 320 < len(held) < 480  # 400 expected, 4 standard deviations
    assert held <= {name for name in names if is_held_out(name, 0.2)}


def test_digest_tells_names_from_texts():
    assert sources.digest([Document("ab", "c")]) != sources.digest([Document("a", "bc")])


def test_tokens_give_the_text_back(tokens, documents):
    words = tokens.tokenizer()
    end = tokens.manifest["end_of_text"]
    for split, wanted in ((tokens.train, False), (tokens.val, True)):
        chosen = [doc for doc in documents if is_held_out(doc.name, 0.2) == wanted]
        pieces = np.split(split.tokens, np.flatnonzero(split.tokens == end) + 1)[:-1]
        texts = [words.decode(piece[:-1].tolist()) for piece in pieces]
        assert texts == [doc.text for doc in chosen]
        assert split.text_bytes == sum(len(doc.text.encode()) for doc in chosen)
        assert split.documents == len(chosen)


def test_tokens_are_raw_uint16_on_disk(tokens):
    raw = np.fromfile(tokens.path / "train.bin", dtype="<u2")
    assert np.array_equal(raw, tokens.train.tokens)
    assert tokens.manifest["vocab_size"] == 300


def test_tokenizer_has_seen_the_training_part_only(tmp_path, documents):
    held = next(doc for doc in documents if is_held_out(doc.name, 0.2))
    changed = [
        Document(doc.name, "zebra quagga okapi " * 40) if doc is held else doc for doc in documents
    ]
    a = prepare_documents(documents, tmp_path / "a", 0.2, vocab_size=300)
    b = prepare_documents(changed, tmp_path / "b", 0.2, vocab_size=300)
    assert a.tokenizer_digest == b.tokenizer_digest
    assert a.digest != b.digest


def test_prepared_with_a_given_tokenizer(tmp_path, documents, tokens):
    given_words = tokens.tokenizer()
    again = prepare_documents(
        documents, tmp_path / "again", 0.2, tokenizer=given_words, end_of_text=0
    )
    assert again.digest == tokens.digest


@pytest.mark.parametrize(("held_out", "empty"), [(1e-9, "val"), (1 - 1e-9, "train")])
def test_an_empty_split_is_refused(tmp_path, documents, held_out, empty):
    with pytest.raises(ValueError, match=f"leaves the {empty} split empty"):
        prepare_documents(documents, tmp_path / "x", held_out, vocab_size=300)
    assert not (tmp_path / "x").exists()


def test_a_vocabulary_below_all_bytes_is_refused(tmp_path, documents):
    with pytest.raises(ValueError, match="vocab_size: got 200"):
        prepare_documents(documents, tmp_path / "x", 0.2, vocab_size=200)


def test_truncated_tokens_are_refused(tmp_path, documents):
    prepare_documents(documents, tmp_path / "t", 0.2, vocab_size=300)
    file = tmp_path / "t" / "val.bin"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(ValueError, match=r"val.bin.*not of the size recorded"):
        TokenSet.open(tmp_path / "t")
    with pytest.raises(ValueError, match="not prepared data"):
        TokenSet.open(tmp_path)


def test_manifest_is_plain_json(tokens):
    manifest = json.loads((tokens.path / "manifest.json").read_text())
    assert set(manifest["splits"]) == {"train", "val"}
    assert bpe.load(tokens.path / "tokenizer.json").get_vocab_size() == 300


@given(tokens=st.integers(2, 500), length=st.integers(1, 64))
def test_evaluation_windows_predict_each_token_once(tokens, length):
    predicted = []
    for start, count in windows.evaluation_windows(tokens, length):
        assert 1 <= count <= length
        predicted += range(start + 1, start + count + 1)
    assert predicted == list(range(1, tokens))


@given(tokens=st.integers(3, 300), length=st.integers(1, 20), count=st.integers(0, 100),
       seed=st.integers(0, 9))  # fmt: skip
def test_training_sees_each_window_once_per_epoch(tokens, length, count, seed):
    whole = (tokens - 1) // length
    if not whole:
        with pytest.raises(ValueError, match="only"):
            windows.training_starts(tokens, length, count, seed)
        return
    starts = windows.training_starts(tokens, length, count, seed)
    assert len(starts) == count
    assert (starts + length < tokens).all()
    for epoch in range(0, count - whole + 1, whole):
        assert sorted(starts[epoch : epoch + whole]) == list(range(0, whole * length, length))
    more = windows.training_starts(tokens, length, count + 5, seed)
    assert np.array_equal(more[:count], starts)  # longer training begins alike


@given(sizes=st.integers(2, 60), length=st.integers(1, 9), stride=st.integers(1, 9))
def test_strided_windows_count_each_token_once_with_the_context_promised(sizes, length, stride):
    if stride > length:
        with pytest.raises(ValueError, match="stride"):
            windows.strided_windows(sizes, length, stride)
        return
    got = windows.strided_windows(sizes, length, stride)
    counted = [start + n - i for start, n, c in got for i in range(c, 0, -1)]
    assert counted == list(range(sizes - 1))
    for number, (start, n, c) in enumerate(got):
        assert 0 < c <= n <= length and start + n < sizes
        assert number == 0 or n - c >= length - stride or start + n == sizes - 1
        assert start == number * stride


def test_strided_windows_are_those_of_the_guide():
    """The loop of transformers' perplexity guide, on 20 tokens."""
    tokens, length, stride = 20, 8, 3
    expected, reached = [], 0
    for begin in range(0, tokens, stride):
        end = min(begin + length, tokens - 1)  # inputs; the guide's own labels are shifted inside
        expected.append((begin, end - begin, end - reached))
        reached = end
        if end == tokens - 1:
            break
    assert windows.strided_windows(tokens, length, stride) == expected


@given(sizes=st.integers(2, 60), length=st.integers(1, 9))
def test_document_windows_are_lm_evals(sizes, length):
    lm_eval = pytest.importorskip("lm_eval.utils")
    tokens = list(range(100, 100 + sizes - 1))
    theirs = [
        lm_eval.make_disjoint_window(pair)
        for pair in lm_eval.get_rolling_token_windows(tokens, 7, length, 1)
    ]
    stream = [7, *tokens]
    ours = windows.document_windows(sizes, length)
    got = [(stream[s : s + n - c + 1], stream[s + n - c + 1 : s + n + 1]) for s, n, c in ours]
    assert got == theirs


def test_unigram_entropy_is_that_of_the_frequencies():
    train = np.array([0] * 3 + [1] * 1, dtype=np.uint16)
    p = np.array([4, 2, 1]) / 7  # add-one smoothed counts of three tokens
    expected = -(np.log(p[0]) + np.log(p[2])) / 2
    got = windows.unigram_entropy(train, np.array([0, 2], dtype=np.uint16), 3)
    assert got == pytest.approx(expected)
