"""What no order decides: equal scores, NaN, units that have died of it, cuts upon cuts."""

import copy

import pytest
import torch

import resprout
from families import (
    CONFIGURATIONS,
    RANDOM,
    bits,
    each_unit,
    kept,
    logits,
    parameters,
    same_bits,
    some_ids,
    subject,
    tiny,
)
from resprout.pruning.adapters import adapter_for
from resprout.pruning.methods import METHODS
from resprout.pruning.protocols import PROTOCOLS

IDS = some_ids(seed=5, batch=2)
NAN = float("nan")


def constant(name, value=0.25):
    model = tiny(name)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    return model


@pytest.mark.parametrize("value", [0.25, 0.0])
def test_of_equal_weights_the_first_go(value):
    for name in ("llama", "gpt2", "dendritic_biogpt"):
        cut = resprout.prune(constant(name, value), "magnitude", 0.3)
        joined = torch.cat([mask.flatten() for mask in cut.masks.values()])
        count = round(0.3 * cut.prunable)
        assert not joined[:count].any()
        assert joined[count:].all()
        each = resprout.prune(constant(name, value), "magnitude", 0.3, scope="per_layer")
        for mask in each.masks.values():
            gone = round(0.3 * mask.numel())
            order = mask.T if name == "gpt2" else mask  # outputs by inputs
            assert not order.flatten()[:gone].any()
            assert order.flatten()[gone:].all()
    rows = resprout.prune(constant("llama", value), "wanda", 0.5, calibration=IDS)
    for mask in rows.masks.values():
        half = mask.shape[1] // 2
        assert not mask[:, :half].any()
        assert mask[:, half:].all()
    pattern = resprout.prune(constant("llama", value), "2:4")
    for mask in pattern.masks.values():
        assert torch.equal(mask.view(-1, 4)[0], torch.tensor([False, False, True, True]))
        assert (mask.view(-1, 4) == mask.view(-1, 4)[0]).all()


@pytest.mark.parametrize(
    "method", [m for m in METHODS if METHODS[m].unit not in ("weight", "layer")]
)
def test_of_equal_units_the_first_go(method):
    if method.endswith(("random", "gate", "activation", "taylor", "entropy")):
        return  # not equal, or not exactly so
    name = next(n for n in CONFIGURATIONS if METHODS[method].unit in adapter_for(subject(n)).kinds)
    cut = resprout.prune(constant(name), method, 0.5, scope="per_layer")
    for group in cut.groups:
        assert group.kept.tolist() == list(range(group.count // 2, group.count))
    cut = resprout.prune(constant(name), method, 0.5, scope="global")
    lost = [group.count - len(group.kept) for group in cut.groups]
    assert sum(lost) == cut.prunable // 2
    for group, gone in zip(cut.groups, lost, strict=True):
        assert group.kept.tolist() == list(range(gone, group.count))


@pytest.mark.parametrize("method", METHODS)
def test_nan_leaves_the_model_alone(method):
    kind = METHODS[method].unit
    name = next(n for n in CONFIGURATIONS if kind in (*adapter_for(subject(n)).kinds, "weight"))
    if method.endswith(("random", "gate")):
        return  # weights play no part
    model = subject(name)
    adapter = adapter_for(model)
    if kind == "weight":
        weight = list(adapter.prunable(PROTOCOLS["fair"]).values())[-1]
    else:  # what makes the first group's units: queries, gates, cells
        group = adapter.groups(kind)[0]
        found = [p for module in sum(group.whole, ()) for p in module.parameters() if p.ndim == 2]
        weight = found[0] if found else group.parts[0].parameter
    with torch.no_grad():
        weight.view(-1)[-1] = NAN
        weight.view(-1)[0] = NAN
    before = bits(model)
    for scope in METHODS[method].scopes:
        scope = "2:4" if scope == "N:M" else scope
        amount = None if ":" in scope else 0.5
        with pytest.raises(ValueError, match="NaN"):
            resprout.prune(model, method, amount, scope=scope, calibration=IDS)
        assert same_bits(model, before)


def shrunk(name, kind, group, unit):
    """A model whose one unit has the smallest weights of all, biases not zero."""
    model = subject(name)
    found = adapter_for(model).groups(kind)[group]
    with torch.no_grad():
        for part in found.parts:
            if part.masked:
                view = part.parameter.movedim(part.dim, 0)
                view[part.index[unit]] = view[part.index[unit]] * 1e-4 + 1e-6
        for module in found.whole[unit] if found.whole else ():
            for parameter in module.parameters():
                parameter.mul_(1e-4).add_(1e-6)
    return model, found


@each_unit
def test_dead_units(name, kind, head_unit):
    if kind == "layer" or head_unit == "query" or name == "stories260K":
        return
    model, group = shrunk(name, kind, group=1, unit=1)
    own, total = 0, 0
    weights = {id(p) for p in adapter_for(model).prunable(PROTOCOLS["fair"]).values()}
    for part in group.parts:
        if id(part.parameter) in weights:
            own += part.index.shape[1] * part.parameter.numel() // part.parameter.shape[part.dim]
    for module in group.whole[1] if group.whole else ():
        own += sum(p.numel() for p in module.parameters() if id(p) in weights)
    total = sum(p.numel() for p in adapter_for(model).prunable(PROTOCOLS["fair"]).values())
    before, uncut = parameters(model), copy.deepcopy(model)
    options = {"dead_threshold": 0.9, "dead_unit": kind}
    cut = resprout.prune(model, "magnitude", 0.97 * own / total, **options)
    assert cut.dead_units == [f"{group.name} {kind.replace('_', ' ')} 1"]
    assert cut.group_kind == kind
    assert cut.unit == "weight"
    for part in adapter_for(model).groups(kind)[1].parts:
        if part.masked:
            assert not part.parameter.movedim(part.dim, 0)[part.index[1]].any()
    expected = logits(model)
    smaller = resprout.remove(model, cut)
    assert parameters(model) < before
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-4)
    for place, mask in smaller.masks.items():
        assert not model.get_parameter(place)[~mask].any()
    at_once = resprout.prune(uncut, "magnitude", 0.97 * own / total, cut="remove", **options)
    assert same_bits(uncut, model)
    assert at_once.cut == "remove"
    assert at_once.masks.keys() == smaller.masks.keys()


def test_all_units_dead():
    """Of a layer in which none lives one stays when they are removed, whole and zero."""
    for name, kind in (("llama", "glu_neuron"), ("gpt2", "head"), ("dendritic_biogpt", "neuron")):
        model = tiny(name)
        options = {"dead_threshold": 0.5, "dead_unit": kind}
        cut = resprout.prune(model, "magnitude", 1.0, **options)
        assert kept(cut) == [[] for _ in cut.groups]
        expected = logits(model)
        resprout.remove(model, cut)
        assert [g.count for g in adapter_for(model).groups(kind)] == [1] * len(cut.groups)
        torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2", "dendritic_biogpt_two_pass"])
def test_what_went_once_goes_first(name):
    """Weights upon weights, units upon weights, weights upon units."""
    ids = {"calibration": IDS}
    for scope in ("global", "per_layer", "per_row", "2:4"):
        model = tiny(name)
        first = resprout.prune(model, "random", 0.3, scope="per_row")
        amount = None if ":" in scope else 0.6
        for method in ("magnitude", "random", "wanda"):
            other = copy.deepcopy(model)
            cut = resprout.prune(other, method, amount, scope=scope, previous=first, **ids)
            assert all(not (cut.masks[n] & ~first.masks[n]).any() for n in first.masks)
            if ":" not in scope:
                assert cut.achieved == pytest.approx(0.6, abs=0.06)
            assert len(cut.earlier) == 1
            assert all(not other.get_parameter(n)[~mask].any() for n, mask in cut.masks.items())
    model = tiny(name)
    kind = adapter_for(model).kinds[0]
    units = resprout.prune(model, RANDOM[kind], 0.5, scope="per_layer")
    weights = resprout.prune(model, "magnitude", 0.7, previous=units)
    for place, mask in units.masks.items():
        assert not (weights.masks[place] & ~mask).any()
    again = resprout.prune(model, RANDOM[kind], 0.6, scope="per_layer", seed=1, previous=weights)
    for before, after in zip(units.groups, again.groups, strict=True):
        assert set(after.kept.tolist()) <= set(before.kept.tolist())
    less = resprout.prune(model, RANDOM[kind], 0, scope="per_layer", previous=again)
    assert kept(less) == kept(again)


def test_sparsegpt_upon_an_earlier_cut():
    model = tiny("llama")
    first = resprout.prune(model, "random", 0.3, scope="per_row")
    cut = resprout.prune(model, "sparsegpt", 0.6, previous=first, calibration=IDS)
    assert all(not (cut.masks[n] & ~first.masks[n]).any() for n in first.masks)
    assert all(not model.get_parameter(n)[~mask].any() for n, mask in cut.masks.items())
    assert cut.achieved == pytest.approx(0.6, abs=0.01)
