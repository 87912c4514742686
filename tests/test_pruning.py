"""Cuts: which weights may go, which went, and that the cut survives the disk."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    LlamaConfig,
    LlamaForCausalLM,
)

import resprout
from resprout.models.biogpt import BioGPTConfig
from resprout.models.description import skeleton
from resprout.models.sizes import build, configuration
from resprout.pruning.adapters import adapter_for
from resprout.pruning.protocols import PROTOCOLS


def prunable_count(model, protocol="fair"):
    return sum(p.numel() for p in adapter_for(model).prunable(PROTOCOLS[protocol]).values())


def small_biogpt(**changes):
    shape = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 3,
             "max_position_embeddings": 16}  # fmt: skip
    return build(BioGPTConfig(**(shape | changes)), seed=0)


def test_prunable_of_the_published_biogpt():
    model = skeleton(BioGPTConfig())
    assert prunable_count(model, "paper") == 254_803_968  # FACTS: published, head included
    head, feedback = 50_304 * 768, 4 * 3 * 768 * 768
    assert prunable_count(model, "fair") == 254_803_968 - head - feedback


def test_prunable_of_pythia_160m():
    config = GPTNeoXConfig(
        vocab_size=50_304,
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
    )
    model = skeleton(config)
    assert sum(p.numel() for p in model.parameters()) == 162_322_944
    for protocol in PROTOCOLS:  # its head was not cut in the published study
        assert prunable_count(model, protocol) == 12 * 12 * 768 * 768 == 84_934_656


def test_prunable_by_role():
    names = adapter_for(small_biogpt()).prunable(PROTOCOLS["fair"])
    assert "model.layers.0.neurons.0.temporal_conv.weight" in names
    assert "model.layers.0.neuron_projs.1.weight" in names
    for out in ("token_emb", "pos_emb", "lm_head", "bias", "norm", "nmda", "feedback", "ln_"):
        assert not [name for name in names if out in name], out


def test_tied_and_transposed_weights_count_once():
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=8)
    )
    names = adapter_for(model).prunable(PROTOCOLS["fair"])
    assert sorted({name.split(".", 3)[3] for name in names}) == [
        "attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight",
    ]  # fmt: skip
    assert prunable_count(model) == 2 * 12 * 16 * 16


def test_family_without_blocks_is_refused():
    model = small_biogpt()
    model.config.num_hidden_layers = 7
    with pytest.raises(ValueError, match="no list of 7 blocks"):
        resprout.prune(model, "magnitude", 0.5)


@pytest.mark.parametrize("amount", [0, 0.25, 0.5, 1])
def test_exactly_what_was_asked_goes(amount):
    model = build(configuration("gpt-neox-nano", vocab_size=300), seed=0)
    before = {name: p.clone() for name, p in model.named_parameters()}
    cut = resprout.prune(model, "magnitude", amount)
    assert cut.requested == amount
    assert cut.prunable == prunable_count(model)
    assert cut.kept == cut.prunable - round(amount * cut.prunable)
    assert cut.achieved == pytest.approx(amount, abs=1 / cut.prunable)
    for name, parameter in model.named_parameters():
        mask = cut.masks.get(name, torch.ones_like(parameter, dtype=torch.bool))
        assert torch.equal(parameter, before[name].masked_fill(~mask, 0)), name
    if 0 < amount < 1:
        went = torch.cat([before[n][~m].abs() for n, m in cut.masks.items()]).max()
        stayed = torch.cat([before[n][m].abs() for n, m in cut.masks.items()]).min()
        assert went <= stayed


def test_a_dead_neuron_goes_whole():
    model = small_biogpt()
    neuron = model.model.layers[1].neurons[2]
    projection = model.model.layers[1].neuron_projs[2]
    with torch.no_grad():
        for parameter in [*neuron.parameters(), *projection.parameters()]:
            parameter.mul_(1e-3).add_(1e-6)  # the smallest of all, biases not zero
    own = sum(p.numel() for p in [*neuron.parameters(), *projection.parameters()] if p.ndim > 1)
    amount = 0.97 * (own - neuron.nmda_decay.numel()) / prunable_count(model)
    cut = resprout.prune(model, "magnitude", amount, dead_threshold=0.95)
    assert cut.dead_units == ["layer 1 neuron 2"]
    assert cut.achieved > cut.requested
    for parameter in [*neuron.parameters(), *projection.parameters()]:
        assert not parameter.any()
    assert cut.removed > cut.prunable - cut.kept  # biases, norms and decays too
    zeros = sum(int((p == 0).sum()) for n, p in model.named_parameters() if n in cut.masks)
    born_zero = sum(  # start values: biases that live are zero too, but are not held
        int(((model.get_parameter(n) == 0) & m).sum()) for n, m in cut.masks.items()
    )
    assert zeros - born_zero == cut.removed


def test_no_neuron_dies_below_the_threshold():
    model = small_biogpt()
    assert resprout.prune(model, "magnitude", 0.5, dead_threshold=0.95).dead_units == []


def test_all_neurons_die_at_amount_one():
    model = small_biogpt()
    cut = resprout.prune(model, "magnitude", 1.0, dead_threshold=0.95)
    assert len(cut.dead_units) == 7
    ids = torch.randint(50, (1, 6))
    states = model(input_ids=ids, output_hidden_states=True).hidden_states
    passed_on = model.model.ln_f(states[0])  # the last of the states is after the final norm
    torch.testing.assert_close(states[-1], passed_on)  # every layer passes its input on


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("magnitud", 0.5), "did you mean 'magnitude'"),
        (("magnitude", 45), "did you mean 0.45"),
        (("magnitude", -1), "amount: got -1"),
    ],
)
def test_bad_arguments_leave_the_model_alone(arguments, message):
    model = small_biogpt()
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(ValueError, match=message):
        resprout.prune(model, *arguments)
    for options in ({"protocol": "unfair"}, {"dead_threshold": 2}):
        with pytest.raises(ValueError, match=next(iter(options))):
            resprout.prune(model, "magnitude", 0.5, **options)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_nan_weights_leave_the_model_alone():
    model = small_biogpt()
    with torch.no_grad():
        model.model.layers[0].neurons[0].qkv.weight[0, 0] = float("nan")
    before = model.model.layers[1].neurons[0].qkv.weight.clone()
    with pytest.raises(ValueError, match="NaN"):
        resprout.prune(model, "magnitude", 0.5)
    assert torch.equal(before, model.model.layers[1].neurons[0].qkv.weight)


def test_saved_and_loaded_is_the_same(tmp_path):
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=40,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=16,
        )
    )
    cut = resprout.prune(model, "magnitude", 0.37)
    resprout.save(model, cut, tmp_path / "pruned")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "pruned")
    for (name, a), b in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b), name
    loaded = resprout.Cut.load(tmp_path / "pruned")
    assert loaded.manifest() == cut.manifest()
    for name, mask in cut.masks.items():
        assert torch.equal(mask, loaded.masks[name])
    bits = sum(-(-mask.numel() // 8) for mask in cut.masks.values())
    assert (tmp_path / "pruned" / "cut.safetensors").stat().st_size < bits + 4096


def test_save_never_overwrites(tmp_path):
    model = small_biogpt()
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="there' exists"):
        resprout.save(model, None, tmp_path / "there")
    assert (tmp_path / "there" / "thesis.txt").read_text() == "years of work"


def test_a_cut_that_does_not_belong_is_refused(tmp_path):
    resprout.prune(small_biogpt(), "magnitude", 0.5).save(tmp_path / "a")
    resprout.prune(small_biogpt(hidden_size=12), "magnitude", 0.5).save(tmp_path / "b")
    (tmp_path / "a" / "cut.safetensors").replace(tmp_path / "b" / "cut.safetensors")
    with pytest.raises(ValueError, match="does not belong"):
        resprout.Cut.load(tmp_path / "b")
    with pytest.raises(ValueError, match="holds no cut"):
        resprout.Cut.load(tmp_path / "a")


def test_a_real_model(shared, tmp_path):
    """stories260K: a cut model of the Hub's kind loads by both ways and still tells its story."""
    model, tokenizer = resprout.load(shared / "models" / "stories260K")
    cut = resprout.prune(model, "magnitude", 0.2)
    resprout.save(model, cut, tmp_path / "pruned", tokenizer=tokenizer)
    again, words = resprout.load(tmp_path / "pruned")
    ids = words("Once upon a time", return_tensors="pt").input_ids
    with torch.inference_mode():
        assert torch.equal(model(ids).logits, again(ids).logits)
    story = words.decode(again.generate(ids, max_new_tokens=30, do_sample=False)[0])
    assert "there was" in story
