"""The shape of a model to train, by any name, with the vocabulary of the data."""

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from biogpt_models import tiny
from resprout.models.biogpt.published import write_published
from resprout.models.description import parameter_total, skeleton
from resprout.models.shapes import training_configuration
from resprout.models.sizes import SIZES, build, configuration


@pytest.mark.parametrize("name", SIZES)
def test_a_size_with_the_datas_vocabulary(name):
    config = training_configuration(name, 300, end_of_text=299)
    expected = configuration(name, vocab_size=300, bos_token_id=299, eos_token_id=299)
    assert type(config) is type(expected)
    assert config.to_dict() == expected.to_dict()
    assert config.pad_token_id is None


def test_gpt2_is_the_published_one_without_the_hub():
    config = training_configuration("gpt2", 50257, end_of_text=50256)
    assert isinstance(config, GPT2Config)
    assert parameter_total(skeleton(config)) == 124_439_808  # as OpenAI's, head tied
    assert config.max_position_embeddings == 1024
    assert training_configuration("gpt2", 300, end_of_text=0).vocab_size == 300


def test_changes():
    config = training_configuration(
        "biogpt-nano", 300, end_of_text=0, n_passes=2, soma_ffn_expansion=2.0
    )
    assert (config.n_passes, config.soma_expansion, config.soma_width) == (2, 2.0, 144)
    untouched = training_configuration("biogpt-nano", 300, end_of_text=0, n_passes=None)
    assert untouched.n_passes == 1
    for name in ("biogpt-nano", "gpt-neox-nano", "llama-nano", "gpt2-nano", "gpt2"):
        changed = training_configuration(name, 300, end_of_text=0, max_position_embeddings=77)
        assert changed.max_position_embeddings == 77


def test_a_folder_gives_its_shape_alone(tmp_path):
    config = LlamaConfig(
        vocab_size=99, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, bos_token_id=1, eos_token_id=[2, 3],
        pad_token_id=0, tie_word_embeddings=True,
    )  # fmt: skip
    config.save_pretrained(tmp_path)  # no weights
    got = training_configuration(str(tmp_path), 300, end_of_text=7)
    assert (got.vocab_size, got.bos_token_id, got.eos_token_id) == (300, 7, 7)
    for field in ("hidden_size", "intermediate_size", "num_key_value_heads", "tie_word_embeddings"):
        assert getattr(got, field) == getattr(config, field)
    # A token named as padding has no gradient in Llama; the end of text has to be learned.
    model = build(got, seed=0)
    ids = torch.tensor([[7, 5]])
    model(input_ids=ids, labels=ids).loss.backward()
    assert model.get_input_embeddings().weight.grad[7].any()


def test_a_checkpoint_gives_its_shape_without_its_history(tmp_path):
    write_published(tiny(), tmp_path / "x.pt")
    config = training_configuration(str(tmp_path / "x.pt"), 300, end_of_text=0)
    assert (config.vocab_size, config.hidden_size) == (300, 48)
    assert getattr(config, "published", None) is None


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("biogpt-nan", {}, "^model: 'biogpt-nan' is neither .*did you mean 'biogpt-nano'"),
        (".", {}, "^model: '.' is neither a model folder"),
        ("gpt2", {"n_passes": 2}, "n_passes: got 2, only a BioGPT has it, 'gpt2' is gpt2"),
        ("llama-nano", {"soma_ffn_expansion": 2.0}, "soma_ffn_expansion: got 2.0, only a BioGPT"),
        ("biogpt-nano", {"n_passes": 3}, "n_passes: got 3, allowed are 1 and 2"),
        ("gpt2", {"max_position_embeddings": 0}, "max_position_embeddings: got 0, allowed"),
        ("gpt2", {"no_such": 1}, "no_such: got 1, 'gpt2' .* has no such field"),
        ("gpt2", {"end_of_text": 300}, "end_of_text: got 300, allowed are 0 to .* 299"),
    ],
)
def test_mistakes(name, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        training_configuration(name, 300, **({"end_of_text": 0} | options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["llama-nano", "gpt2-nano"])
def test_saved_and_loaded_equal(name, tmp_path):
    model = build(training_configuration(name, 300, end_of_text=0), seed=0)
    model.save_pretrained(tmp_path)
    again, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    ours, theirs = model.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    head, table = again.get_output_embeddings().weight, again.get_input_embeddings().weight
    assert head.data_ptr() != table.data_ptr()  # untied, and still so
