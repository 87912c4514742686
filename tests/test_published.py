"""Published checkpoints: read exactly and safely, and written back."""

import os

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import resprout
from biogpt_models import tiny
from resprout.models.biogpt.published import read_published, write_published
from resprout.models.convert import convert

NAMES = ["biogpt_original_tiny", "biogpt_original_tiny_two_pass"]


def checkpoint_of(model, **changes):
    """What the published program saves."""
    config = model.config
    fields = {
        "vocab_size": config.vocab_size,
        "d_model": config.hidden_size,
        "n_layers": config.num_hidden_layers,
        "soma_ffn_expansion": 3.0,
        "dropout": 0.0,
        "nmda_tau": 0.9,
        "max_seq_len": config.max_position_embeddings,
        "n_passes": config.n_passes,
        "cortical_layout": None,
        "feedback_pairs": [tuple(pair) for pair in config.feedback_pairs],
        "use_checkpoint": True,
    }
    state = {n.removeprefix("model."): t for n, t in model.state_dict().items()}
    return {
        "step": 3,
        "model_state_dict": state,
        "optimizer_state_dict": {},
        "val_loss": 4.5,
        "config": fields,
        "tokens_processed": 99,
    } | changes


@pytest.mark.parametrize("name", NAMES)
def test_load_reads_the_original_checkpoint(shared, name):
    model, tokenizer = resprout.load(shared / "fixtures" / f"{name}.pt")
    expected = load_file(shared / "fixtures" / f"{name}.safetensors")
    assert tokenizer is None
    assert not model.training
    with torch.inference_mode():
        logits = model(input_ids=expected["input_ids"]).logits
    torch.testing.assert_close(logits, expected["logits"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_converted_there_and_back_is_the_same(shared, tmp_path, name):
    source = shared / "fixtures" / f"{name}.pt"
    lines = convert(str(source), tmp_path / "model")
    assert "tokens_processed" in lines[1]
    expected = load_file(shared / "fixtures" / f"{name}.safetensors")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    with torch.inference_mode():
        logits = model(input_ids=expected["input_ids"]).logits
    torch.testing.assert_close(logits, expected["logits"], atol=1e-4, rtol=0)
    convert(str(tmp_path / "model"), tmp_path / "again.pt")
    before = torch.load(source, weights_only=True)
    after = torch.load(tmp_path / "again.pt", weights_only=True)
    assert after.keys() == before.keys()
    for key in ("step", "val_loss", "config", "tokens_processed"):
        assert after[key] == before[key]
    assert list(after["model_state_dict"]) == list(before["model_state_dict"])
    for weight, tensor in before["model_state_dict"].items():
        assert torch.equal(after["model_state_dict"][weight], tensor)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module."])
def test_wrapped_names_are_understood(tmp_path, prefix):
    model = tiny()
    checkpoint = checkpoint_of(model)
    checkpoint["model_state_dict"] = {
        prefix + name: tensor for name, tensor in checkpoint["model_state_dict"].items()
    }
    torch.save(checkpoint, tmp_path / "x.pt")
    ids = torch.randint(61, (1, 5))
    got = read_published(tmp_path / "x.pt").eval()
    torch.testing.assert_close(got(input_ids=ids).logits, model(input_ids=ids).logits)
    assert all(parameter.requires_grad for parameter in got.parameters())


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_execute_code_is_refused(tmp_path):
    torch.save({"config": Evil(tmp_path / "harm")}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match=r"evil\.pt: refused.*execute code \(.*mkdir"):
        resprout.load(tmp_path / "evil.pt")
    assert not (tmp_path / "harm").exists()


def changed(**fields):
    def change(checkpoint):
        checkpoint["config"].update(fields)

    return change


def without(key, inside=None):
    def change(checkpoint):
        del (checkpoint[inside] if inside else checkpoint)[key]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("config"), "no dict 'config'"),
        (without("model_state_dict"), "no dict 'model_state_dict'"),
        (without("d_model", "config"), "config lacks 'd_model'"),
        (changed(colour="red"), "unknown field 'colour'"),
        (changed(n_layers=0), "num_hidden_layers: got 0"),
        (changed(n_layers="six"), "num_hidden_layers: got 'six'"),
        (changed(n_layers=4097), "num_hidden_layers: got 4097, .* up to 4096"),
        (changed(vocab_size=10**30), "vocab_size: got 1000"),
        (changed(soma_ffn_expansion=1e300), r"soma_expansion: got 1e\+300"),
        (changed(cortical_layout=[[[2**24, 2**24]]] * 6), "whose product is up to 16777216"),
        (lambda c: c["model_state_dict"].update({3: torch.ones(1)}), "has the key 3, allowed"),
        (changed(cortical_layout=5), "cortical_layout: got 5"),
        (changed(vocab_size=62), r"token_emb.weight is \[61, 48\], needed is \[62, 48\]"),
        (without("ln_f.weight", "model_state_dict"), "lacks ln_f.weight"),
        (changed(n_passes=2), "lacks pass_weights"),
        (lambda c: c["model_state_dict"].update(extra=torch.ones(1)), "unknown extra"),
        (lambda c: c["model_state_dict"].update({"ln_f.weight": 3}), "ln_f.weight is int"),
    ],
)
def test_what_is_no_such_checkpoint_is_refused(tmp_path, change, message):
    checkpoint = checkpoint_of(tiny())
    change(checkpoint)
    torch.save(checkpoint, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=message):
        resprout.load(tmp_path / "x.pt")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 damaged"])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.pt: (not a file of torch|refused)"):
        resprout.load(tmp_path / "x.pt")


def test_a_file_that_is_not_there():
    with pytest.raises(ValueError, match=r"there is no file 'nosuch\.pt'"):
        resprout.load("nosuch.pt")


def test_what_the_published_program_does_not_know_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="nmda: got 'trace'"):
        write_published(tiny(nmda="trace"), tmp_path / "x.pt")
    assert list(tmp_path.iterdir()) == []


def test_convert_refuses_what_exists_and_what_does_not_fit(tmp_path, shared):
    (tmp_path / "there.pt").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    source = str(shared / "fixtures" / f"{NAMES[0]}.pt")
    for out in ("there.pt", "full"):
        with pytest.raises(ValueError, match="exists"):
            convert(source, tmp_path / out)
    with pytest.raises(ValueError, match="holds a BioGPT"):
        convert(str(shared / "models" / "stories260K"), tmp_path / "llama.pt")
    with pytest.raises(ValueError, match="no place"):
        convert(source, tmp_path / "y.pt", tokenizer="gpt2")
    assert (tmp_path / "there.pt").read_text() == "mine"


def test_convert_puts_a_tokenizer_beside_the_model(tmp_path, shared, caplog):
    source = str(shared / "fixtures" / f"{NAMES[0]}.pt")
    convert(source, tmp_path / "out", tokenizer=str(shared / "models" / "stories260K"))
    assert caplog.text == ""  # nothing is missing that was not given
    model, tokenizer = resprout.load(tmp_path / "out")
    assert tokenizer is not None
    assert model.config.model_type == "dendritic_biogpt"
