"""Gates on the heads of any registry-based attention: bits, saving, cutting, refusals."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config
from transformers.pytorch_utils import Conv1D

import resprout
from families import CONFIGURATIONS, GROUPED, STORIES, kept, logits, some_ids, subject, tiny
from resprout.models import agency
from resprout.models.description import skeleton
from resprout.pruning.adapters import adapter_for
from resprout.pruning.protocols import PROTOCOLS

# Those whose attention only its own eager function computes, and ours, which has no such function.
REFUSED = {"gemma2", "dendritic_biogpt", "dendritic_biogpt_two_pass"}
GATED = [name for name in (*CONFIGURATIONS, STORIES) if name not in REFUSED]
FEW = ["gpt2", "gpt_neox", "llama"]


def random_agency(name, seed=0):
    """A model with random gates, two states and a withdrawn consent."""
    model = agency.enable(subject(name))
    generator = torch.Generator().manual_seed(seed)
    for layer, heads in enumerate(agency.heads_of(model)):
        agency.set_gates(model, layer, torch.rand(len(heads.gates), generator=generator))
    agency.set_state(model, 0, 1, "overloaded")
    agency.set_state(model, 1, 2, "misaligned")
    agency.set_state(model, 1, 0, "withdrawn")
    agency.set_consent(model, 2, 3, False)
    return model


def scaled_by_hand(name, model):
    """The plain model, what each output projection reads multiplied by hooks."""
    plain = subject(name)
    modules = dict(plain.named_modules())
    for path, layer in model.config.agency["layers"].items():
        heads = dict(model.named_modules())[path].agency
        table = {"active": 1.0, "overloaded": 0.5, "misaligned": 0.7, "withdrawn": 0.0}
        states = ["active", "overloaded", "misaligned", "withdrawn"]
        factors = [
            gate * table[states[state]] * consent
            for gate, state, consent in zip(
                heads.gates.tolist(), heads.state.tolist(), heads.consent.tolist(), strict=True
            )
        ]

        def multiply(module, inputs, factors=factors):
            parts = inputs[0].chunk(len(factors), dim=-1)
            return (torch.cat([p * f for p, f in zip(parts, factors, strict=True)], dim=-1),)

        getattr(modules[path], layer["output"]).register_forward_pre_hook(multiply)
    return plain


@pytest.mark.parametrize("name", GATED)
def test_open_gates_change_no_bit_and_go_again(name):
    model = subject(name)
    before, kind = logits(model), type(model)
    attention = model.config._attn_implementation
    assert agency.enable(model) is model
    assert isinstance(model, kind)
    assert type(model) is not kind
    assert torch.equal(logits(model), before)
    assert agency.disable(model) is model
    assert type(model) is kind
    assert torch.equal(logits(model), before)
    assert model.config._attn_implementation == attention
    assert not hasattr(model.config, "agency")
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert not any("agency" in name for name in model.state_dict())


@pytest.mark.parametrize("name", GATED)
def test_factors_multiply_the_heads(name):
    model = random_agency(name)
    expected = logits(scaled_by_hand(name, model))
    torch.testing.assert_close(logits(model), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(expected, logits(subject(name)), atol=1e-3)
    agency.disable(model, fold=True)
    torch.testing.assert_close(logits(model), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FEW)
def test_whichever_attention_is_chosen_keeps_the_gates(name):
    model = random_agency(name)
    expected = logits(model)
    model.set_attn_implementation("eager")
    torch.testing.assert_close(logits(model), expected, rtol=1e-5, atol=1e-5)
    shown = model(some_ids(), output_attentions=True).attentions
    assert len(shown) == len(agency.heads_of(model))
    torch.testing.assert_close(shown[0].sum(-1), torch.ones(shown[0].shape[:-1]))
    agency.disable(model)
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize("name", GATED)
def test_saved_and_reloaded_to_the_bit(name, tmp_path):
    model = random_agency(name)
    agency.calibrate(model, some_ids(2, 4))
    resprout.save(model, None, tmp_path / "saved")
    again, _ = resprout.load(tmp_path / "saved")
    assert type(again) is type(model)
    assert torch.equal(logits(again), logits(model))
    assert agency.agency_report(again) == agency.agency_report(model)
    again.save_pretrained(tmp_path / "again")
    assert torch.equal(logits(resprout.load(tmp_path / "again")[0]), logits(model))
    plain = skeleton(again.config)
    assert {n: p.shape for n, p in plain.named_parameters()} == {
        n: p.shape for n, p in model.named_parameters()
    }


@pytest.mark.parametrize("name", [n for n in GATED if n != "gpt2"])
@pytest.mark.parametrize("head_unit", ["group", "query"])
def test_heads_go_with_their_gates(name, head_unit, tmp_path):
    if head_unit == "query" and name not in GROUPED:
        return
    masked, removed = random_agency(name), random_agency(name)
    options = {"head_unit": head_unit, "seed": 3, "scope": "per_layer"}
    resprout.prune(masked, "heads-random", 0.5, **options)
    cut = resprout.prune(removed, "heads-random", 0.5, cut="remove", **options)
    torch.testing.assert_close(logits(removed), logits(masked), rtol=1e-4, atol=1e-4)
    per_unit = len(agency.heads_of(masked)[0].gates) // cut.groups[0].count
    for heads, all_heads, group in zip(
        agency.heads_of(removed), agency.heads_of(masked), cut.groups, strict=True
    ):
        units = [u * per_unit + i for u in group.kept.tolist() for i in range(per_unit)]
        for part in ("gates", "state", "consent", "state_factor", "utilisation"):
            torch.testing.assert_close(
                getattr(heads, part), getattr(all_heads, part)[units], equal_nan=True
            )
        assert heads.entered.tolist() == all_heads.entered[:, units].tolist()
    resprout.save(removed, cut, tmp_path / "cut")
    again, _ = resprout.load(tmp_path / "cut")
    assert torch.equal(logits(again), logits(removed))
    agency.disable(removed, fold=True)
    torch.testing.assert_close(logits(removed), logits(again), rtol=1e-4, atol=1e-4)
    agency.calibrate(again, some_ids(2, 4))  # the heads' sizes agree everywhere


def test_uneven_layers_and_layers_that_go(tmp_path):
    model = random_agency("gpt2")
    agency.set_gates(model, 0, 0.01)
    cut = resprout.prune(model, "heads-gate", 0.4, scope="global", cut="remove")
    assert [len(g.kept) for g in cut.groups] != [len(cut.groups[0].kept)] * 3
    last = resprout.prune(model, "layers-random", 0.34, cut="remove", seed=1)
    assert len(agency.heads_of(model)) == len(model.config.agency["layers"]) == 2
    resprout.save(model, last, tmp_path / "cut")
    again, _ = resprout.load(tmp_path / "cut")
    assert torch.equal(logits(again), logits(model))
    # A cut model gets agency too.
    plain = subject("gpt2")
    resprout.prune(plain, "heads-random", 0.4, scope="global", cut="remove")
    before = logits(plain)
    agency.enable(plain)
    assert torch.equal(logits(plain), before)
    plain.save_pretrained(tmp_path / "later")
    later, _ = resprout.load(tmp_path / "later")
    assert torch.equal(logits(later), before)
    assert torch.equal(logits(agency.disable(later)), before)


def test_the_withdrawn_are_cut_first():
    model = agency.enable(subject("gpt2"))
    for layer, head in ((0, 3), (1, 0), (2, 2)):
        agency.set_state(model, layer, head, "withdrawn")
    before = logits(model)
    cut = resprout.prune(model, "heads-gate", 0.25, cut="remove")
    assert kept(cut) == [[0, 1, 2], [1, 2, 3], [0, 1, 3]]
    torch.testing.assert_close(logits(model), before, rtol=1e-5, atol=1e-5)


def test_gates_count_in_no_protocol():
    model = agency.enable(subject("llama"))
    names = adapter_for(model).prunable(PROTOCOLS["fair"])
    assert names
    assert not any("agency" in name for name in names)


@pytest.mark.parametrize("name", FEW)
def test_generation_with_cache_and_padding(name):
    plain, model = subject(name), agency.enable(subject(name))
    ids = some_ids(3, 2, 9)
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    expected = plain.generate(ids, attention_mask=mask, **options)
    assert torch.equal(model.generate(ids, attention_mask=mask, **options), expected)
    gated = random_agency(name)
    with_cache = gated.generate(ids, attention_mask=mask, **options)
    assert torch.equal(
        gated.generate(ids, attention_mask=mask, use_cache=False, **options), with_cache
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision(dtype):
    model = tiny("llama", dtype=dtype)
    before = logits(model)
    assert torch.equal(logits(agency.enable(model)), before)
    with torch.autocast("cpu", torch.bfloat16):
        plain, gated = tiny("gpt2"), agency.enable(tiny("gpt2"))
        assert torch.equal(logits(gated), logits(plain))


@pytest.mark.parametrize("name", FEW)
def test_another_model_of_its_configuration_changes_nothing(name):
    """Skeletons, made to count a model's operations, share its configuration."""
    model = random_agency(name).eval()
    before = logits(model)
    skeleton(model.config)
    assert model.config._attn_implementation == "agency_sdpa"
    assert torch.equal(logits(model), before)


def test_copies_are_independent():
    model = random_agency("gpt2")
    twin = copy.deepcopy(model)
    agency.set_gates(twin, 0, 0.0)
    assert not torch.equal(logits(twin), logits(model))
    agency.calibrate(twin, some_ids())
    assert agency.agency_report(model).step == 0
    assert agency.agency_report(twin).step == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", FEW)
def test_compiles_whole(name):
    model = random_agency(name)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        found = compiled(input_ids=some_ids(), use_cache=False).logits
    torch.testing.assert_close(found, logits(model), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "words"), [
    ("gemma2", "capped attention scores .softcap., which only eager attention computes"),
    ("dendritic_biogpt", "does not look its attention up in transformers' registry"),
])  # fmt: skip
def test_models_that_cannot_have_it(name, words):
    model = subject(name)
    before, attention = logits(model), model.config._attn_implementation
    with pytest.raises(ValueError, match=f"^model: .*{words}"):
        agency.enable(model.train())
    assert model.training
    assert model.config._attn_implementation == attention
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.equal(logits(model.eval()), before)


def test_more_models_that_cannot_have_it():
    config = GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=9, reorder_and_upcast_attn=True)
    with pytest.raises(ValueError, match="reorder_and_upcast_attn is a feature of eager"):
        agency.enable(AutoModelForCausalLM.from_config(config))
    model = agency.enable(subject("gpt2"))
    with pytest.raises(ValueError, match="has agency already"):
        agency.enable(model)
    for ask in (agency.disable, agency.agency_report, agency.heads_of):
        with pytest.raises(ValueError, match=r"has no agency; resprout\.models\.agency\.enable"):
            ask(subject("gpt2"))


@pytest.mark.parametrize(("do", "words"), [
    (lambda m: agency.set_gates(m, 0, 1.5), "gates: got 1.5, allowed is 0 to 1"),
    (lambda m: agency.set_gates(m, 0, [0.1, -0.25, 1, 1]), "gates: got -0.25, allowed is 0 to 1"),
    (lambda m: agency.set_gates(m, 0, float("nan")), "gates: got nan, allowed is 0 to 1"),
    (lambda m: agency.set_gates(m, 0, [0.1]), r"gates: got \(1,\), allowed is one or \(4,\)"),
    (lambda m: agency.set_gates(m, 3, 0.5), "layer: got 3, allowed is 0 to 2"),
    (lambda m: agency.set_state(m, 0, 4, "active"), "head: got 4, allowed is 0 to 3"),
    (lambda m: agency.set_state(m, -1, 0, "active"), "layer: got -1, allowed is 0 to 2"),
    (lambda m: agency.set_state(m, 0, 0, "withdrawm"),
     "state: got 'withdrawm', allowed are active, overloaded, misaligned, withdrawn.*withdrawn"),
    (lambda m: agency.calibrate(m, some_ids()[0]), r"ids: got \(12,\) of torch.int64"),
    (lambda m: agency.calibrate(m, some_ids().float()), r"ids: got \(2, 12\) of torch.float32"),
    (lambda m: agency.calibrate(m, some_ids() + 60), "ids: got .* allowed are the model's 0 to 60"),
    (lambda m: agency.calibrate(m, some_ids(length=65)), "ids: got windows of 65 tokens, .* 64"),
    (lambda m: agency.AgencyOptions(momentum=1), "momentum: got 1, allowed is 0 to below 1"),
    (lambda m: agency.AgencyOptions(overloaded_above=1.2), "overloaded_above: got 1.2, .* 0 to 1"),
    (lambda m: agency.AgencyOptions(misaligned_below="x"), "misaligned_below: got 'x'"),
    (lambda m: agency.AgencyOptions(recovery_steps=0), "recovery_steps: got 0, allowed is a whole"),
    (lambda m: agency.AgencyOptions(states=1), "states: got 1, allowed are True, False"),
])  # fmt: skip
def test_refused(do, words):
    model = agency.enable(subject("gpt2"))
    before = logits(model)
    with pytest.raises(ValueError, match=words):
        do(model)
    assert torch.equal(logits(model), before)


def test_output_projections_are_found_by_what_reads_the_heads():
    for name in GATED:
        model = agency.enable(subject(name))
        projections = {
            id(group.outputs[0][0]): group for group in adapter_for(model).groups("head")
        }
        for path, layer in model.config.agency["layers"].items():
            module = dict(model.named_modules())[path]
            found = getattr(module, layer["output"])
            assert id(found) in projections
            assert isinstance(found, torch.nn.Linear | Conv1D)
