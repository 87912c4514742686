"""Counts of cut models against removals, other programs' counts and sums by hand."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2Config, GPT2LMHeadModel, MixtralConfig, MixtralForCausalLM

from resprout.models.sizes import build, configuration
from resprout.models.subject import load
from resprout.pruning.api import prune
from resprout.record import Parameters
from resprout.study import counts as counts_module
from resprout.study.counts import parameter_counts

FAMILIES = ("biogpt-nano", "gpt-neox-nano", "llama-nano", "gpt2-nano")


@pytest.fixture(scope="module")
def models():
    return {name: build(configuration(name, vocab_size=300), seed=0).eval() for name in FAMILIES}


def counted(model, method="magnitude", amount=0.0, **options):
    model = copy.deepcopy(model)
    cut = prune(model, method, amount, **options)
    return parameter_counts(model, cut), cut, model


@pytest.mark.parametrize("name", FAMILIES)
def test_uncut(models, name):
    model = models[name]
    counts, _, _ = counted(model)
    total = sum(p.numel() for p in model.parameters())
    assert counts["total"] == counts["surviving"] == total
    inside = ("model.", "gpt_neox.", "transformer.")
    embeddings = ("token_emb", "pos_emb", "embed_in", "embed_tokens", "wte", "wpe")
    by_hand = sum(
        p.numel()
        for n, p in model.named_parameters()
        if n.startswith(inside) and not any(e in n for e in embeddings)
    )
    assert counts["non_embedding"] == by_hand
    assert counts["effective_flops_per_token"] == counts["flops_per_token"]
    # The same as torch counts on the real model, with attention in plain products.
    T = counts["flops_context_tokens"]
    ids = torch.zeros(1, T, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(ids)
    assert counts["flops_per_token"] == pytest.approx(counter.get_total_flops() / T)
    Parameters.model_validate(counts)


@pytest.mark.parametrize("name", FAMILIES)
def test_masked_weights_cost_two_operations_each(models, name):
    counts, cut, _ = counted(models[name], amount=0.6)
    dense, _, _ = counted(models[name])
    assert counts["flops_per_token"] == dense["flops_per_token"]
    saved = counts["flops_per_token"] - counts["effective_flops_per_token"]
    assert saved == pytest.approx(2 * cut.held)
    assert counts["non_embedding"] == dense["non_embedding"] - cut.held
    assert counts["surviving"] == dense["surviving"] - cut.held


@pytest.mark.parametrize(
    ("name", "method"),
    [("llama-nano", "glu-maw"), ("gpt-neox-nano", "mlp-magnitude"), ("gpt2-nano", "mlp-magnitude")],
)
def test_a_mask_of_neurons_costs_effectively_what_their_removal_costs(models, name, method):
    masked, _, _ = counted(models[name], method, 0.4, cut="mask")
    removed, _, _ = counted(models[name], method, 0.4, cut="remove")
    assert masked["effective_flops_per_token"] == pytest.approx(removed["flops_per_token"])
    assert removed["effective_flops_per_token"] == removed["flops_per_token"]
    assert masked["flops_per_token"] > removed["flops_per_token"]
    assert masked["non_embedding"] == removed["non_embedding"]


@pytest.mark.parametrize("method", ["branches-magnitude", "neurons-magnitude"])
def test_a_mask_of_branches_costs_more_than_their_removal_by_attention_alone(models, method):
    masked, _, _ = counted(models["biogpt-nano"], method, 0.4, cut="mask")
    removed, _, small = counted(models["biogpt-nano"], method, 0.4, cut="remove")

    def attention(model):  # scores and values: 2 T W each, per token
        widths = [m.soma_proj.in_features for m in model.modules() if hasattr(m, "soma_proj")]
        return 4 * masked["flops_context_tokens"] * sum(widths)

    more = masked["effective_flops_per_token"] - removed["flops_per_token"]
    assert more == pytest.approx(attention(models["biogpt-nano"]) - attention(small))


def test_two_passes_use_the_blocks_twice_and_the_head_once():
    config = configuration("biogpt-nano", vocab_size=300)
    config.n_passes = 2
    model = build(config, seed=0)
    counts, cut, _ = counted(model, amount=0.5, protocol="paper")
    held = {n: int((~m).sum()) for n, m in cut.masks.items()}
    inside = sum(count for n, count in held.items() if n.startswith("model.layers"))
    feedback = sum(count for n, count in held.items() if "feedback" in n)
    head = held["lm_head.weight"]
    assert inside and feedback and head
    saved = counts["flops_per_token"] - counts["effective_flops_per_token"]
    assert saved == pytest.approx(2 * (2 * inside + feedback + head))
    outside = (300 + 300 + 128) * config.hidden_size  # embeddings and head
    assert counts["non_embedding"] == counts["total"] - outside - inside - feedback
    assert sum(held.values()) == cut.held == inside + feedback + head
    assert counts["nonzero"] <= counts["surviving"]


def test_feedback_that_one_pass_never_uses_saves_nothing(models):
    counts, cut, _ = counted(models["biogpt-nano"], amount=0.5, protocol="paper")
    feedback = sum(int((~m).sum()) for n, m in cut.masks.items() if "feedback" in n)
    assert feedback
    saved = counts["flops_per_token"] - counts["effective_flops_per_token"]
    assert saved == pytest.approx(2 * (cut.held - feedback))


def test_a_tied_head_counts_once():
    config = GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=50, n_positions=32)
    counts, cut, _ = counted(GPT2LMHeadModel(config), amount=0.5)
    assert counts["total"] - counts["non_embedding"] - cut.held == (50 + 32) * 16


def test_what_cannot_be_counted_is_absent_with_a_reason(models):
    model = copy.deepcopy(models["gpt2-nano"])
    model.lm_head = nn.Linear(96, 77, bias=False)  # which its configuration does not say
    counts = parameter_counts(model, prune(model, "magnitude", 0.5))
    assert counts["flops_per_token"] is None
    assert counts["effective_flops_per_token"] is None
    assert "lm_head.weight" in counts["flops_not_counted"]
    Parameters.model_validate(counts)


def test_a_model_that_shapes_alone_cannot_run_says_so():
    config = MixtralConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, vocab_size=50, max_position_embeddings=32, num_local_experts=2,
    )  # fmt: skip
    counts, _, _ = counted(MixtralForCausalLM(config), amount=0.5)
    assert counts["effective_flops_per_token"] is None
    assert counts["flops_not_counted"]
    assert counts["non_embedding"] < counts["surviving"]


def test_a_module_of_unknown_use_is_not_guessed_at(models, monkeypatch):
    monkeypatch.setattr(counts_module, "_PRODUCTS", (nn.Linear,))
    counts, _, _ = counted(models["gpt2-nano"], amount=0.5)
    assert counts["flops_per_token"] > 0
    assert counts["effective_flops_per_token"] is None
    assert "how often a Conv1D uses transformer.h.0" in counts["flops_not_counted"]


def test_a_real_model_with_heads_removed(shared):
    model, _ = load(shared / "models" / "stories260K")
    removed, _, _ = counted(model, "heads-magnitude", 0.5, cut="remove")
    masked, _, _ = counted(model, "heads-magnitude", 0.5, cut="mask")
    assert removed["flops_per_token"] < masked["effective_flops_per_token"]
    assert masked["effective_flops_per_token"] < masked["flops_per_token"]
