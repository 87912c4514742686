"""Files that are not as they were written are noticed: digests, seals, and errors that name."""

import errno
import json
import shutil

import pytest
import torch
from safetensors import SafetensorError

import resprout
from resprout.data import tokenizer as bpe
from resprout.data.tokens import TokenSet
from resprout.files import (
    DIGESTS,
    WriteError,
    check_digests,
    first_damage,
    is_unwritable,
    new_file,
    new_folder,
    writing,
)
from resprout.hub import hub_reason
from resprout.models.sizes import build, configuration
from resprout.seals import SEAL, seal_holds, sealed


def flip(path, at=0.5):
    data = bytearray(path.read_bytes())
    data[int(at * (len(data) - 1))] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["train.bin", "val.bin", "train.index.npy", "val.index.npy",
                                  "tokenizer.json", "tokenizer_config.json"])  # fmt: skip
def test_a_flipped_bit_in_prepared_data(tokens, tmp_path, name):
    hurt = tmp_path / "hurt"
    shutil.copytree(tokens.path, hurt)
    assert TokenSet.open(hurt).digest == tokens.digest
    flip(hurt / name)
    with pytest.raises(ValueError, match=rf"hurt/{name}' is damaged"):
        TokenSet.open(hurt)
    TokenSet.open(hurt, checked=True)  # whoever has just looked need not look again


def test_a_changed_figure_in_a_manifest(tokens, tmp_path):
    hurt = tmp_path / "hurt"
    shutil.copytree(tokens.path, hurt)
    manifest = json.loads((hurt / "manifest.json").read_text())
    manifest["splits"]["val"]["bytes"] += 1  # still JSON; bits per byte would be wrong
    (hurt / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"manifest\.json' is damaged"):
        TokenSet.open(hurt)


def test_manifests_of_earlier_versions_are_read(tokens, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(tokens.path, old)
    manifest = json.loads((old / "manifest.json").read_text())
    for name in (SEAL, "tokenizer_files"):
        del manifest[name]
    (old / "manifest.json").write_text(json.dumps(manifest))
    assert TokenSet.open(old).digest == tokens.digest
    flip(old / "train.bin")
    with pytest.raises(ValueError, match="damaged"):
        TokenSet.open(old)


def test_seals():
    values = sealed({"a": [1.5, {"b": "é"}], "c": None})
    assert seal_holds(values) and seal_holds(json.loads(json.dumps(values)))
    assert not seal_holds(values | {"c": 0})
    assert seal_holds({"a": 1})  # older files have none


def test_a_model_folder_that_changed(tmp_path):
    model = build(configuration("gpt-neox-nano", vocab_size=300), seed=0)
    cut = resprout.prune(model, "magnitude", 0.5)
    resprout.save(model, cut, tmp_path / "cut")
    assert first_damage(tmp_path / "cut") is None
    (tmp_path / "cut" / "README.md").write_text("the user's own")
    resprout.load(tmp_path / "cut")
    for name in ("model.safetensors", "cut.safetensors", "config.json"):
        hurt = tmp_path / name
        shutil.copytree(tmp_path / "cut", hurt)
        flip(hurt / name, 0.7)
        with pytest.raises(ValueError, match=name):
            resprout.load(hurt)
    flip(tmp_path / "cut" / "cut.safetensors", 0.9)
    with pytest.raises(ValueError, match=r"cut\.safetensors' is damaged.*remove digests\.json"):
        resprout.Cut.load(tmp_path / "cut")
    (tmp_path / "cut" / DIGESTS).unlink()  # as the message says
    resprout.Cut.load(tmp_path / "cut")


def test_digests_look_at_their_own_folder_only(tmp_path):
    (tmp_path / "secret").write_text("x")
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("../secret", str(tmp_path / "secret")):
        (folder / DIGESTS).write_text(json.dumps({name: {"bytes": 1, "sha256": "0" * 64}}))
        with pytest.raises(ValueError, match=rf"{DIGESTS}' is damaged"):
            check_digests(folder, "subject")
    for text in ("", "[]", '{"a": 1}', '{"a": {"bytes": "1"}}'):
        (folder / DIGESTS).write_text(text)
        (folder / "a").write_text("1")
        assert first_damage(folder) is not None


def test_what_is_there_meanwhile_is_kept(tmp_path):
    with pytest.raises(OSError, match="out"), new_folder(tmp_path / "out", replace=False) as made:
        (made / "mine").write_text("1")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs").write_text("2")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "theirs"]


def test_errors_name_what_was_to_be_written(tmp_path):
    with pytest.raises(OSError, match="No space") as caught, new_file(tmp_path / "a.json"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path / "a.json")
    assert is_unwritable(caught.value)
    assert not list(tmp_path.iterdir())
    for error, said in (
        (SafetensorError("I/O error: No space left"), "No space left"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos"), "a full disk"),
    ):
        expected = rf"^the model cannot be written \(.*{said}"
        with pytest.raises(WriteError, match=expected) as told, writing("the model"):
            raise error
        assert is_unwritable(told.value)
    for other in (torch.OutOfMemoryError("x"), MemoryError("x"), ValueError("x")):
        with pytest.raises(type(other), match="x"), writing("the model"):
            raise other
    assert not is_unwritable(FileNotFoundError(errno.ENOENT, "x"))


def test_a_tokenizer_is_written_whole(tokens, tmp_path, monkeypatch):
    """A run that is taken up again trusts the file that it finds."""
    monkeypatch.setattr("resprout.files.flush_to_disk", _full)
    with pytest.raises(OSError, match="No space"):
        bpe.save(tmp_path, tokens.tokenizer(), 0)
    assert not (tmp_path / bpe.TOKENIZER).exists()


def _full(path):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("status, words", [(401, "HF_TOKEN"), (404, "no such name"),
                                           (429, "later"), (503, "out of order")])  # fmt: skip
def test_what_the_hub_answers_in_words(status, words):
    inner = RuntimeError("inner")
    inner.response = type("Response", (), {"status_code": status})()
    outer = OSError("Can't load the model")
    outer.__cause__ = inner
    assert words in hub_reason(outer) and str(status) in hub_reason(outer)


def test_other_answers_in_words():
    assert "login" in hub_reason(json.JSONDecodeError("x", "", 0))
    assert "10 s" in hub_reason(TimeoutError("timed out"))
    assert hub_reason(OSError("something else")) == "something else"
