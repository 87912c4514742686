"""Utilisation, alignment, states, violations: against slow definitions, and when they may move."""

import math

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from families import STORIES, logits, same_bits, some_ids, subject
from resprout.models import agency
from resprout.models.modeling_head_agency import HeadAgency
from resprout.models.modeling_states import update
from resprout.pruning.adapters import adapter_for
from resprout.pruning.statistics import head_entropies

NAMES = ["gpt2", "gpt_neox", "llama", "mistral", "phi3", STORIES]
FEW = ["gpt2", "gpt_neox", "llama"]


def watched(name, **options):
    return agency.enable(subject(name), agency.AgencyOptions(**options))


@pytest.mark.parametrize("name", NAMES)
def test_utilisation_is_one_minus_the_normalised_entropy(name):
    """As the entropy that heads are scored by, which eager attention shows."""
    ids = some_ids(4, 3, 30)
    plain = subject(name)
    groups = adapter_for(plain).groups("head", "query")
    expected = [1 - found for found in head_entropies(plain, groups, ids)]
    model = watched(name, states=False)
    agency.calibrate(model, ids)
    for heads, truth in zip(agency.heads_of(model), expected, strict=True):
        torch.testing.assert_close(heads.utilisation, truth, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_alignment_by_its_definition(name):
    """(1 + cosine of what a head adds to its layer's output and that output) / 2, one by one."""
    ids = some_ids(4, 2, 12)
    model = watched(name, states=False)
    agency.set_gates(model, 1, torch.linspace(0.1, 1, len(agency.heads_of(model)[1].gates)))
    seen = {}
    for path, layer in model.config.agency["layers"].items():
        module = dict(model.named_modules())[path]
        getattr(module, layer["output"]).register_forward_pre_hook(
            lambda m, inputs, path=path: seen.__setitem__(path, (m, inputs[0].detach().clone()))
        )
    agency.calibrate(model, ids)
    for path, layer in model.config.agency["layers"].items():
        heads = dict(model.named_modules())[path].agency
        projection, read = seen[path]
        matrix = projection.weight if isinstance(projection, Conv1D) else projection.weight.T
        H = layer["heads"]
        K = matrix.shape[0] // H
        cosines = [[] for _ in range(H)]
        for row in read[:, 1:].reshape(-1, H * K):  # the first position has no choice
            parts = [row[h * K : (h + 1) * K] @ matrix[h * K : (h + 1) * K] for h in range(H)]
            total = torch.stack(parts).sum(0)
            for h in range(H):
                cosines[h].append(torch.nn.functional.cosine_similarity(parts[h], total, dim=0))
        truth = torch.stack([(1 + torch.stack(c).mean()) / 2 for c in cosines])
        torch.testing.assert_close(heads.alignment, truth, rtol=1e-4, atol=1e-4)


def test_heads_that_agree_and_that_oppose():
    """The extremes: two heads that say the same have 1; one against three has less than a half."""
    model = watched("gpt2", states=False)
    attention = model.transformer.h[0].attn
    H, K = 4, attention.head_dim
    with torch.no_grad():
        value = attention.c_attn.weight[:, 2 * H * K :]
        value.copy_(value[:, :K].repeat(1, H))
        attention.c_attn.bias[2 * H * K :] = attention.c_attn.bias[2 * H * K :][:K].repeat(H)
        attention.c_attn.weight[:, : 2 * H * K] = 0  # all heads look everywhere alike
        attention.c_attn.bias[: 2 * H * K] = 0
        rows = attention.c_proj.weight[:K].clone()
        attention.c_proj.weight.copy_(torch.cat([rows, rows, rows, -rows]))
    agency.calibrate(model, some_ids())
    found = agency.heads_of(model)[0]
    torch.testing.assert_close(found.alignment, torch.tensor([1.0, 1, 1, 0]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.utilisation, torch.zeros(4), rtol=0, atol=1e-5)


def test_moving_average():
    model = watched("gpt2", states=False, momentum=0.75)
    single = []
    for seed in range(4):
        alone = watched("gpt2", states=False)
        agency.calibrate(alone, some_ids(seed))
        single.append(agency.heads_of(alone)[1].utilisation)
        agency.calibrate(model, some_ids(seed))
    truth = single[0]
    for new in single[1:]:
        truth = 0.75 * truth + 0.25 * new
    torch.testing.assert_close(agency.heads_of(model)[1].utilisation, truth)
    assert agency.agency_report(model).step == 4


@pytest.mark.parametrize("name", FEW)
def test_padding_is_not_looked_at(name):
    """A padded text gives the averages that it has alone."""
    ids = some_ids(5, 1, 20)
    alone = watched(name, states=False)
    agency.calibrate(alone, ids)
    padded = watched(name, states=False)
    mask = torch.cat([torch.zeros(1, 7, dtype=torch.long), torch.ones_like(ids)], dim=1)
    places = (mask.cumsum(1) - 1).clamp(min=0)
    control = agency.heads_of(padded)[0].control
    control.calibrating = True
    with torch.no_grad():
        padded.base_model(
            input_ids=torch.cat([ids[:, :7], ids], dim=1), attention_mask=mask, position_ids=places
        )
    for a, b in zip(agency.heads_of(alone), agency.heads_of(padded), strict=True):
        torch.testing.assert_close(a.utilisation, b.utilisation, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(a.alignment, b.alignment, rtol=1e-4, atol=1e-4)


def test_states_move_as_a_slow_machine_does():
    """Random averages through the vectorised rules and through a plain loop."""
    rules = {"overloaded_above": 0.85, "misaligned_below": 0.6, "recovery_steps": 3}
    model = agency.enable(subject("gpt2"), agency.AgencyOptions(momentum=0.0, **rules))
    heads = agency.heads_of(model)[0]
    agency.set_state(model, 0, 3, "withdrawn")
    generator = torch.Generator().manual_seed(0)
    names = ["active", "overloaded", "misaligned", "withdrawn"]
    state, since = ["active"] * 3 + ["withdrawn"], [0] * 4
    entered = {name: [0] * 4 for name in names}
    entered["withdrawn"][3] = 1
    for _ in range(200):
        used, along = (torch.rand(4, generator=generator) for _ in range(2))
        heads.seen = (used, along)
        update([heads], heads.control.options)
        for h in range(4):
            since[h] += 1
            new = state[h]
            if state[h] == "active":
                if used[h] > 0.85:
                    new = "overloaded"
                elif along[h] < 0.6:
                    new = "misaligned"
            elif state[h] != "withdrawn" and since[h] >= 3:
                new = "active"
            if new != state[h]:
                state[h], since[h] = new, 0
                entered[new][h] += 1
        report = agency.agency_report(model).layers[0]
        assert report.states == state
        assert report.entered == entered
        assert report.factors == pytest.approx(
            [{"active": 1, "overloaded": 0.5, "misaligned": 0.7, "withdrawn": 0}[s] for s in state]
        )
    assert set(state) > {"withdrawn"}
    assert sum(map(sum, entered.values())) > 50


def test_violations_are_counted_with_step_layer_and_head():
    model = watched("gpt2", states=False)
    agency.calibrate(model, some_ids())
    agency.set_consent(model, 1, 2, False)
    agency.set_consent(model, 2, 0, False)
    agency.set_gates(model, 2, [0, 1, 1, 1])  # closed: it asks for nothing
    for _ in range(3):
        agency.calibrate(model, some_ids())
    agency.set_consent(model, 1, 2, True)
    agency.calibrate(model, some_ids())
    report = agency.agency_report(model)
    assert report.violations == [
        {"layer": 1, "head": 2, "count": 3, "first_step": 2, "last_step": 4}
    ]
    assert report.layers[2].consent == [False, True, True, True]


@pytest.mark.parametrize("name", FEW)
def test_evaluation_moves_nothing(name):
    model = watched(name, overloaded_above=0.0, misaligned_below=1.0)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    logits(model)
    model.eval()(input_ids=some_ids())  # gradients or not
    model.generate(some_ids(), max_new_tokens=3, do_sample=False, pad_token_id=0)
    agency.agency_report(model)
    assert same_bits(before, model)
    model.train()
    model(input_ids=some_ids())
    report = agency.agency_report(model)
    assert report.step == 1
    assert all(state == "overloaded" for layer in report.layers for state in layer.states)
    frozen = {n: t.clone() for n, t in model.state_dict().items()}
    logits(model.eval())
    assert same_bits(frozen, model)


def test_states_stay_where_they_may_not_move():
    model = watched("gpt2", states=False, overloaded_above=0.0).train()
    model(input_ids=some_ids())
    report = agency.agency_report(model)
    assert report.step == 1
    assert all(state == "active" for layer in report.layers for state in layer.states)


def gradients(model, ids):
    torch.manual_seed(1)  # of dropout
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.filterwarnings("ignore:.*loss_type.*")
@pytest.mark.parametrize("name", FEW)
def test_recomputation_sees_the_states_of_its_forward_pass(name):
    """Gradient checkpointing: the same gradients and averages, though states move in between."""
    options = {"overloaded_above": 0.0, "recovery_steps": 1}  # every step moves every head
    plain, checkpointed = watched(name, **options).train(), watched(name, **options).train()
    newer = hasattr(checkpointed, "activation_checkpointing_enable")
    getattr(checkpointed, f"{'activation' if newer else 'gradient'}_checkpointing_enable")()
    for seed in range(4):
        expected = gradients(plain, some_ids(seed))
        found = gradients(checkpointed, some_ids(seed))
        assert expected.keys() == found.keys()
        assert any("gates" in key for key in found)
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value)
        assert agency.agency_report(checkpointed) == agency.agency_report(plain)
    assert {s for layer in agency.agency_report(plain).layers for s in layer.states} == {"active"}


def test_gates_stay_in_their_range_in_training():
    model = watched("gpt2", states=False).train()
    optimizer = torch.optim.SGD([h.gates for h in agency.heads_of(model)], lr=1e3)
    ids = some_ids()
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(input_ids=ids).logits[:, 0], ids[:, 1]).backward()
        optimizer.step()
    found = agency.agency_report(model)
    gates = [gate for layer in found.layers for gate in layer.gates]
    assert all(0 <= gate <= 1 for gate in gates)
    assert {0.0, 1.0} <= set(gates)
    model(input_ids=ids)
    assert all(bool(((h.gates >= 0) & (h.gates <= 1)).all()) for h in agency.heads_of(model))


def test_a_sample_of_queries_in_training():
    """A training step looks at every so many queries: near the whole, and never at none."""
    model = watched("gpt2", states=False)
    ids = some_ids(1, 8, 64)
    agency.calibrate(model, ids)
    whole = [heads.utilisation.clone() for heads in agency.heads_of(model)]
    model = watched("gpt2", states=False).train()
    for attention in model.transformer.h:
        attention.attn.attn_dropout.p = 0.0
    model.transformer.drop.p = 0.0
    model(input_ids=ids)
    for heads, truth in zip(agency.heads_of(model), whole, strict=True):
        torch.testing.assert_close(heads.utilisation, truth, rtol=0, atol=0.05)
    for length in (1, 2, 3, 17):
        model(input_ids=some_ids(1, 1, length))
    assert agency.agency_report(model).step == 4  # one token has no choice
    assert all(not h.utilisation.isnan().any() for h in agency.heads_of(model))


def test_averages_move_at_every_look_and_states_at_every_step():
    rules = {"observe_every": 3, "overloaded_above": 1.0, "misaligned_below": 0.0}
    model = watched("gpt2", recovery_steps=4, **rules).train()
    agency.set_state(model, 0, 0, "overloaded")
    averages, states = [], []
    for seed in range(8):
        model(input_ids=some_ids(seed))
        report = agency.agency_report(model)
        averages.append(report.layers[1].utilisation)
        states.append(report.layers[0].states[0])
        if seed == 4:  # where it goes on after a reload
            model.load_state_dict(model.state_dict())
    looks = [0] + [i for i in range(1, 8) if averages[i] != averages[i - 1]]
    assert looks == [0, 3, 6]
    assert states == ["overloaded"] * 3 + ["active"] * 5
    assert report.step == 8


def test_the_table():
    model = watched("gpt2")
    text = str(agency.agency_report(model))
    lines = text.splitlines()
    assert lines[0].split()[:6] == ["layer", "heads", "active", "overloaded", "misaligned",
                                    "withdrawn"]  # fmt: skip
    assert len(lines) == 4
    assert len({len(line) for line in lines}) == 1
    assert lines[1].split()[-3:] == ["-", "-", "0"]
    as_json = agency.agency_report(model).as_json()
    assert as_json["layers"][0]["utilisation"] == [None] * 4
    assert math.isclose(as_json["layers"][2]["gates"][3], 1)
    assert isinstance(agency.heads_of(model)[0], HeadAgency)
