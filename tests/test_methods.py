"""Scores of whole units against plain loops, the model's own outputs, and OptiPFair."""

import copy

import pytest
import torch

import resprout
from families import CONFIGURATIONS, RANDOM, kept, same_bits, some_ids, subject, tiny
from resprout.models import agency
from resprout.pruning.adapters import adapter_for
from resprout.pruning.methods import METHODS
from resprout.pruning.unit_scores import unit_scores

IDS = some_ids(seed=5, batch=3, length=16)
WITH_HEADS = [n for n in CONFIGURATIONS if not n.startswith("dendritic")]
GLU = ["glu-maw", "glu-vow", "glu-pon", "glu-l2"]


def scores_of(model, method, head_unit="group"):
    """Ours, as one list of floats per group."""
    adapter, known = adapter_for(model), METHODS[method]
    groups = adapter.groups(known.unit, head_unit)
    return unit_scores(model, adapter, groups, known.score, IDS, 0, lambda done, total: None)


def agree(found, expected, rtol=1e-5):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        truth = torch.as_tensor(theirs, dtype=torch.float64)
        torch.testing.assert_close(ours.double(), truth, rtol=rtol, atol=rtol / 100)


def rms(*pieces):
    flat = torch.cat([piece.detach().flatten() for piece in pieces]).double()
    return float(flat.square().mean().sqrt())


@pytest.mark.parametrize("method", GLU)
@pytest.mark.parametrize("name", ["llama", "llama_bias", "stories260K"])
def test_the_same_model_as_optipfair(name, method):
    theirs_of = pytest.importorskip("optipfair.pruning.mlp_glu").prune_model_mlp_glu
    score = method.removeprefix("glu-").upper()
    for percent in (5, 10, 37.5, 60, 100):
        ours = subject(name)
        theirs = copy.deepcopy(ours)
        cut = resprout.prune(ours, method, percent / 100, cut="remove")
        theirs_of(theirs, score, pruning_percentage=percent, show_progress=False)
        assert same_bits(ours, theirs), percent
        assert ours.config.intermediate_size == theirs.config.intermediate_size
        assert cut.requested == percent / 100
    ours = subject(name)
    theirs = copy.deepcopy(ours)
    D, now = ours.config.hidden_size, ours.config.intermediate_size
    rate = 100 * (now // 2) / D
    resprout.prune(ours, method, expansion_rate=rate, cut="remove")
    theirs_of(theirs, score, pruning_percentage=None, expansion_rate=rate, show_progress=False)
    assert ours.config.intermediate_size == now // 2
    if theirs.config.intermediate_size == now // 2:  # its percentage may fall a hair short
        assert same_bits(ours, theirs)


def test_a_multiple_on_request():
    for amount, left in ((0.2, 16), (0.5, 8), (0.9, 4), (0, 20)):
        model = tiny("llama")
        cut = resprout.prune(model, "glu-maw", amount, round_to=4, cut="remove")
        assert [len(group) for group in kept(cut)] == [left] * 3
    model = tiny("llama")
    cut = resprout.prune(model, "glu-maw", expansion_rate=100 * 15 / 32, round_to=4)
    assert [len(group) for group in kept(cut)] == [12] * 3
    assert cut.requested == pytest.approx(5 / 20)
    assert cut.achieved == pytest.approx(8 / 20)


def test_magnitude_of_heads():
    model, K = tiny("gpt2"), 8
    expected = []
    for block in model.transformer.h:
        up, down = block.attn.c_attn.weight, block.attn.c_proj.weight  # [in, out]
        expected.append([])
        for h in range(4):
            thirds = [up[:, part * 32 + h * K : part * 32 + (h + 1) * K] for part in range(3)]
            expected[-1].append(rms(*thirds, down[h * K : (h + 1) * K]))
    agree(scores_of(model, "heads-magnitude"), expected)

    model = tiny("gpt_neox")
    blocks = [layer.attention for layer in model.gpt_neox.layers]
    agree(
        scores_of(model, "heads-magnitude"),
        [
            [
                rms(
                    a.query_key_value.weight[24 * h : 24 * h + 24],
                    a.dense.weight[:, 8 * h : 8 * h + 8],
                )
                for h in range(4)
            ]
            for a in blocks
        ],
    )

    model, K = tiny("qwen3"), 6  # 8 query heads, 4 key-value heads
    groups, queries = [], []
    for block in model.model.layers:
        a = block.self_attn
        q, k, v = (p.weight.view(-1, K, 32) for p in (a.q_proj, a.k_proj, a.v_proj))
        o = a.o_proj.weight.view(32, 8, K)
        groups.append(
            [rms(q[2 * g : 2 * g + 2], k[g], v[g], o[:, 2 * g : 2 * g + 2]) for g in range(4)]
        )
        queries.append([rms(q[h], o[:, h]) for h in range(8)])
    agree(scores_of(model, "heads-magnitude"), groups)
    agree(scores_of(model, "heads-magnitude", "query"), queries)


def test_magnitude_of_neurons_and_branches():
    model = tiny("opt")
    expected = [
        [rms(block.fc1.weight[j], block.fc2.weight[:, j]) for j in range(48)]
        for block in model.model.decoder.layers
    ]
    agree(scores_of(model, "mlp-magnitude"), expected)

    model = tiny("dendritic_biogpt")
    branches, neurons = [], []
    for layer in model.model.layers:
        neurons.append([])
        for cell, projection in zip(layer.neurons, layer.neuron_projs, strict=True):
            n, d = cell.branches, cell.branch_width
            qkv = cell.qkv.weight.view(3, n, d, -1)
            convolutions = [
                m.weight.view(n, -1) for m in (cell.temporal_conv, cell.ff_up, cell.ff_down)
            ]
            soma = cell.soma_proj.weight.view(-1, n, d)
            branches.append(
                [rms(qkv[:, b], *(c[b] for c in convolutions), soma[:, b]) for b in range(n)]
            )
            whole = [p for name, p in cell.named_parameters() if p.ndim > 1 and "decay" not in name]
            neurons[-1].append(rms(*whole, projection.weight))
    agree(scores_of(model, "branches-magnitude"), branches)
    agree(scores_of(model, "neurons-magnitude"), neurons)


def test_trained_gates():
    model = tiny("llama_bias")
    gates = torch.rand(3, 8, generator=torch.Generator().manual_seed(2))
    agency.enable(model)
    for layer, values in enumerate(gates):
        agency.set_gates(model, layer, values)
    cut = resprout.prune(model, "heads-gate", 0.5, scope="per_layer")
    assert kept(cut) == [sorted(values.argsort()[4:].tolist()) for values in gates]


@pytest.mark.parametrize("kind", RANDOM)
def test_random_units(kind):
    name = next(n for n in CONFIGURATIONS if kind in adapter_for(subject(n)).kinds)
    cuts = []
    for seed in (0, 0, 1, 2, 3):
        model = subject(name)
        cuts.append(kept(resprout.prune(model, RANDOM[kind], 0.5, seed=seed, scope="global")))
    assert cuts[0] == cuts[1]
    assert any(other != cuts[0] for other in cuts[2:])


@pytest.mark.parametrize("method", [m for m in METHODS if METHODS[m].unit != "weight"])
def test_scoring_leaves_no_trace(method):
    """Hooks, gradients, mode and attention are as before."""
    if method == "heads-gate":
        return
    name = next(n for n in CONFIGURATIONS if METHODS[method].unit in adapter_for(subject(n)).kinds)
    model = subject(name).train()
    frozen = next(model.parameters()).requires_grad_(False)
    resprout.prune(model, method, 0, calibration=IDS)
    assert same_bits(model, subject(name))
    assert model.training
    assert not frozen.requires_grad
    assert sum(p.requires_grad for p in model.parameters()) == len(list(model.parameters())) - 1
    assert all(p.grad is None for p in model.parameters())
    assert model.config._attn_implementation == subject(name).config._attn_implementation
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
