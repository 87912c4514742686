"""Preparing text: the right tokens, the same after any kill, nothing half-written."""

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from resprout.data import encoder, engine, pieces, splitting, textfiles, writer
from resprout.data import tokenizer as bpe
from resprout.data.encoder import Encoder
from resprout.data.folder import OutputFolder
from resprout.data.prepare import prepare_text
from resprout.data.sources import is_held_out
from resprout.data.tokens import TokenSet
from resprout.data.writer import OutputError
from resprout.files import only_one

WORDS = "while the quick brown fox(x_1) + 'jumps' isn't over 12 34 lazy dogs; naïve Straße 你好 🙂"


def quiet(line):
    """Say nothing."""


def texts_of(count, seed=0):
    draw = random.Random(seed)
    words = WORDS.split(" ")
    return [
        f"{i} " + " ".join(draw.choices([*words, "\n", "\n\n  ", "  "], k=draw.randint(12, 90)))
        for i in range(count)
    ]


TEXTS = texts_of(300)


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> Path:
    """A folder with a tokenizer, as transformers saves it."""
    folder = tmp_path_factory.mktemp("words")
    bpe.for_transformers(bpe.train_bpe(TEXTS, 400)).save_pretrained(folder)
    return folder


@pytest.fixture
def lines(tmp_path) -> Path:
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return path


def prepare(source, out, words=None, **options):
    options = {"val_fraction": 0.1, "notice": quiet} | options
    return prepare_text(
        str(source), out, tokenizer=str(words) if words else None, **options
    )  # fmt: skip


def reference(texts, words):
    """What transformers' own tokenizer makes of each document, and the end of text."""
    own = AutoTokenizer.from_pretrained(words)
    return [[*own.encode(text, add_special_tokens=False), own.eos_token_id] for text in texts]


def flat(documents):
    return [token for document in documents for token in document]


def names_and_digests(folder: Path):
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_tokens_are_those_of_transformers(tmp_path, lines, words):
    tokens = prepare(lines, tmp_path / "out", words)
    made = reference(TEXTS, words)
    names = [f"text.jsonl:{i}" for i in range(1, len(TEXTS) + 1)]
    for name, split in (("train", tokens.train), ("val", tokens.val)):
        mine = [i for i, doc in enumerate(names) if is_held_out(doc, 0.1) == (name == "val")]
        assert split.tokens.tolist() == flat(made[i] for i in mine)
        assert split.index[:, 0].tolist() == np.cumsum([len(made[i]) for i in mine]).tolist()
        assert split.index[:, 1].tolist() == [len(TEXTS[i].encode()) for i in mine]
        assert split.documents == len(mine) == len(split.index)
        assert split.text_bytes == sum(len(TEXTS[i].encode()) for i in mine)
        entry = tokens.manifest["splits"][name]
        raw = (tmp_path / "out" / f"{name}.bin").read_bytes()
        assert entry["sha256"] == hashlib.sha256(raw).hexdigest()
        assert np.frombuffer(raw, "<u2").tolist() == split.tokens.tolist()
    assert tokens.manifest["source_exhausted"] is True
    assert not (tmp_path / "out" / "unfinished").exists()
    again = tokens.transformers_tokenizer(77)
    assert again.encode(TEXTS[0]) == made[0][:-1]
    assert again.model_max_length == 77


def test_long_documents_in_pieces_give_the_tokens_of_the_whole(tmp_path, words, monkeypatch):
    for i, text in enumerate(("\n".join(TEXTS[:200]), " ".join(TEXTS[200:]))):
        (tmp_path / "in" / f"{i}.txt").parent.mkdir(exist_ok=True)
        (tmp_path / "in" / f"{i}.txt").write_text(text)
    whole = prepare(tmp_path / "in", tmp_path / "whole", words)
    monkeypatch.setattr(pieces, "PIECE_CHARACTERS", 200)
    monkeypatch.setattr(textfiles, "PIECE_CHARACTERS", 200)
    monkeypatch.setattr(textfiles, "READ_WHOLE_BYTES", 1000)
    monkeypatch.setattr(textfiles, "BLOCK_BYTES", 777)
    monkeypatch.setattr(encoder, "BATCH_BYTES", 1500)  # documents go across batches
    cut = prepare(tmp_path / "in", tmp_path / "cut", words)
    assert cut.manifest["pieces"] > 50
    assert whole.manifest["pieces"] == 2
    assert cut.digest == whole.digest
    assert cut.train.index.tolist() == whole.train.index.tolist()


def joint_of(tokenizer):
    return Encoder(tokenizer, 0).joint


def test_pieces_are_put_together_as_each_tokenizer_needs(tmp_path, words, shared, monkeypatch):
    llama = AutoTokenizer.from_pretrained(shared / "models" / "stories260K")
    assert joint_of(bpe.load(words / "tokenizer.json")) == "plain"
    assert joint_of(llama.backend_tokenizer) == "prefixed"
    whole = Tokenizer(models.WordLevel({"<e>": 0, "?": 1}, unk_token="?"))  # text as one word
    assert joint_of(whole) == "none"
    monkeypatch.setattr(pieces, "PIECE_CHARACTERS", 200)
    text = "Once upon a time there was a little girl " * 40
    (tmp_path / "in").mkdir()
    for i in range(3):
        (tmp_path / "in" / f"{i}.md").write_text(text + str(i))
    tokens = prepare(tmp_path / "in", tmp_path / "out", shared / "models" / "stories260K")
    expected = flat(
        [*llama.encode(text + str(i), add_special_tokens=False), llama.eos_token_id]
        for i in range(3)
    )
    assert [*tokens.train.tokens, *tokens.val.tokens] == expected
    assert tokens.manifest["pieces"] > 20


def test_the_words_of_an_end_of_text_do_not_end_it(tmp_path, words):
    path = tmp_path / "text.jsonl"
    text = "a text about the mark <|endoftext|> that ends a text in GPT-2"
    path.write_text((json.dumps({"text": text}) + "\n") * 20)
    tokens = prepare(path, tmp_path / "out", words)
    stream = [*tokens.train.tokens.tolist(), *tokens.val.tokens.tolist()]
    assert stream.count(tokens.manifest["end_of_text"]) == 20
    assert tokens.tokenizer().decode(stream[: stream.index(0)]) == text


def test_a_large_vocabulary_takes_uint32(tmp_path, lines):
    entries = {f"w{i}": i for i in range(70_000)} | {"?": 70_000, "<end>": 70_007}
    big = Tokenizer(models.WordLevel(entries, unk_token="?"))
    big.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=big, eos_token="<end>").save_pretrained(
        tmp_path / "big"
    )
    tokens = prepare(lines, tmp_path / "out", tmp_path / "big")
    assert tokens.manifest["dtype"] == "uint32"
    assert tokens.manifest["vocab_size"] == 70_008  # ids have a gap: the largest counts
    assert int(tokens.train.tokens.max()) == 70_007
    made = flat(reference(TEXTS, tmp_path / "big"))
    assert len(made) == len(tokens.train.tokens) + len(tokens.val.tokens)


@pytest.mark.parametrize("fraction", [0.005, 0.1, 0.5])
def test_paper_takes_the_tail_of_the_stream(tmp_path, lines, words, fraction):
    tokens = prepare(lines, tmp_path / "out", words, protocol="paper", val_fraction=fraction)
    stream = flat(reference(TEXTS, words))
    tail = max(1, int(len(stream) * fraction))
    assert tokens.train.tokens.tolist() == stream[:-tail]
    assert tokens.val.tokens.tolist() == stream[-tail:]
    assert tokens.train.text_bytes + tokens.val.text_bytes == sum(len(t.encode()) for t in TEXTS)
    for split in (tokens.train, tokens.val):
        assert split.index[-1, 0] == len(split.tokens)
        assert split.index[:, 1].sum() == split.text_bytes
        assert split.documents == len(split.index)
    letters = AutoTokenizer.from_pretrained(words)
    half = [t for t in tokens.val.tokens[: int(tokens.val.index[0, 0])].tolist() if t]
    pieces_bytes = sum(len(token) for token in letters.convert_ids_to_tokens(half))
    assert tokens.val.index[0, 1] == pieces_bytes


@pytest.mark.parametrize("protocol", ["fair", "paper"])
def test_a_target_stops_after_the_document_that_reaches_it(tmp_path, lines, words, protocol):
    made = reference(TEXTS, words)
    ends = np.cumsum([len(document) for document in made])
    for target in (1000, int(ends[57]), int(ends[57]) + 1):
        out = tmp_path / f"out{target}"
        tokens = prepare(lines, out, words, target_tokens=target, protocol=protocol)
        total = len(tokens.train.tokens) + len(tokens.val.tokens)
        assert total == ends[np.searchsorted(ends, target)]
        assert tokens.manifest["source_exhausted"] is False
    tokens = prepare(lines, tmp_path / "all", words, target_tokens=10**9, protocol=protocol)
    assert tokens.manifest["source_exhausted"] is True


def test_where_none_is_held_out_the_last_document_is(tmp_path, lines, words):
    tokens = prepare(lines, tmp_path / "out", words, val_fraction=1e-9)
    made = reference(TEXTS, words)
    assert tokens.val.tokens.tolist() == made[-1]
    assert tokens.train.tokens.tolist() == flat(made[:-1])
    assert tokens.val.index.tolist() == [[len(made[-1]), len(TEXTS[-1].encode())]]


def test_a_trained_tokenizer_has_not_seen_validation(tmp_path, lines):
    first = prepare(lines, tmp_path / "a", train_tokenizer=300)
    texts = list(TEXTS)
    held = [i for i in range(300) if is_held_out(f"text.jsonl:{i + 1}", 0.1)]
    for i in held:
        texts[i] = "zebra quagga okapi " * 30
    lines.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    second = prepare(lines, tmp_path / "b", train_tokenizer=300)
    assert first.tokenizer_digest == second.tokenizer_digest
    assert first.digest != second.digest
    assert first.manifest["tokenizer_trained"]["on"] == "training documents only"
    kept = prepare(lines, tmp_path / "c", tmp_path / "a")  # a prepared folder as a tokenizer
    assert kept.tokenizer_digest == first.tokenizer_digest


# --- stopped and started again -----------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["fair", "paper"])
def test_stopped_at_any_write_it_ends_with_the_same_files(tmp_path, lines, monkeypatch, protocol):
    """Every system call that changes the output fails once, each in a run of its own."""
    monkeypatch.setattr(engine, "COMMIT_SECONDS", 0)
    monkeypatch.setattr(encoder, "BATCH_BYTES", 3_000)
    lines.write_text("".join(lines.read_text().splitlines(keepends=True)[:60]))
    options = {"train_tokenizer": 270, "protocol": protocol}
    plain = prepare(lines, tmp_path / "plain", **options)
    expected = names_and_digests(tmp_path / "plain")
    calls = ("write", "pwrite", "fsync", "ftruncate", "replace")
    real = {name: getattr(os, name) for name in calls}
    fatal = {"at": 10**9, "seen": 0}

    class Kill(BaseException):
        """As sudden as a signal: no handler of ours catches it."""

    def counted(name):
        def call(*given, **more):
            fatal["seen"] += 1
            if fatal["seen"] == fatal["at"]:
                if name == "write":  # a part of it comes through
                    real["write"](given[0], bytes(given[1])[: len(given[1]) // 2])
                raise Kill
            return real[name](*given, **more)

        return call

    for name in calls:
        monkeypatch.setattr(os, name, counted(name))
    prepare(lines, tmp_path / "counted", **options)
    total = fatal["seen"]
    assert total > 30
    stops = {*range(1, total, max(1, total // 10)), *range(total - 10, total + 1)}
    for stop in sorted(stops):
        out = tmp_path / f"out{stop}"
        fatal |= {"at": stop, "seen": 0}
        with pytest.raises(Kill):
            prepare(lines, out, **options)
        fatal |= {"at": 10**9}
        done = prepare(lines, out, **options)
        assert names_and_digests(out) == expected, stop
        assert done.digest == plain.digest


def command(*arguments, module="resprout"):
    words = ["prepare", *arguments] if module == "resprout" else arguments
    return [sys.executable, "-m", module, *map(str, words)]


def run(*arguments, module="resprout"):
    return subprocess.run(
        command(*arguments, module=module), capture_output=True, text=True, timeout=120
    )


def killed_and_continued(arguments, out, moments, sent=signal.SIGKILL):
    """Start, kill after each of some seconds, then let it end; how often it was alive still."""
    alive = 0
    for seconds in moments:
        process = subprocess.Popen(
            command(*arguments, "-o", out), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        time.sleep(seconds)
        alive += process.poll() is None
        process.send_signal(sent)
        process.communicate()
    done = run(*arguments, "-o", out)
    assert done.returncode == 0, done.stderr
    return alive


EAGER = (
    "import sys\n"
    "from resprout.data import encoder, engine\n"
    "engine.COMMIT_SECONDS, encoder.BATCH_BYTES = 0, 20_000\n"
    "from resprout.cli import main\n"
    "main(sys.argv[1:])\n"
)


def eager(*arguments):
    """A process that commits after every 20 kB."""
    words = [sys.executable, "-c", EAGER, "prepare", *map(str, arguments)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def tokens_so_far(out):
    try:
        counts = json.loads((out / "unfinished" / "progress.json").read_text())["counts"] or {}
    except (OSError, ValueError):
        return 0
    return sum(split["tokens"] for split in counts.values())


@pytest.mark.slow
def test_killed_for_real(tmp_path, lines, words):
    """SIGKILL of real processes in their work, each of which goes on where the one before was."""
    lines.write_text(lines.read_text() * 30)
    arguments = ["--source", lines, "--tokenizer", words, "--val_fraction", "0.1"]
    kept = 0
    for _ in range(2):
        process = eager(*arguments, "-o", tmp_path / "out")
        while process.poll() is None and tokens_so_far(tmp_path / "out") < kept + 50_000:
            time.sleep(0.005)
        assert process.poll() is None
        process.kill()
        process.communicate()
        kept = tokens_so_far(tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()
    said = []
    prepare(lines, tmp_path / "out", words, notice=said.append)
    assert "continuing" in said[0]
    whole = prepare(lines, tmp_path / "whole", words)
    assert len(whole.train.tokens) > kept > 100_000
    assert names_and_digests(tmp_path / "out") == names_and_digests(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("extra", [["--protocol", "paper"], ["--target_tokens", "9000000"]])
def test_killed_at_random_moments(tmp_path, extra):
    arguments = ["--source", "installed", "--train_tokenizer", "1024", *extra]
    if "--target_tokens" not in extra:
        arguments += ["--target_tokens", "6000000"]
    arguments += ["--train_tokenizer_bytes", "20000000"]
    started = time.perf_counter()
    whole = run(*arguments, "-o", tmp_path / "whole")
    seconds = time.perf_counter() - started
    assert whole.returncode == 0, whole.stderr
    draw = random.Random(0)
    moments = [draw.uniform(0.5, seconds) for _ in range(5)]
    killed_and_continued(arguments, tmp_path / "out", moments)
    assert names_and_digests(tmp_path / "out") == names_and_digests(tmp_path / "whole")


@pytest.mark.slow
def test_stopped_kindly_it_says_how_to_go_on(tmp_path, lines, words):
    lines.write_text(lines.read_text() * 100)
    arguments = ["--source", lines, "--tokenizer", words, "-o", tmp_path / "out"]
    for sent, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = eager(*arguments)
        assert process.stdout.readline()  # it says that it begins
        process.send_signal(sent)
        _, said = process.communicate(timeout=60)
        assert process.returncode == code, said
        assert "Traceback" not in said
        assert f"prepare --source {lines}" in said


def test_two_at_once_are_refused(tmp_path, lines, words, monkeypatch):
    from filelock import FileLock

    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(ValueError, match="in use by another"):
        prepare(lines, tmp_path / "out", words)
    prepare(lines, tmp_path / "out", words)


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_keeps_what_was_done(tmp_path, lines, words, monkeypatch, call):
    monkeypatch.setattr(engine, "COMMIT_SECONDS", 0)
    monkeypatch.setattr(encoder, "BATCH_BYTES", 12_000)
    expected = prepare(lines, tmp_path / "plain", words)
    real, left = getattr(os, call), [12]

    def full(*given):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OutputError, match="No space left") as caught:
            prepare(lines, tmp_path / "out", words)
        assert caught.value.kept_tokens > 0
    assert not (tmp_path / "out" / "manifest.json").exists()
    kept = json.loads((tmp_path / "out" / "unfinished" / "progress.json").read_text())
    assert sum(c["tokens"] for c in kept["counts"].values()) == caught.value.kept_tokens
    assert prepare(lines, tmp_path / "out", words).digest == expected.digest
    assert names_and_digests(tmp_path / "out") == names_and_digests(tmp_path / "plain")


@pytest.mark.slow
def test_a_full_disk_is_one_line(tmp_path, lines, words):
    """A limit on the size of files stands in for the disk: the same error, a real process."""
    script = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, 16_000))\n"
        "from resprout.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    arguments = ["prepare", "--source", lines, "--tokenizer", words, "-o", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "tokens are kept; free space, then to continue" in done.stderr
    prepare(lines, tmp_path / "out", words, val_fraction=0.005)


# --- what the folder holds already --------------------------------------------------------------


def test_done_is_done(tmp_path, lines, words):
    prepare(lines, tmp_path / "out", words)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    said = []
    prepare(lines, tmp_path / "out", words, notice=said.append)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before
    assert "nothing to do" in said[0]
    moved = lines.rename(tmp_path / "sub.jsonl").rename(lines)  # the same text by another path
    prepare(Path(os.path.relpath(moved)), tmp_path / "out", words)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target_tokens": 500}, "target_tokens: .* was made with none, now asked for is 500"),
        ({"val_fraction": 0.2}, "val_fraction: .* was made with 0.1, now asked for is 0.2"),
        ({"protocol": "paper"}, "protocol: .* was made with 'fair', now asked for is 'paper'"),
        ({"words": None, "train_tokenizer": 300}, "tokenizer: .* was made with '.*words"),
        ({"text": "x"}, "source: .* as its text or field was then"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_another_request_is_refused(tmp_path, lines, words, change, message, finished, monkeypatch):
    if finished:
        prepare(lines, tmp_path / "out", words)
    else:
        monkeypatch.setattr(splitting, "plan_move", None)
        with monkeypatch.context() as patch:
            patch.setattr(engine, "manifest_of", lambda *given: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                prepare(lines, tmp_path / "out", words)
    before = names_and_digests(tmp_path / "out")
    options = {"words": words} | change
    if options.pop("text", None):
        lines.write_text(lines.read_text().replace("fox", "cat"))
    given = options.pop("words")
    with pytest.raises(ValueError, match=message) as caught:
        prepare(lines, tmp_path / "out", given, **options)
    assert "--start_over" in str(caught.value)
    assert names_and_digests(tmp_path / "out") == before
    monkeypatch.undo()
    prepare(lines, tmp_path / "out", given, start_over=True, **options)
    prepare(lines, tmp_path / "new", given, **options)
    assert names_and_digests(tmp_path / "out") == names_and_digests(tmp_path / "new")


@pytest.mark.parametrize("name", ["notes.txt", "train.bin", "manifest.json"])
def test_foreign_files_are_left_alone(tmp_path, lines, words, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text('{"mine": 1}')
    for start_over in (False, True):
        with pytest.raises(ValueError, match=f"holds '{name}'"):
            prepare(lines, tmp_path / "out", words, start_over=start_over)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


def test_a_lost_end_is_refused(tmp_path, lines, words, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(engine, "manifest_of", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare(lines, tmp_path / "out", words)
    file = tmp_path / "out" / "unfinished" / "train.bin"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(ValueError, match="has lost its end"):
        prepare(lines, tmp_path / "out", words)
    assert file.exists()


@pytest.mark.parametrize("protocol", ["fair", "paper"])
@pytest.mark.parametrize(
    "name", ["train.bin", "train.index.npy", "progress.json", "tokenizer.json"]
)
def test_a_flipped_bit_in_unfinished_work(tmp_path, lines, monkeypatch, name, protocol):
    """It is named, it is not used, it stays, and starting over leads to the undisturbed result."""
    given = {"train_tokenizer": 300, "protocol": protocol}
    monkeypatch.setattr(engine, "COMMIT_SECONDS", 0)
    monkeypatch.setattr(encoder, "BATCH_BYTES", 12_000)
    expected = prepare(lines, tmp_path / "plain", **given)
    with monkeypatch.context() as patch:
        patch.setattr(engine.Run, "_split", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare(lines, tmp_path / "out", **given)
    file = tmp_path / "out" / "unfinished" / name
    content = bytearray(file.read_bytes())
    content[content.rindex(b'"tokens"') + 11 if name == "progress.json" else -40] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}' is not as it was written.*--start_over"):
        prepare(lines, tmp_path / "out", **given)
    assert file.read_bytes() == content
    assert prepare(lines, tmp_path / "out", **given, start_over=True).digest == expected.digest
    assert names_and_digests(tmp_path / "out") == names_and_digests(tmp_path / "plain")


class Killed(BaseException):
    """As sudden as a signal: no handler of ours catches it."""


def killed(patch, place, name, lines, out, words=None, **options):
    """Prepare, and be killed where some function is called."""

    def kill(*given, **more):
        raise Killed

    with patch.context() as inside:
        inside.setattr(place, name, kill)
        with pytest.raises(Killed):
            prepare(lines, out, words, **options)


def test_a_tail_that_was_being_moved_is_compared_too(tmp_path, lines, words, monkeypatch):
    expected = prepare(lines, tmp_path / "plain", words, protocol="paper")
    killed(monkeypatch, splitting, "move_tail", lines, tmp_path / "out", words, protocol="paper")
    file = tmp_path / "out" / "unfinished" / "train.bin"
    content = file.read_bytes()
    for hurt in (content[:-2], content[:40] + b"\x01\x01" + content[42:]):
        file.write_bytes(hurt)
        with pytest.raises(ValueError, match=r"train.bin' is not as it was written.*--start_over"):
            prepare(lines, tmp_path / "out", words, protocol="paper")
        assert file.read_bytes() == hurt
    file.write_bytes(content)
    assert prepare(lines, tmp_path / "out", words, protocol="paper").digest == expected.digest
    assert names_and_digests(tmp_path / "out") == names_and_digests(tmp_path / "plain")


def test_what_stands_beside_a_trained_tokenizer_is_written_again(tmp_path, lines, monkeypatch):
    prepare(lines, tmp_path / "plain", train_tokenizer=300)
    killed(monkeypatch, engine.Run, "_split", lines, tmp_path / "out", train_tokenizer=300)
    file = tmp_path / "out" / "unfinished" / "tokenizer_config.json"
    file.write_bytes(file.read_bytes().replace(b"<|endoftext|>", b"<|endoftexu|>"))
    prepare(lines, tmp_path / "out", train_tokenizer=300)
    assert names_and_digests(tmp_path / "out") == names_and_digests(tmp_path / "plain")


@pytest.mark.parametrize("work", ["start_over", "discard"])
def test_a_kill_while_it_is_removed_leaves_a_folder_to_go_on_in(
    tmp_path, lines, words, monkeypatch, work
):
    """At each removal: it is known as ours, and the same command comes to the same files."""
    prepare(lines, tmp_path / "plain", words)
    expected = names_and_digests(tmp_path / "plain")
    killed(monkeypatch, engine.Run, "_split", lines, tmp_path / "begun", words, val_fraction=0.3)
    if work == "start_over":  # more than can be there at once, for the sake of each removal
        for path in (tmp_path / "plain").iterdir():
            shutil.copy(path, tmp_path / "begun" / path.name)
    left = {"calls": 10**9}

    def counted(real):
        def call(*given, **more):
            left["calls"] -= 1
            if left["calls"] < 0:
                raise Killed
            return real(*given, **more)

        return call

    for name in ("unlink", "rmdir"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    moments = 0
    while True:
        path = tmp_path / f"out{moments}"
        shutil.copytree(tmp_path / "begun", path)
        out = OutputFolder(path)
        with only_one(path, "out_dir"):
            left["calls"] = moments
            try:
                getattr(out, work)()
                break
            except Killed:
                pass
            finally:
                left["calls"] = 10**9
        out.check(start_over=False)
        if moments in (2, 9):  # of files, of the work
            prepare(lines, path, words, start_over=moments == 2)
            assert names_and_digests(path) == expected, moments
        moments += 1
    assert moments > 6


@pytest.mark.parametrize("hurt", ["cut", "emptied", "key", "value"])
def test_a_damaged_manifest_is_named_and_started_over(tmp_path, lines, words, hurt):
    prepare(lines, tmp_path / "out", words)
    expected = names_and_digests(tmp_path / "out")
    manifest = tmp_path / "out" / "manifest.json"
    content = manifest.read_bytes()
    manifest.write_bytes({
        "cut": content[: len(content) // 2],
        "emptied": b"",
        "key": content.replace(b'"splits"', b'"splitr"', 1),
        "value": content.replace(b'"fair"', b'"fail"'),
    }[hurt])  # fmt: skip
    before = names_and_digests(tmp_path / "out")
    with pytest.raises(ValueError, match=r"manifest.json' is damaged.*--start_over"):
        prepare(lines, tmp_path / "out", words)
    assert names_and_digests(tmp_path / "out") == before
    prepare(lines, tmp_path / "out", words, start_over=True)
    assert names_and_digests(tmp_path / "out") == expected


@pytest.mark.parametrize("unfinished", [True, False])
def test_remains_are_removed_only_to_start_over(tmp_path, lines, words, monkeypatch, unfinished):
    """As a start over leaves them that an earlier version was killed in."""
    prepare(lines, tmp_path / "plain", words)
    out = tmp_path / "out"
    if unfinished:
        killed(monkeypatch, engine.Run, "_split", lines, out, words)
        (out / "unfinished" / "progress.json").unlink()
    else:
        shutil.copytree(tmp_path / "plain", out)
        for name in ("manifest.json", "train.bin", "train.index.npy"):
            (out / name).unlink()
    before = names_and_digests(out)
    with pytest.raises(ValueError, match=r"holds remains of prepared text.*--start_over"):
        prepare(lines, out, words)
    assert names_and_digests(out) == before
    prepare(lines, out, words, start_over=True)
    assert names_and_digests(out) == names_and_digests(tmp_path / "plain")


@pytest.mark.parametrize("content", ["", '{"text": "short"}\n' * 9, "not json\n"])
def test_an_empty_source_leaves_nothing(tmp_path, words, content):
    (tmp_path / "x.jsonl").write_text(content)
    with pytest.raises(ValueError, match="holds no document of at least 50 characters") as caught:
        prepare(tmp_path / "x.jsonl", tmp_path / "out", words)
    assert ("9 short (first: x.jsonl:1)" in str(caught.value)) == ("short" in content)
    assert not (tmp_path / "out").exists()


def test_a_single_document_needs_the_paper_protocol(tmp_path, words):
    (tmp_path / "x.txt").write_text("\n".join(TEXTS[:20]))
    with pytest.raises(ValueError, match="--protocol paper"):
        prepare(tmp_path / "x.txt", tmp_path / "out", words)
    (tmp_path / "x.jsonl").write_text(json.dumps({"text": TEXTS[0]}))
    with pytest.raises(ValueError, match="--protocol paper"):
        prepare(tmp_path / "x.jsonl", tmp_path / "out", words)
    assert not (tmp_path / "out").exists()
    tokens = prepare(tmp_path / "x.txt", tmp_path / "out", words, protocol="paper")
    assert len(tokens.val.tokens) > 10


# --- the command line ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target_tokens", "0"], "target_tokens: got 0"),
        (["--target_tokens", "-5"], "target_tokens: got -5"),
        (["--target_tokens", "many"], "target_tokens: got 'many', allowed is a whole number"),
        (["--val_fraction", "1"], "val_fraction: got 1.0"),
        (["--val_fraction", "nan"], "val_fraction: got nan"),
        (["--max_retries", "-1"], "max_retries: got -1"),
        (["--source", "stdlb"], "did you mean 'stdlib'"),
        (["--text_field", "body"], "the fields of text.jsonl are: text"),
        (["--tokenizer", "nowhere/none"], "tokenizer: 'nowhere/none' is neither"),
        (["--tokenizer", "LINES"], "is a file"),
        (["--train_tokenizer", "300"], "together with tokenizer"),
        (["--protocol", "papr"], "did you mean 'paper'"),
        (["--revision", "main"], "revision: got 'main'"),
        (["--out_dir", "LINES"], "is a file; allowed is a folder"),
        (["--out_dir", "/proc/nowhere/x"], "cannot be written"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(tmp_path, lines, words, arguments, message):
    from resprout.cli import main

    before = sorted(tmp_path.rglob("*"))
    given = ["--source", "LINES", "--tokenizer", str(words), "--out_dir", str(tmp_path / "out")]
    given = [word.replace("LINES", str(lines)) for word in [*given, *arguments]]
    script = "import sys; from resprout.cli import main; main(sys.argv[1:])"
    if arguments[0] == "--text_field":  # one as a real process: they are slow
        done = subprocess.run(
            [sys.executable, "-c", script, "prepare", *given], capture_output=True, text=True
        )
        code, said = done.returncode, done.stderr
    else:
        import contextlib
        import io

        told = io.StringIO()
        with contextlib.redirect_stderr(told), pytest.raises(SystemExit) as end:
            main(["prepare", *given])
        code, said = end.value.code, told.getvalue()
    assert code == 2, said
    assert message in said
    assert len(said.splitlines()) == 1, said
    assert sorted(tmp_path.rglob("*")) == before


def test_the_published_command(tmp_path, lines, words):
    done = run(
        "--target_tokens", 2000, "--out_dir", tmp_path / "out", "--source", lines,
        "--tokenizer", words, module="biogpt.prepare_data",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    tokens = TokenSet.open(tmp_path / "out")
    assert tokens.manifest["held_out"] == 0.005
    assert 2000 <= len(tokens.train.tokens) + len(tokens.val.tokens) < 2300
    assert "documents" in done.stdout and "bytes/token" in done.stdout


def test_the_published_command_needs_its_tokenizer(tmp_path):
    pile = run("--out_dir", tmp_path / "pile", module="biogpt.prepare_data")
    assert pile.returncode == 2
    assert "EleutherAI/gpt-neox-20b" in pile.stderr  # which cannot be had offline
    assert len(pile.stderr.splitlines()) == 1
    assert not (tmp_path / "pile").exists()


def test_the_index_is_a_plain_npy_file(tmp_path, lines, words):
    prepare(lines, tmp_path / "out", words)
    raw = (tmp_path / "out" / "val.index.npy").read_bytes()
    index = np.load(tmp_path / "out" / "val.index.npy")
    assert index.dtype == np.uint64 and index.shape[1] == 2
    assert raw == writer.index_header(len(index)) + index.tobytes()
    (tmp_path / "out" / "val.index.npy").write_bytes(raw[:-16])
    with pytest.raises(ValueError, match=r"val.index.npy.*not of the size recorded"):
        TokenSet.open(tmp_path / "out")
