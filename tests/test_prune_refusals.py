"""What `prune` refuses: in one line, by name, before a weight is changed."""

import re

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    CodeGenConfig,
    GPT2Config,
    OPTConfig,
)
from transformers.utils.quantization_config import BitsAndBytesConfig

import resprout
from families import CONFIGURATIONS, RANDOM, D, V, bits, same_bits, some_ids, tiny
from resprout.pruning.adapters import adapter_for

IDS = some_ids(batch=3)
NAN = float("nan")
WORDS = {
    "head": "heads",
    "glu_neuron": "GLU neurons",
    "mlp_neuron": "MLP neurons",
    "branch": "branches",
    "neuron": "neurons",
    "layer": "layers",
}


def refused(model, message, *arguments, **options):
    """Refused by that message; nothing has changed."""
    before, config, kind = bits(model), model.config.to_dict(), type(model)
    with pytest.raises(ValueError, match=message) as caught:
        resprout.prune(model, *arguments, **options)
    assert "\n" not in str(caught.value)
    assert same_bits(model, before)
    assert model.config.to_dict() == config
    assert type(model) is kind
    return str(caught.value)


@pytest.mark.parametrize(
    "method", ["magnitude", "glu-maw", "heads-random", "layers-random", "wanda"]
)
@pytest.mark.parametrize(
    ("amount", "message"),
    [
        (40, "amount: got 40, allowed is a fraction from 0 to 1; did you mean 0.4?"),
        (40.5, "did you mean 0.405?"),
        (1.5, "did you mean 0.015?"),
        (-1, "amount: got -1, allowed is a fraction from 0 to 1"),
        (-1e-9, "amount: got -1e-09"),
        (101, "amount: got 101, allowed is a fraction from 0 to 1"),
        (NAN, "amount: got nan"),
        (float("inf"), "amount: got inf"),
        ("0.5", "amount: got '0.5', allowed is a number from 0 to 1"),
        (True, "amount: got True, allowed is a number"),
        (torch.tensor(0.5), "amount: got tensor"),
        (None, "amount: missing, needed is a fraction from 0 to 1"),
    ],
)
def test_amounts(method, amount, message):
    refused(tiny("llama"), re.escape(message), method, amount, calibration=IDS)


REFUSALS = [
    # Methods, scopes, kinds of cut.
    ({"method": "glu-wow"}, r"method: got 'glu-wow'.*did you mean 'glu-"),
    ({"method": "magnitude", "scope": "row"}, "scope: got 'row', allowed for magnitude"),
    ({"method": "layers-random", "scope": "per_layer"}, "allowed for layers-random are"),
    ({"method": "glu-maw", "scope": "2:4"}, "scope: got '2:4', allowed for glu-maw"),
    ({"method": "sparsegpt", "scope": "global"}, "allowed for sparsegpt are per_layer, a"),
    ({"method": "magnitude", "scope": "N:M"}, "scope: got 'N:M'"),
    ({"method": "wanda-2:4", "scope": "1:4"}, "but the method 'wanda-2:4' says 2:4"),
    ({"method": "4:2", "amount": None}, "pattern: got '4:2'"),
    ({"method": "0:4", "amount": None}, "pattern: got '0:4'"),
    ({"method": "magnitude", "cut": "removal"}, "cut: got 'removal', allowed are mask, re"),
    ({"method": "magnitude", "cut": "remove"}, "cuts single weights, which leave no small"),
    ({"method": "2:4", "amount": None, "cut": "remove"}, "2:4 cuts single weights"),
    # Patterns say how much goes.
    ({"method": "2:4", "amount": 0.4}, "amount: got 0.4, but the pattern 2:4 cuts 0.5"),
    ({"method": "1:4", "amount": 0.25}, "but the pattern 1:4 cuts 0.75"),
    ({"method": "wanda", "scope": "4:8", "amount": 50}, "did you mean 0.5"),
    ({"method": "2:4", "amount": None, "expansion_rate": 50}, "not allowed with the patte"),
    # Expansion rates.
    ({"expansion_rate": 63, "amount": None}, "at most the present 62.5"),
    ({"expansion_rate": 50}, "amount: got 0.5 with expansion_rate 50, allowed is one"),
    ({"expansion_rate": -3, "amount": None}, "expansion_rate: got -3"),
    ({"expansion_rate": "50", "amount": None}, "expansion_rate: got '50'"),
    ({"expansion_rate": 50, "amount": None, "scope": "global"}, "with the scope per_layer"),
    ({"method": "heads-random", "expansion_rate": 50, "amount": None}, "cuts heads"),
    ({"method": "magnitude", "expansion_rate": 50, "amount": None}, "cuts weights"),
    # Other options.
    ({"round_to": 0}, "round_to: got 0"),
    ({"round_to": 2.0}, "round_to: got 2.0"),
    ({"method": "heads-random", "round_to": 2}, "only for neurons of an MLP"),
    ({"head_unit": "head"}, "head_unit: got 'head', allowed are group, query"),
    ({"method": "heads-random", "head_unit": "query", "scope": "global"}, "got 'global' w"),
    ({"method": "heads-random", "head_unit": "query"}, "scope: got 'global'"),
    ({"protocol": "unfair"}, "protocol: got 'unfair', allowed are fair, paper"),
    ({"seed": -1}, "seed: got -1"),
    ({"seed": 0.5}, "seed: got 0.5"),
    ({"method": "magnitude", "dead_threshold": 2}, "dead_threshold: got 2"),
    ({"method": "magnitude", "dead_threshold": NAN}, "dead_threshold: got nan"),
    ({"method": "magnitude", "dead_threshold": True}, "dead_threshold: got True"),
    ({"dead_threshold": 0.9}, "only where single weights are cut, glu-maw"),
    ({"method": "magnitude", "dead_unit": "head"}, "without a dead_threshold"),
    ({"method": "magnitude", "dead_threshold": 0.9, "dead_unit": "layer"}, "allowed are h"),
    ({"method": "magnitude", "dead_threshold": 0.9, "dead_unit": "branch"}, "'branch', al"),
    ({"method": "heads-gate"}, "needs a gate per head, LlamaForCausalLM has none"),
    # Calibration.
    ({"method": "wanda"}, "calibration: missing, wanda needs text"),
    ({"method": "sparsegpt-2:4", "amount": None}, "missing, sparsegpt-2:4 needs"),
    ({"method": "heads-entropy"}, "calibration: missing, heads-entropy"),
    ({"method": "layers-influence"}, "calibration: missing, layers-influence"),
    ({"method": "wanda", "calibration": IDS + V}, "is in another vocabulary: its ids go up"),
    ({"method": "wanda", "calibration": IDS - 9}, "calibration: got the id -"),
    ({"method": "wanda", "calibration": IDS[:, :1]}, "windows of 1 tokens, allowed are 2"),
    ({"method": "wanda", "calibration": torch.ones(2, 65).long()}, "the model has 64 pos"),
    ({"method": "wanda", "calibration": IDS.float()}, "allowed are whole numbers"),
    ({"method": "wanda", "calibration": IDS[:0]}, "calibration: got"),
    ({"method": "wanda", "calibration": ["a text"]}, "tokenizer: got none"),
    ({"method": "wanda", "calibration": "stdlib"}, "which is no prepared folder"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), REFUSALS)
def test_options(options, message):
    options = {"method": "glu-maw", "amount": 0.5} | options
    method, amount = options.pop("method"), options.pop("amount")
    refused(tiny("llama"), message, method, amount, **options)


def test_sparsegpt_keeps_to_the_blocks():
    options = {"protocol": "paper", "calibration": IDS}
    refused(tiny("dendritic_biogpt"), "allowed is 'fair'", "sparsegpt", 0.5, **options)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_units_that_a_family_has_not(name):
    model = tiny(name)
    own = adapter_for(model).kinds
    for kind in RANDOM.keys() - set(own):
        said = refused(model, f"has no {WORDS[kind]} that are known here", RANDOM[kind], 0.5)
        assert model.config.model_type in said
        assert model.config.model_type in said
        assert all(WORDS[each] in said for each in own)


@pytest.mark.parametrize(
    "config",
    [
        BloomConfig(vocab_size=V, hidden_size=D, n_layer=2, n_head=4),
        CodeGenConfig(vocab_size=V, n_embd=D, n_layer=2, n_head=4, rotary_dim=4, n_positions=64),
    ],
    ids=["bloom", "codegen"],
)
def test_an_unknown_family_has_weights_only(config):
    model = AutoModelForCausalLM.from_config(config).eval()
    for kind, method in RANDOM.items():
        said = refused(model, f"has no {WORDS[kind]} that are known here", method, 0.5)
        assert config.model_type in said
        assert "only its weights can be cut" in said
    refused(model, "dead_unit: got 'head', allowed are none", "magnitude", 0.5,
            dead_threshold=0.9, dead_unit="head")  # fmt: skip
    for method in ("magnitude", "wanda-2:4", "sparsegpt"):
        amount = None if ":" in method else 0.5
        cut = resprout.prune(model, method, amount, calibration=IDS)
        assert cut.achieved == pytest.approx(0.5, abs=0.01)
        for name, mask in cut.masks.items():
            assert not model.get_parameter(name)[~mask].any()


@pytest.mark.parametrize(
    "settings", [{"quant_method": "gptq"}, BitsAndBytesConfig(load_in_8bit=True)]
)
def test_quantised_weights(settings):
    model = tiny("llama")
    model.config.quantization_config = settings
    for method in ("magnitude", "glu-maw"):
        before = bits(model)
        with pytest.raises(ValueError, match=r"its weights are quantised \((gptq|bitsandbytes)\)"):
            resprout.prune(model, method, 0.5)
        assert same_bits(model, before)


def test_layers_that_compute_by_their_place():
    places = GPT2Config(vocab_size=V, n_embd=D, n_layer=2, n_head=4, n_positions=64,
                        scale_attn_by_inverse_layer_idx=True)  # fmt: skip
    after = OPTConfig(vocab_size=V, hidden_size=D, num_hidden_layers=2, num_attention_heads=4,
                      ffn_dim=48, max_position_embeddings=64, word_embed_proj_dim=D,
                      do_layer_norm_before=False)  # fmt: skip
    for config, reason in ((places, "by their place"), (after, "norms after each layer")):
        model = AutoModelForCausalLM.from_config(config)
        refused(model, reason, "layers-random", 0.5)
        assert resprout.prune(model, "heads-random", 0.5).achieved == 0.5


def test_cuts_of_another_model():
    model, other = tiny("llama"), tiny("gpt2")
    cut = resprout.prune(other, "magnitude", 0.5)
    refused(model, "does not fit this model", "magnitude", 0.6, previous=cut)
    narrow = tiny("qwen3")
    thin = resprout.prune(narrow, "heads-random", 0.5)
    refused(model, "does not fit this model", "glu-maw", 0.6, previous=thin)
    own = resprout.prune(tiny("llama", seed=1), "magnitude", 0.5)
    refused(model, "that it cut are not zero", "magnitude", 0.6, previous=own)
    refused(model, "that it cut are not zero", "glu-maw", 0.6, previous=own)


def test_removals_of_another_model():
    model, other = tiny("llama"), tiny("llama", seed=1)
    own = resprout.prune(model, "glu-maw", 0.5, cut="remove")
    theirs = resprout.prune(other, "glu-maw", 0.25, cut="remove")
    message = "the manifest of another model: it left 45 GLU neurons in 3 groups.* has 30 in 3"
    refused(model, message, "magnitude", 0.5, previous=theirs)
    layers = resprout.prune(tiny("gpt2"), "layers-random", 0.4, cut="remove")
    refused(tiny("gpt2"), "it left 2 layers", "magnitude", 0.5, previous=layers)
    refused(tiny("dendritic_biogpt"), "has no GLU neurons", "magnitude", 0.5, previous=theirs)
    assert resprout.prune(model, "magnitude", 0.5, previous=own).earlier == own.history()


def test_what_cannot_be_removed():
    def check(model, cut, message):
        before = bits(model)
        with pytest.raises(ValueError, match=message):
            resprout.remove(model, cut)
        assert same_bits(model, before)

    model = tiny("llama")
    check(model, resprout.prune(model, "magnitude", 0.5), "magnitude cut single weights")
    gone = tiny("llama")
    cut = resprout.prune(gone, "heads-random", 0.5, cut="remove")
    check(gone, cut, "removed already")
    masked = resprout.prune(tiny("llama"), "heads-random", 0.5)
    check(tiny("gpt2"), masked, "does not fit this model|not those of this")
    check(tiny("llama", seed=2), masked, "are not zero")
    check(gone, masked, "does not fit this model|not those of this")


def test_windows_and_positions():
    """A window as long as the model's positions is fine, one token more is not."""
    model = tiny("gpt2")
    assert resprout.prune(model, "wanda", 0.1, calibration=torch.ones(1, 64).long()).kept
    refused(model, "64 positions", "wanda", 0.1, calibration=torch.ones(1, 65).long())
