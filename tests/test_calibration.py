"""Calibration windows: true pieces of their text, drawn evenly, refused where they cannot fit."""

import json
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from resprout.data import calibration, encoder
from resprout.data import tokenizer as bpe
from resprout.data.calibration import as_windows, read_calibration
from resprout.data.prepare import prepare_documents


@pytest.fixture
def words(tokens):
    """The subject's tokenizer, as transformers has it."""
    return tokens.transformers_tokenizer()


@pytest.fixture
def stream(tokens, documents):
    """The ids of each document, as the library alone gives them, with the end of text."""
    end = tokens.manifest["end_of_text"]
    return [[*tokens.tokenizer().encode(document.text).ids, end] for document in documents]


def places(ids, stream):
    """Where each window stands in the stream; it must stand somewhere."""
    all_windows = np.lib.stride_tricks.sliding_window_view(np.asarray(stream), ids.shape[1])
    found = []
    for row in ids.numpy():
        starts = np.flatnonzero((all_windows == row).all(axis=1))
        assert len(starts)
        found.append(int(starts[0]))
    return found


def test_windows_of_text_are_pieces_of_the_documents(text_folder, words, stream):
    total = sum(map(len, stream))
    found = read_calibration(str(text_folder), words, samples=total // 16, length=16, seed=3)
    assert found.ids.shape == (total // 16, 16)
    assert found.ids.dtype == torch.int64
    assert found.source == str(text_folder)
    # Nearly all of the text, each token once: no overlap.
    assert Counter(found.ids.flatten().tolist()) <= Counter(i for ids in stream for i in ids)
    # Within a window a document is followed by its end of text and then by any other's beginning.
    end = stream[0][-1]
    texts = ["".join(f",{i}" for i in ids) + "," for ids in stream]
    for row in found.ids.tolist():
        parts = np.split(row, np.flatnonzero(np.array(row) == end) + 1)
        for part in parts:
            key = "".join(f",{i}" for i in part) + ","
            assert len(part) == 0 or any(key in text for text in texts)


def test_the_seed_decides_order_and_places(text_folder, words):
    def digest(seed):
        return read_calibration(text_folder, words, 8, 32, seed).digest

    assert digest(0) == digest(0)
    assert len({digest(seed) for seed in range(5)}) == 5


def test_every_placement_is_equally_likely():
    n, N, T = 7, 2, 2
    allowed = {(a, b) for a, b in combinations(range(n - T + 1), N) if b - a >= T}
    draws = 3000
    counts: Counter = Counter()
    first_later = 0
    for seed in range(draws):
        ids = calibration._windows(np.arange(n), "", N, T, np.random.default_rng(seed))
        assert (ids[:, 1] == ids[:, 0] + 1).all()
        starts = ids[:, 0].tolist()
        first_later += starts[0] > starts[1]
        counts[tuple(sorted(starts))] += 1
    assert set(counts) == allowed
    expected = draws / len(allowed)
    deviation = 5 * (expected * (1 - 1 / len(allowed))) ** 0.5
    assert all(abs(count - expected) < deviation for count in counts.values())
    assert abs(first_later - draws / 2) < 5 * (draws / 4) ** 0.5  # the windows' order too


def test_reading_stops_when_there_is_enough(tmp_path, words, monkeypatch):
    path = tmp_path / "many.jsonl"
    text = "one line of a text of some words "
    path.write_text("".join(json.dumps({"text": f"{text * 3}{i}"}) + "\n" for i in range(3000)))
    monkeypatch.setattr(encoder, "BATCH_BYTES", 2000)
    encoded = []
    encode = encoder.Encoder.encode_batch

    def counted(self, batch):
        ids, counts = encode(self, batch)
        encoded.append(len(ids))
        return ids, counts

    monkeypatch.setattr(encoder.Encoder, "encode_batch", counted)
    read_calibration(path, words, samples=10, length=32)
    needed = 10 * 32
    assert 4 * needed <= sum(encoded) <= 4 * needed + max(encoded)


def test_a_tokenizer_without_an_end_of_text(text_folder, tokens, stream):
    tokenizer = tokens.transformers_tokenizer()
    tokenizer.eos_token = None
    total = sum(len(ids) - 1 for ids in stream)
    found = read_calibration(text_folder, tokenizer, samples=total, length=1)
    bare = Counter(i for ids in stream for i in ids[:-1])
    assert Counter(found.ids.flatten().tolist()) == bare
    texts = ["def function_1(x):\n", "return x * 2\n"]
    joined = [i for text in texts for i in tokens.tokenizer().encode(text).ids]
    assert as_windows(texts, tokenizer, limit=len(joined)).ids[0].tolist() == joined


def test_windows_of_prepared_data_come_from_its_training_split(tokens, words):
    T = 8
    N = len(tokens.train.tokens) // T // 2
    found = read_calibration(tokens.path, words, N, T, seed=1, vocabulary=300)
    starts = places(found.ids, tokens.train.tokens)
    assert len(set(starts)) > N / 2  # text that repeats itself stands in several places
    assert found.source == str(tokens.path)
    assert found.tokenizer_digest == tokens.tokenizer_digest
    alone = read_calibration(tokens.path, None, N, T, seed=1)
    assert alone.digest == found.digest
    assert read_calibration(tokens.path, tokens.tokenizer(), N, T, seed=1).digest == found.digest


def test_text_and_ids_name_the_tokenizer(text_folder, tokens, words):
    one = read_calibration(text_folder, tokens.tokenizer(), 2, 16)
    assert one.tokenizer_digest == bpe.digest(tokens.tokenizer()) == tokens.tokenizer_digest
    # What an earlier call left in the tokenizer (truncation) is not part of it.
    before = read_calibration(text_folder, words, 2, 16)
    words(["a", "b c"], truncation=True, max_length=2, padding=True)
    again = read_calibration(text_folder, words, 2, 16)
    assert (again.digest, again.tokenizer_digest) == (before.digest, before.tokenizer_digest)


def test_other_tokenizers_are_refused(tokens, documents, tmp_path):
    other = prepare_documents(documents, tmp_path / "other", held_out=0.2, vocab_size=280)
    for call in (read_calibration, as_windows):
        with pytest.raises(ValueError, match=r"another vocabulary.*tokenizer .*the subject's is"):
            call(tokens.path, other.transformers_tokenizer())
    with pytest.raises(ValueError, match=r"another vocabulary: its ids go up to \d+, .*to 99"):
        read_calibration(tokens.path, None, 4, 16, vocabulary=100)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": 0}, "samples: got 0, allowed is 1"),
        ({"length": 0}, "length: got 0, allowed is 1"),
        ({"seed": -1}, "seed: got -1, allowed is 0"),
        ({"samples": 10**6}, r"samples: got 1000000 of 512 tokens, but .* enough for \d+"),
        ({"source": "nowhere"}, "source: got 'nowhere', allowed are"),
        ({"tokenizer": None}, "tokenizer: got none"),
        ({"tokenizer": object()}, "tokenizer: got object without a fast form"),
    ],
)
def test_bad_arguments(text_folder, words, arguments, message):
    given = {"source": text_folder, "tokenizer": words} | arguments
    with pytest.raises(ValueError, match=message):
        read_calibration(**given)


def test_nothing_but_short_text_and_no_end_of_text(tmp_path, tokens):
    (tmp_path / "short.txt").write_text("short")
    tokenizer = tokens.transformers_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="no document of at least 50"):
        read_calibration(tmp_path, tokenizer)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.txt", b"\xff\xfe" * 60, "bad.txt.*undecodable"),
        ("short.txt", b"short", "no document of at least 50"),
        ("rows.jsonl", b'{"other": "a"}\n', "text_field"),
    ],
)
def test_text_that_is_of_no_use(tmp_path, words, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_calibration(tmp_path, words)


def test_a_damaged_prepared_folder(tokens, tmp_path):
    (tmp_path / "train.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"holds no manifest.json"):
        read_calibration(tmp_path, None)


IDS = np.arange(24).reshape(3, 8)


@pytest.mark.parametrize(
    "given",
    [
        torch.from_numpy(IDS),
        torch.from_numpy(IDS).int(),
        torch.from_numpy(IDS.astype(np.uint16)),
        IDS,
        IDS.astype(np.int32),
        IDS.T.copy().T,
        IDS.tolist(),
        tuple(map(tuple, IDS.tolist())),
        list(IDS),
        list(torch.from_numpy(IDS)),
    ],
)
def test_windows_as_they_are(given):
    found = as_windows(given, limit=8, vocabulary=24)
    assert found.ids.dtype == torch.int64
    assert found.ids.tolist() == IDS.tolist()
    assert found.digest == as_windows(IDS).digest
    assert as_windows(found, limit=8, vocabulary=24) is found


def test_a_later_change_to_the_users_ids_changes_nothing():
    given = torch.from_numpy(IDS.copy())
    found = as_windows(given)
    given.zero_()
    assert found.ids.tolist() == IDS.tolist()


def test_a_stream_is_cut_and_its_remainder_dropped():
    stream = np.arange(1100)
    assert as_windows(stream).ids.tolist() == stream[:1024].reshape(2, 512).tolist()
    assert as_windows(stream.tolist(), limit=500).ids.shape == (2, 500)
    assert as_windows(torch.arange(1100), limit=4096).ids.shape == (2, 512)


def test_texts(tokens, words):
    texts = ["def function_1(x):\n    return x\n", "a text with <|endoftext|> in it", ""]
    own = tokens.tokenizer()
    own.encode_special_tokens = True  # what a text says is text
    joined = [i for text in texts for i in [*own.encode(text).ids, words.eos_token_id]]
    assert joined.count(words.eos_token_id) == 3
    found = as_windows(texts, words, limit=10)
    assert found.ids.flatten().tolist() == joined[: len(joined) // 10 * 10]
    assert found.tokenizer_digest == bpe.digest(words.backend_tokenizer)
    with pytest.raises(ValueError, match=r"tokenizer: got none"):
        as_windows(texts)


def test_prepared_data_at_hand(tokens, words):
    found = as_windows(tokens, words, limit=8)
    assert found.ids.shape == (min(128, len(tokens.train.tokens) // 8), 8)
    places(found.ids, tokens.train.tokens)
    for same in (tokens.path, str(tokens.path)):
        assert as_windows(same, words, limit=8).digest == found.digest
    assert read_calibration(tokens.path, words, len(found.ids), 8).digest == found.digest


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "0 tokens"),
        (np.empty((0, 8), dtype=int), "no token"),
        (np.empty((2, 0), dtype=int), "no token"),
        ([[1, 2, 3], [1, 2]], "windows of 2 to 3 tokens"),
        (torch.rand(2, 8), r"float32 of shape \(2, 8\)"),
        (torch.rand(2, 8, dtype=torch.bfloat16), "float32"),
        (np.ones((2, 8)), "float64"),
        (np.ones((2, 8), dtype=bool), "bool"),
        (np.zeros((2, 2, 2), dtype=int), r"int64 of shape \(2, 2, 2\)"),
        ([[0, 1, -100]], "the id -100, allowed is 0 or more"),
        ([[0, 1, 300]], "another vocabulary: its ids go up to 300, the model knows .* 299"),
        (np.zeros((2, 17), dtype=int), "windows of 17 tokens, the model has 16 positions"),
        (np.zeros(15, dtype=int), r"15 tokens, a window takes 16.*\(1, n\)"),
        ({"input_ids": [[1]]}, "got dict"),
        (7, "got int"),
        (None, "got NoneType"),
        (["a text", 3], "calibration: got .* allowed are whole numbers"),
        ("long " * 2000, "'long long .* which is no prepared folder"),
        ("a text", "'a text', which is no prepared folder"),
        (Path("nowhere"), "'nowhere', which is no prepared folder"),
    ],
)
def test_what_cannot_be_windows(given, message):
    with pytest.raises(ValueError, match=message):
        as_windows(given, limit=16, vocabulary=300)
    with pytest.raises(ValueError, match="limit: got 0"):
        as_windows(given, limit=0)


def test_a_digest_tells_shapes_and_ids_apart():
    one = as_windows(IDS)
    assert len(one.digest) == 16
    assert one.digest != as_windows(IDS.reshape(6, 4)).digest
    assert one.digest != as_windows(IDS[::-1].copy()).digest


def test_this_pythons_library_in_a_real_tokenizer(shared):
    tokenizer = AutoTokenizer.from_pretrained(shared / "models" / "stories260K")
    found = read_calibration("stdlib", tokenizer, samples=16, length=256, vocabulary=512)
    assert found.ids.shape == (16, 256)
    # Its space before each text, its <s> before each text: neither stands between pieces.
    assert not (found.ids == tokenizer.bos_token_id).any()
    text = tokenizer.decode(found.ids.flatten().tolist())
    assert "def " in text and "import" in text
