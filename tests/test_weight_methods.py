"""Masks of single weights against torch's pruning, plain hooks and loops."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune as torch_prune
from transformers.pytorch_utils import Conv1D

import resprout
from families import CONFIGURATIONS, logits, same_bits, some_ids, subject, tiny
from resprout.pruning.adapters import adapter_for
from resprout.pruning.protocols import PROTOCOLS

IDS = some_ids(seed=5, batch=4, length=16)
# One of each way to keep a matrix: Conv1D, fused, biased, gated, grouped convolutions, two passes.
DIFFERENT = ["gpt2", "gpt_neox", "opt", "llama", "phi3", "dendritic_biogpt",
             "dendritic_biogpt_two_pass"]  # fmt: skip


def prunable(model):
    return adapter_for(model).prunable(PROTOCOLS["fair"])


def holders(model):
    """Name of each prunable parameter -> the module that holds it."""
    return {name: model.get_submodule(name.rpartition(".")[0]) for name in prunable(model)}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_magnitude_equals_torch_prune(name):
    amount = 0.37
    for scope in ("global", "per_layer"):
        ours, theirs = subject(name), subject(name)
        cut = resprout.prune(ours, "magnitude", amount, scope=scope)
        pairs = [(m, n.rpartition(".")[2]) for n, m in holders(theirs).items()]
        if scope == "global":
            torch_prune.global_unstructured(
                pairs, pruning_method=torch_prune.L1Unstructured, amount=amount
            )
        else:
            for module, weight in pairs:
                torch_prune.l1_unstructured(module, weight, amount)
        for (place, mask), (module, weight) in zip(cut.masks.items(), pairs, strict=True):
            assert torch.equal(mask, getattr(module, weight + "_mask").bool()), place
        assert torch.equal(logits(ours), logits(theirs))


def columns(module, x):
    """What each input of each of a module's matrices reads: lists [group][column] of vectors."""
    x = x.detach().double()
    if not isinstance(module, nn.Conv1d):
        return [list(x.reshape(-1, x.shape[-1]).T)]
    taps, (pad,) = module.kernel_size[0], module.padding
    x = F.pad(x, (pad, pad))
    per, steps = x.shape[1] // module.groups, x.shape[-1] - taps + 1
    return [
        [
            x[:, channel, tap : tap + steps].flatten()
            for channel in range(group * per, (group + 1) * per)
            for tap in range(taps)
        ]
        for group in range(module.groups)
    ]


def reading(model, modules, ids=IDS):
    """module -> what `columns` says, over all the calls of one forward pass."""
    read = {module: [] for module in modules}
    handles = [
        module.register_forward_pre_hook(lambda m, x: read[m].append(columns(m, x[0])))
        for module in read
    ]
    with torch.no_grad():
        model(input_ids=ids, use_cache=False)
    for handle in handles:
        handle.remove()
    return {
        module: [
            [torch.cat([call[g][c] for call in calls]) for c in range(len(calls[0][g]))]
            for g in range(len(calls[0]))
        ]
        for module, calls in read.items()
    }


def as_rows(module, weight):
    """(g, r, c), rows being outputs; a Conv1D lies the other way."""
    weight = weight.detach()
    if isinstance(module, Conv1D):
        return weight.T[None]
    groups = module.groups if isinstance(module, nn.Conv1d) else 1
    return weight.reshape(groups, weight.shape[0] // groups, -1)


def wanda_scores(model, ids=IDS, only=None):
    """|W| * ||X||, fp32 as ours, name -> (g, r, c) numpy."""
    modules = holders(model)
    if only is not None:
        modules = {name: m for name, m in modules.items() if name in only}
    read = reading(model, set(modules.values()), ids)
    found = {}
    for name, module in modules.items():
        norms = torch.tensor([[c.square().sum().sqrt() for c in g] for g in read[module]])
        rows = as_rows(module, model.get_parameter(name))
        found[name] = (rows.abs().double() * norms[:, None].double()).numpy()
    return found


def lowest_of_each_row(scores, amount):
    mask = np.ones(scores.shape, dtype=bool)
    lowest = np.argsort(scores, axis=-1, kind="stable")[..., : int(amount * scores.shape[-1])]
    np.put_along_axis(mask, lowest, False, axis=-1)
    return torch.from_numpy(mask)


def two_of_four(scores):
    mask = np.ones(scores.shape, dtype=bool)
    for g, r in np.ndindex(scores.shape[:2]):
        for start in range(0, scores.shape[2], 4):
            piece = scores[g, r, start : start + 4]
            for place in np.argsort(piece, kind="stable")[: len(piece) // 2]:
                mask[g, r, start + place] = False
    return torch.from_numpy(mask)


@pytest.mark.parametrize("name", DIFFERENT)
def test_wanda_by_hooks_and_loops(name):
    model = subject(name)
    scores, modules = wanda_scores(model), holders(model)
    rows = resprout.prune(subject(name), "wanda", 0.4, calibration=IDS)
    pattern = resprout.prune(subject(name), "wanda-2:4", calibration=IDS)
    each = resprout.prune(subject(name), "wanda", 0.4, scope="per_layer", calibration=IDS)
    every = resprout.prune(subject(name), "wanda", 0.4, scope="global", calibration=IDS)
    assert (rows.scope, pattern.scope, pattern.requested) == ("per_row", "2:4", 0.5)
    total = np.concatenate([found.ravel() for found in scores.values()])
    threshold = np.sort(total)[round(0.4 * total.size) - 1]
    for place, found in scores.items():
        module = modules[place]
        assert torch.equal(as_rows(module, rows.masks[place]), lowest_of_each_row(found, 0.4))
        assert torch.equal(as_rows(module, pattern.masks[place]), two_of_four(found))
        own = np.sort(found.ravel())[round(0.4 * found.size) - 1]
        assert torch.equal(as_rows(module, each.masks[place]), torch.from_numpy(found > own))
        assert torch.equal(as_rows(module, every.masks[place]), torch.from_numpy(found > threshold))
    assert same_bits(model, subject(name))


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3_text", *DIFFERENT[-2:]])
def test_wanda_block_by_block(name):
    """As the authors' program goes: each block's norms are of what the cut blocks put out."""
    slow = subject(name)
    modules, masks = holders(slow), {}
    for block in adapter_for(slow).blocks():
        own = {id(p) for p in block.parameters()}
        names = {n for n, p in prunable(slow).items() if id(p) in own}
        for place, scores in wanda_scores(slow, only=names).items():
            mask = lowest_of_each_row(scores, 0.5)
            as_rows(modules[place], slow.get_parameter(place))[~mask] = 0
            masks[place] = mask
    fast = subject(name)
    cut = resprout.prune(fast, "wanda", 0.5, calibration=IDS, sequential=True)
    once = resprout.prune(subject(name), "wanda", 0.5, calibration=IDS)
    for place, mask in masks.items():
        assert torch.equal(as_rows(modules[place], cut.masks[place]), mask), place
    assert same_bits(fast, slow)
    assert any(not torch.equal(once.masks[place], cut.masks[place]) for place in masks)


@pytest.mark.parametrize("scope", ["global", "per_layer", "per_row", "2:4"])
def test_random_weights(scope):
    def masks(seed):
        amount = None if ":" in scope else 0.3
        return resprout.prune(tiny("llama"), "random", amount, scope=scope, seed=seed).masks

    first, again, other = masks(0), masks(0), masks(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)
    one, two = (first[f"model.layers.{i}.mlp.up_proj.weight"] for i in (0, 1))
    assert not torch.equal(one, two)  # no two layers alike


def test_a_mask_is_all_that_changes():
    model = tiny("llama")
    before = copy.deepcopy(model)
    cut = resprout.prune(model, "wanda", 0.5, calibration=IDS)
    for name, parameter in model.named_parameters():
        mask = cut.masks.get(name, torch.ones_like(parameter, dtype=torch.bool))
        assert torch.equal(parameter, before.get_parameter(name).masked_fill(~mask, 0))
