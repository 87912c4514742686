"""Named sizes, their controls, what they cost, and the loss that never holds all logits."""

import math

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoConfig

from biogpt_models import tiny
from resprout.models import cross_entropy
from resprout.models.biogpt import BioGPTConfig
from resprout.models.cost import count_cost
from resprout.models.cross_entropy import linear_cross_entropy
from resprout.models.description import components, parameter_total, skeleton, zones
from resprout.models.loss import choose_loss, fused_loss
from resprout.models.sizes import CONTROLS, SIZES, build, configuration, control_of


@pytest.mark.parametrize("family", CONTROLS)
@pytest.mark.parametrize("name", [name for name in SIZES if name.startswith("biogpt")])
def test_every_biogpt_has_controls_within_one_percent(name, family):
    biogpt, control = configuration(name), configuration(control_of(name, family))
    ours, theirs = (parameter_total(skeleton(config)) for config in (biogpt, control))
    assert abs(theirs / ours - 1) < 0.001
    for field in ("vocab_size", "num_hidden_layers", "max_position_embeddings"):
        assert getattr(biogpt, field) == getattr(control, field)
    assert not control.tie_word_embeddings
    assert control.hidden_size % control.num_attention_heads == 0
    assert 16 <= control.hidden_size // control.num_attention_heads <= 128


def test_controls_are_of_their_families():
    assert control_of("biogpt-30m") == "gpt-neox-30m"
    for name in SIZES:
        config = configuration(name)
        if name.startswith("llama"):
            assert config.num_attention_heads % config.num_key_value_heads == 0
            assert config.num_key_value_heads < config.num_attention_heads
        if name.startswith("gpt2"):
            assert config.resid_pdrop == config.embd_pdrop == config.attn_pdrop == 0
    changed = configuration("gpt2-nano", num_hidden_layers=2, n_positions=16)
    assert (changed.n_layer, changed.max_position_embeddings) == (2, 16)


@pytest.mark.parametrize("name", ["llama-nano", "gpt2-nano"])
def test_controls_train_with_the_chunked_loss(name):
    model = build(configuration(name, vocab_size=300, num_hidden_layers=2), seed=0).train()
    ids = torch.randint(300, (2, 17))
    inputs, targets = ids[:, :-1], ids[:, 1:]
    assert choose_loss(model, inputs, targets) is fused_loss
    first = fused_loss(model, inputs, targets)
    assert first.item() == pytest.approx(math.log(300), abs=0.3)  # knows nothing yet
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(10):
        optimiser.zero_grad()
        fused_loss(model, inputs, targets).backward()
        optimiser.step()
    assert fused_loss(model, inputs, targets) < first - 1


def test_sizes_are_what_their_names_say():
    assert parameter_total(skeleton(configuration("biogpt-294m"))) == 294_532_636
    assert 1.0e9 <= parameter_total(skeleton(configuration("biogpt-1b"))) <= 1.2e9
    assert parameter_total(skeleton(configuration("biogpt-30m"))) == pytest.approx(30e6, rel=0.05)
    with pytest.raises(ValueError, match=r"biogpt-2b.*biogpt-nano"):
        configuration("biogpt-2b")


def test_zones_and_components_add_up():
    model = skeleton(BioGPTConfig())
    assert sum(zones(model).values()) == sum(components(model).values()) == 294_532_636
    assert zones(model)["feedback"] == 7_087_104
    assert components(model)["model.layers.neurons.nmda_decay"] == 21_504


def test_operations_of_a_model_by_hand():
    V, D, L, T = 61, 48, 6, 32
    model = skeleton(tiny().config)
    cost = count_cost(model)
    per_token = D * V  # head
    for counts in model.config.cortical_layout:
        for n in counts:
            d = D // n
            per_token += (
                3 * D * D + 2 * T * D + 5 * D * d + 2 * 2 * D * d
            )  # qkv, attention, conv, FFN
            per_token += D * D + 2 * 3 * D * D + D * D  # soma, its FFN, projection
    assert cost.context_tokens == T
    assert cost.flops_per_token == 2 * per_token
    # Keys, values and the convolution's inputs of every neuron, in fp32.
    assert cost.cache_bytes_per_token == 4 * 3 * D * sum(map(len, model.config.cortical_layout))
    assert len(model.config.cortical_layout) == L


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama", "opt"])
def test_other_families_can_be_counted(family):
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100}
    extra = {"gpt2": {}, "opt": {"ffn_dim": 128, "word_embed_proj_dim": 64}}
    config = AutoConfig.for_model(family, **shape, **extra.get(family, {"intermediate_size": 128}))
    cost = count_cost(skeleton(config))
    weights = parameter_total(skeleton(config))
    assert 0.5 < cost.flops_per_token / (2 * weights) < 12  # attention over 1,024 tokens included
    assert cost.cache_bytes_per_token == 4 * 2 * 2 * 64
    assert cost.activation_bytes > 0


def test_counted_activations_are_those_of_a_real_step():
    model = tiny().train()
    held = {}

    def note(tensor):
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = model(input_ids=torch.zeros(1, 32, dtype=torch.long), use_cache=False)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    real = sum(s.nbytes() for pointer, s in held.items() if pointer not in weights)
    counted = count_cost(skeleton(model.config)).activation_bytes
    # The CPU's attention in blocks and its convolution keep a little other than what was counted.
    assert counted == pytest.approx(real + out.logits.nbytes, rel=0.35)


@pytest.mark.parametrize("ignored", [0, 3, 24])
@pytest.mark.parametrize("chunk", [1, 7, 24, 1000])
def test_chunked_loss_and_gradients_are_torchs(monkeypatch, chunk, ignored):
    monkeypatch.setattr(cross_entropy, "CHUNK_BYTES", 4 * 50 * chunk)
    monkeypatch.setattr(cross_entropy, "_SMALLEST_CHUNK", 1)
    hidden = torch.randn(24, 8, requires_grad=True)
    weight = torch.randn(50, 8, requires_grad=True)
    targets = torch.randint(50, (24,))
    targets[:ignored] = -100
    got = linear_cross_entropy(hidden, weight, targets)
    expected = F.cross_entropy(hidden @ weight.T, targets)
    torch.testing.assert_close(got, expected, equal_nan=True)
    if ignored < 24:
        ours = torch.autograd.grad(3 * got, [hidden, weight])
        torchs = torch.autograd.grad(3 * expected, [hidden, weight])
        for a, b in zip(ours, torchs, strict=True):
            torch.testing.assert_close(a, b)


def test_chunked_loss_under_autocast_keeps_fp32_gradients():
    hidden = torch.randn(64, 32, requires_grad=True)
    weight = (0.1 * torch.randn(200, 32)).requires_grad_()
    targets = torch.randint(200, (64,))
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(hidden, weight, targets)
    assert loss.dtype == torch.float32
    expected = F.cross_entropy(hidden @ weight.T, targets)
    torch.testing.assert_close(loss, expected, atol=0.01, rtol=0.01)
    got = torch.autograd.grad(loss, [hidden, weight])
    for a, b in zip(got, torch.autograd.grad(expected, [hidden, weight]), strict=True):
        assert a.dtype == torch.float32
        assert (a - b).norm() < 0.02 * b.norm()


def test_chunked_loss_without_gradients():
    hidden, weight, targets = torch.randn(9, 4), torch.randn(20, 4), torch.randint(20, (9,))
    expected = F.cross_entropy(hidden @ weight.T, targets)
    torch.testing.assert_close(linear_cross_entropy(hidden, weight, targets), expected)
