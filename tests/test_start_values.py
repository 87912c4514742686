"""Start values: the published ones by their definition, the scaled ones by their purpose."""

import math

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from resprout.models.biogpt import BioGPTConfig
from resprout.models.biogpt.start_values import SELF_SHARE
from resprout.models.sizes import build, configuration

SHAPE = {"vocab_size": 500, "hidden_size": 192, "num_hidden_layers": 6, "n_passes": 2}


@torch.no_grad()
def test_published_start_values_are_xaviers():
    model = build(BioGPTConfig(**SHAPE), seed=0)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Embedding):
            weight = module.weight
            taps = weight[0, 0].numel() if weight.ndim == 3 else 1
            bound = math.sqrt(6 / (taps * (weight.shape[0] + weight.shape[1])))
            assert 0.97 * bound < weight.abs().max() <= bound * (1 + 1e-6)
            assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.05)
            assert getattr(module, "bias", None) is None or not module.bias.any()
        elif isinstance(module, nn.LayerNorm | nn.GroupNorm):
            assert (module.weight == 1).all()
            assert not module.bias.any()
    decays = torch.cat([p.flatten() for n, p in model.named_parameters() if "decay" in n])
    assert decays.mean() == pytest.approx(0.9, abs=0.01)
    assert decays.std() == pytest.approx(0.1, abs=0.01)
    for name, parameter in model.named_parameters():
        if name.endswith(("neuron_weights", "pass_weights")):
            assert not parameter.any()


@torch.no_grad()
def test_scaled_start_values_look_at_their_own_position_first():
    model = build(BioGPTConfig(**SHAPE, init="scaled"), seed=0)
    T = model.config.max_position_embeddings
    h = torch.randn(400, 192, generator=torch.Generator().manual_seed(0))
    for layer in model.model.layers:
        for neuron in layer.neurons:
            q, k, _ = (h @ neuron.qkv.weight.T).view(400, 3, neuron.branches, -1).unbind(1)
            own = (q * k).sum(-1) / math.sqrt(q.shape[-1])
            assert own.mean() == pytest.approx(SELF_SHARE * math.log(T), rel=0.05)


@torch.no_grad()
def test_scaled_layers_start_by_adding_nothing_and_positions_are_as_small_as_tokens():
    model = build(BioGPTConfig(**SHAPE, init="scaled"), seed=0).eval()
    states = model.base_model(torch.arange(30)[None], output_hidden_states=True).hidden_states
    assert all(torch.equal(state, states[0]) for state in states[:-1])
    tokens, positions = model.model.token_emb.weight, model.model.pos_emb.weight
    assert positions.std() == pytest.approx(tokens.std().item(), rel=0.05)


@torch.no_grad()
def test_start_values_differ_only_where_said():
    ways = [build(BioGPTConfig(**SHAPE, init=init), seed=0) for init in ("published", "scaled")]
    (a, b) = (dict(model.named_parameters()) for model in ways)
    for name in a:
        role = name.split(".")
        if "neuron_projs" in role or "pos_emb" in role or "token_emb" in role or "qkv" in role:
            continue
        if a[name].ndim > 1:
            assert a[name].std() == pytest.approx(b[name].std().item(), rel=0.1), name
        else:
            assert a[name].mean() == pytest.approx(b[name].mean().item(), abs=0.05), name


@pytest.mark.parametrize("init", ["published", "scaled"])
def test_loading_overwrites_no_weight_with_a_start_value(tmp_path, init):
    model = build(configuration("biogpt-nano", vocab_size=300, init=init), seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.config.init == init
    for before, after in zip(model.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(before, after)
