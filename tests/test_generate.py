"""`resprout generate`: the text is the model's, comes piece by piece, and mistakes are told."""

import io
import runpy
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from biogpt_models import tiny
from resprout.cli import main
from resprout.data.tokenizer import for_transformers, train_bpe
from resprout.models import tokenizers
from resprout.models.biogpt.published import write_published
from resprout.models.generation import Writer
from resprout.models.sampling import Sampling
from resprout.models.sizes import build, configuration
from resprout.models.streaming import PieceStreamer

ROOT = Path(__file__).parents[1]
WORDS = ["the cat sat on the mat and the dog saw the cat", "a bird in the hand"] * 5


@pytest.fixture(scope="session")
def bpe():
    return for_transformers(train_bpe(WORDS, 270))


@pytest.fixture(scope="session")
def folder(bpe, tmp_path_factory):
    """A small model with its tokenizer; untrained, of 24 positions."""
    path = tmp_path_factory.mktemp("models") / "small"
    config = configuration("llama-nano", vocab_size=270, max_position_embeddings=24)
    build(config, seed=3).save_pretrained(path)
    bpe.save_pretrained(path)
    return path


@pytest.fixture
def shape_alone(folder, tmp_path):
    """The same without its weights: what is refused here is refused before they are loaded."""
    for file in folder.iterdir():
        if file.suffix == ".json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


@pytest.fixture
def generate(capsys):
    """Run the command here; returns its exit code, output and errors."""

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["generate", *map(str, arguments), "--device", "cpu"])
        out, err = capsys.readouterr()
        return end.value.code, out, err

    return run


def refused(generate, *arguments):
    code, out, err = generate(*arguments)
    assert (code, out) == (2, ""), err
    assert len(err.splitlines()) == 1
    return err


def slow_greedy(model, ids, count):
    """The most probable tokens, one by one and without a cache."""
    ids = list(ids)
    with torch.no_grad():
        for _ in range(count):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids


@pytest.mark.parametrize(
    "choice",
    [["--temperature", "0"], ["--top_k", "1", "--temperature", "5"], ["--top-p", "1e-6"]],
)
def test_the_most_probable_text(generate, folder, bpe, choice):
    prompt = bpe("the cat").input_ids
    model = Writer(str(folder), device="cpu").load()
    expected = bpe.decode(slow_greedy(model, prompt, 9)[len(prompt) :])
    code, out, err = generate(folder, "--prompt", "the cat", "--max_tokens", "9", *choice)
    assert (code, err) == (0, "")
    assert out == f"the cat{expected}\n"


def test_a_real_model_tells_its_story(generate, shared):
    code, out, err = generate(
        shared / "models" / "stories260K",
        "--prompt", "Once upon a time", "--temperature", "0", "--max-tokens", "30",
    )  # fmt: skip
    assert (code, err) == (0, "")
    # As karpathy's own run.c tells it at temperature 0.
    assert out.startswith("Once upon a time, there was a little girl named Lily. She loved to play")


def test_same_seed_same_text(folder, bpe):
    writer = Writer(str(folder), device="cpu")
    ids, count = writer.encode("the", Sampling())

    def text(**choice):
        return writer.write(ids, count, Sampling(**choice), lambda piece: None)

    before = torch.random.get_rng_state()
    assert text(seed=1) == text(seed=1) != text(seed=2)
    assert text(temperature=0, seed=1) == text(temperature=0, seed=2)
    assert torch.equal(before, torch.random.get_rng_state())


def test_what_no_tokenizer_takes_is_refused(folder):
    """A byte that is not UTF-8 comes out of a command line as half a surrogate pair."""
    with pytest.raises(ValueError, match=r"prompt: got '\\udcff x', allowed is text that is UTF-8"):
        Writer(str(folder), device="cpu").encode("\udcff x", Sampling())


def test_the_first_piece_comes_before_the_last_token(folder):
    writer = Writer(str(folder), device="cpu")
    model, steps, seen = writer.load(), [], []
    model.register_forward_hook(lambda *_: steps.append(1))
    ids, count = writer.encode("the cat", Sampling(max_tokens=15))
    text = writer.write(ids, count, Sampling(seed=5), lambda piece: seen.append(len(steps)))
    assert text
    assert seen[0] <= 4  # a character of four bytes may take four tokens
    assert len(set(seen)) > 3


@given(text=st.text(min_size=1, max_size=30), prompt=st.text(min_size=1, max_size=5))
def test_pieces_are_whole_characters_and_all_of_the_text(text, prompt):
    tokenizer = BYTES
    pieces = []
    streamer = PieceStreamer(tokenizer, pieces.append)
    streamer.put(torch.tensor([tokenizer(prompt).input_ids]))
    for token in tokenizer(text).input_ids:
        streamer.put(torch.tensor([token]))
    streamer.end()
    assert "".join(pieces) == text
    assert all(pieces)
    if "\N{REPLACEMENT CHARACTER}" not in text:
        assert len(pieces) == len(text)  # a token is a byte here: a piece is a character


BYTES = for_transformers(train_bpe(["x"], 257))


@pytest.mark.parametrize("text", ["a dog, a cat", "né €1 \N{GRINNING FACE} end", "日本語日本語"])
def test_pieces_of_a_tokenizer_with_spaces_of_its_own(shared, text):
    tokenizer = AutoTokenizer.from_pretrained(shared / "models" / "stories260K")
    ids = tokenizer(f"Once {text}").input_ids
    for cut in range(1, len(ids)):
        pieces = []
        streamer = PieceStreamer(tokenizer, pieces.append)
        streamer.put(torch.tensor([ids[:cut]]))
        for token in ids[cut:]:
            streamer.put(torch.tensor([token]))
        streamer.end()
        before = tokenizer.decode(ids[:cut], skip_special_tokens=True)
        if not before.endswith("\N{REPLACEMENT CHARACTER}"):
            assert before + "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=True)
            assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


def test_half_a_character_at_the_end_is_told():
    pieces = []
    streamer = PieceStreamer(BYTES, pieces.append)
    streamer.put(torch.tensor([BYTES("x").input_ids]))
    for token in BYTES("a€").input_ids[:-1]:
        streamer.put(torch.tensor([token]))
    assert pieces == ["a"]
    streamer.end()
    assert pieces == ["a", "\N{REPLACEMENT CHARACTER}"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "prompt: give either --prompt TEXT or --interactive"),
        (["--prompt", "a", "--interactive"], "prompt: give either"),
        (["--prompt", ""], "prompt: got ''"),
        (["--prompt", "a", "--temperature", "-1"], "temperature: got -1.0, allowed is 0"),
        (["--prompt", "a", "--temperature", "nan"], "temperature: got nan"),
        (["--prompt", "a", "--max_tokens", "0"], "max_tokens: got 0, allowed is 1 or more"),
        (["--prompt", "a", "--max-tokens", "24"], "max_tokens: got 24, allowed are up to 23"),
        (["--prompt", "a" * 24], "prompt: got 24 tokens, allowed are up to 23"),
        (["--prompt", "a", "--top_k", "-1"], "top_k: got -1"),
        (["--prompt", "a", "--top-p", "0"], "top_p: got 0.0"),
        (["--prompt", "a", "--seed", "-1"], "seed: got -1"),
        (["--prompt", "a", "--dtype", "int8"], "dtype: got 'int8', allowed are auto, float32"),
        (["--prompt", "a", "--tokenizer", "no/such"], "tokenizer: 'no/such' is not to be had"),
        (["--prompt", "a", "--bogus"], "No such option"),
    ],
)
def test_mistakes_are_told_before_the_weights_are_loaded(generate, shape_alone, options, message):
    assert message in refused(generate, shape_alone, *options)


def test_models_that_cannot_write(generate, folder, shape_alone, tmp_path, capsys):
    for name in ("nowhere.pt", "nowhere/", "/no/where", "./nowhere", "a/b/c"):
        expected = f"resprout: error: model: there is no file or folder {name!r}\n"
        assert refused(generate, name, "--prompt", "a") == expected
    assert "neither a size" in refused(generate, "no/where", "--prompt", "a")
    assert "give --tokenizer" in refused(generate, "biogpt-nano", "--prompt", "a")
    assert "cannot be loaded" in refused(generate, shape_alone, "--prompt", "a")
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer_config.json").unlink()
    assert "holds none; give --tokenizer" in refused(generate, shape_alone, "--prompt", "a")
    with pytest.raises(SystemExit):
        main(["generate", str(folder), "--prompt", "a", "--device", "warp"])
    assert "device: got 'warp'" in capsys.readouterr().err


def test_the_default_length_is_what_fits(generate, folder):
    code, out, err = generate(folder, "--prompt", "a", "--temperature", "0")
    assert code == 0
    assert out.startswith("a") and out.endswith("\n")
    assert err == "resprout: at most 23 new tokens: no more fit the model's context\n"


@pytest.fixture
def checkpoint(tmp_path):
    """A published checkpoint that knows 270 tokens."""
    path = tmp_path / "checkpoints" / "step_10.pt"
    path.parent.mkdir()
    write_published(tiny(vocab_size=270), path)
    return path


def test_a_checkpoint_finds_its_tokenizer(
    generate, checkpoint, bpe, folder, monkeypatch, tmp_path, capsys
):
    run = (checkpoint, "--prompt", "the cat", "--max_tokens", "6", "--temperature", "0")
    assert "give --tokenizer" in refused(generate, *run)  # none at hand, and the Hub out of reach

    model = Writer(str(checkpoint), str(folder), device="cpu").load()
    prompt = bpe("the cat").input_ids
    text = f"the cat{bpe.decode(slow_greedy(model, prompt, 6)[len(prompt) :])}\n"
    assert generate(*run, "--tokenizer", folder) == (0, text, "")
    with monkeypatch.context() as changed:
        changed.setattr(tokenizers, "PUBLISHED_TOKENIZER", str(folder))
        code, out, err = generate(*run)
        assert (code, out) == (0, text)
        assert err == f"resprout: no tokenizer beside {checkpoint}: taking the published {folder}\n"
    bpe.save_pretrained(checkpoint.parent / "final")
    assert generate(*run) == (0, text, "")
    # Beside it comes first: here one that the model cannot know.
    for_transformers(train_bpe(WORDS, 300)).save_pretrained(checkpoint.parent)
    assert "ids go up to" in refused(generate, *run)


def test_the_published_command(checkpoint, folder, monkeypatch, capsys):
    # By its path: `biogpt` alone is a benchmark's name while testing.
    published = runpy.run_path(str(ROOT / "src" / "biogpt" / "generate.py"))["main"]

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["biogpt.generate", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            published()
        return end.value.code, *capsys.readouterr()

    options = ("--prompt", "the cat", "--max_tokens", "6", "--top_k", "40", "--seed", "7")
    options += ("--tokenizer", folder, "--device", "cpu")
    with pytest.raises(SystemExit):
        main(["generate", str(checkpoint), *map(str, options)])
    expected = capsys.readouterr().out
    assert run("--checkpoint", checkpoint, *options) == (0, expected, "")
    assert run(f"--checkpoint={checkpoint}", *options) == (0, expected, "")
    code, out, _ = run("--help")
    assert code == 0
    assert "--checkpoint PATH" in out and "--max_tokens" in out
    for wrong in ([], ["--checkpoint"]):
        code, out, err = run(*wrong, "--prompt", "a")
        assert (code, out) == (2, "")
        assert "checkpoint: missing" in err and len(err.splitlines()) == 1


def test_a_size_writes_at_random_and_says_so(generate, bpe, tmp_path, caplog):
    bpe.save_pretrained(tmp_path)
    code, out, _ = generate(
        "gpt2-nano", "--prompt", "a", "--max_tokens", "3", "--tokenizer", tmp_path
    )
    assert code == 0
    assert out.startswith("a")
    assert "its weights are random" in caplog.text


def test_bfloat16(folder):
    writer = Writer(str(folder), device="cpu", dtype="bfloat16")
    assert writer.load().dtype == torch.bfloat16
    ids, count = writer.encode("the cat", Sampling(max_tokens=3))
    assert writer.write(ids, count, Sampling(), lambda piece: None)


def test_prompts_from_a_pipe(generate, folder, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("the\ncat\n"))
    code, out, err = generate(folder, "--prompt", "-", "--max_tokens", "2", "--temperature", "0")
    assert (code, err) == (0, "")
    assert out.startswith("the\ncat")

    alone = {}
    for prompt in ("the cat", "a bird"):
        _, alone[prompt], _ = generate(
            folder, "--prompt", prompt, "--max_tokens", "2", "--temperature", "0"
        )
    lines = f"the cat\n\n{'a' * 40}\n  \na bird\nquit\nthe dog\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    code, out, err = generate(folder, "--interactive", "--max_tokens", "2", "--temperature", "0")
    assert code == 0
    assert out == alone["the cat"] + alone["a bird"]
    assert err.splitlines() == [
        "resprout: error: prompt: got 40 tokens, allowed are up to 23, one less than the model's "
        "24 positions"
    ]
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert generate(folder, "--interactive") == (0, "", "")
