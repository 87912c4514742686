"""Scores of whole units on text, against the model's own outputs and finite differences."""

import copy
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

import resprout
from families import CONFIGURATIONS, kept, tiny
from resprout.pruning.adapters import adapter_for
from resprout.pruning.methods import METHODS
from test_methods import IDS, agree, scores_of

WITH_HEADS = [n for n in CONFIGURATIONS if not n.startswith("dendritic")]


@torch.no_grad()
@pytest.mark.parametrize("name", WITH_HEADS)
def test_entropy_of_heads(name):
    """Against the attention that the model itself shows."""
    model = tiny(name)
    ours = scores_of(model, "heads-entropy")
    model.set_attn_implementation("eager")
    attentions = model(IDS, output_attentions=True, use_cache=False).attentions
    expected = []
    for weights, group in zip(attentions, adapter_for(model).groups("head"), strict=True):
        p = weights.double()[:, :, 1:]  # (B, H, T - 1, T)
        entropy = -(p * p.clamp(min=1e-300).log()).sum(-1) / (p > 0).sum(-1).log()
        expected.append(-entropy.mean(dim=(0, 2)).view(group.count, -1).mean(1))
    agree(ours, expected, rtol=1e-4)
    cut = resprout.prune(tiny(name), "heads-entropy", 0.5, scope="per_layer", calibration=IDS)
    half = [score.argsort()[len(score) // 2 :].sort().values.tolist() for score in expected]
    assert kept(cut) == half  # the most diffuse went


@pytest.mark.parametrize(
    ("name", "method", "step"),
    # Norms of Llama's kind compute in fp32 whatever they are given: no fine differences.
    [("gpt2", "heads-taylor", 1e-4), ("gpt_neox", "heads-taylor", 1e-4),
     ("llama", "heads-taylor", 1e-2), ("gemma2", "glu-taylor", 1e-2), ("opt", "mlp-taylor", 1e-4),
     ("dendritic_biogpt", "branches-taylor", 1e-4), ("dendritic_biogpt", "neurons-taylor", 1e-4)],
)  # fmt: skip
def test_taylor_is_the_slope_of_the_loss(name, method, step):
    """Against finite differences, in double precision, of a factor on what a unit puts out."""
    model = tiny(name)
    ours = scores_of(model, method)
    exact = copy.deepcopy(model).double()
    groups = adapter_for(exact).groups(METHODS[method].unit)
    for place, group in list(enumerate(groups))[:2]:
        for unit in range(0, group.count, max(1, group.count // 3)):
            slopes = []
            for window in IDS.split(1):
                up, down = (_loss(exact, group, unit, 1 + s, window) for s in (step, -step))
                slopes.append(abs(up - down) / (2 * step))
            assert float(ours[place][unit]) == pytest.approx(sum(slopes) / len(IDS), rel=3e-3)


@torch.no_grad()
def _loss(model, group, unit, factor, ids):
    def scale(owner):
        def hook(module, inputs):
            return (inputs[0] * torch.where(owner == unit, factor, 1.0).double(),)

        return hook

    handles = [m.register_forward_pre_hook(scale(owner)) for m, owner in group.outputs]
    logits = model(input_ids=ids, use_cache=False).logits[0, :-1].double()
    for handle in handles:
        handle.remove()
    return float(F.cross_entropy(logits, ids[0, 1:]))


@torch.no_grad()
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3_text"])
def test_influence_of_layers(name):
    model = tiny(name)
    (ours,) = scores_of(model, "layers-influence")
    *states, _ = model(IDS, output_hidden_states=True, use_cache=False).hidden_states
    last = []  # of the states the last is normed already: the last layer's own output is asked for
    final = adapter_for(model).blocks()[-1]
    handle = final.register_forward_hook(
        lambda module, inputs, output: last.append(output[0] if type(output) is tuple else output)
    )
    model(IDS, use_cache=False)
    handle.remove()
    states.append(last[0])
    expected = []
    for before, after in pairwise(states):
        a, b = before.double(), after.double()
        expected.append(float(1 - ((a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))).mean()))
    agree([ours], [expected], rtol=1e-4)
    cut = resprout.prune(model, "layers-influence", 0.4, calibration=IDS)
    least = min(range(3), key=expected.__getitem__)
    assert kept(cut) == [[layer for layer in range(3) if layer != least]]


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "method", "path"),
    [("llama", "glu-activation", "mlp.down_proj"), ("phi3", "glu-activation", "mlp.down_proj"),
     ("gpt2", "mlp-activation", "mlp.c_proj"), ("opt", "mlp-activation", "fc2"),
     ("gpt_neox", "mlp-activation", "mlp.dense_4h_to_h")],
)  # fmt: skip
def test_activations(name, method, path):
    model, read = tiny(name), []
    ours = scores_of(model, method)
    for block in adapter_for(model).blocks():
        block.get_submodule(path).register_forward_pre_hook(lambda m, x: read.append(x[0].double()))
    model(IDS, use_cache=False)
    agree(ours, [x.flatten(0, -2).norm(dim=0) for x in read])
