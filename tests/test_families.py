"""The contract of every family: what its units are, and that a mask and a removal are the same."""

import copy

import pytest
import torch

import resprout
from families import (
    CONFIGURATIONS,
    GROUPED,
    KIN,
    NAMES,
    RANDOM,
    STORIES,
    bits,
    each_name,
    each_unit,
    kept,
    logits,
    parameters,
    same_bits,
    some_ids,
    subject,
)
from resprout.pruning.adapters import FAMILIES, adapter_for
from resprout.pruning.methods import METHODS
from resprout.pruning.protocols import PROTOCOLS

CALIBRATION = some_ids(seed=5, batch=4, length=16)
TOLERANCE = {"rtol": 0, "atol": 1e-4}
STRUCTURED = [
    pytest.param(
        name,
        method.name,
        marks=pytest.mark.slow if name in KIN else (),
        id=f"{name}-{method.name}",
    )
    for name in NAMES
    for method in METHODS.values()
    if method.unit != "weight"
    and method.score != "gate"
    and method.unit
    in FAMILIES["llama" if name == STORIES else CONFIGURATIONS[name]().model_type].kinds
]


def test_every_family_has_a_model_here():
    assert {make().model_type for make in CONFIGURATIONS.values()} == set(FAMILIES)
    for name in NAMES:
        config = subject(name).config
        heads = getattr(config, "num_attention_heads", None)
        shared = getattr(config, "num_key_value_heads", heads)
        assert (name in GROUPED) == (shared != heads), name


@each_unit
def test_no_place_belongs_to_two_units(name, kind, head_unit):
    model = subject(name)
    painted = {}  # parameter -> how many units claim each of its places
    for group in adapter_for(model).groups(kind, head_unit):
        sizes = torch.zeros(group.count, dtype=torch.long)
        assert group.count % group.strata == 0
        for part in group.parts:
            assert part.index.shape[0] == group.count
            counts = painted.setdefault(part.parameter, torch.zeros(part.parameter.shape).long())
            for unit, places in enumerate(part.index.tolist()):
                counts.movedim(part.dim, 0)[places] += 1
                if part.masked:
                    sizes[unit] += counts.movedim(part.dim, 0)[places].numel()
        for unit, modules in enumerate(group.whole):
            for parameter in {p for module in modules for p in module.parameters()}:
                painted.setdefault(parameter, torch.zeros(parameter.shape).long()).add_(1)
                sizes[unit] += parameter.numel()
        assert torch.equal(group.sizes(), sizes)
        for module, owner in group.outputs:
            width = adapter_for(model).prunable(PROTOCOLS["fair"])  # what may be cut holds them
            assert any(module.weight is weight for weight in width.values())
            inputs = getattr(module, "nx", None) or module.in_features
            assert owner.shape == (inputs,)
            if kind != "neuron":  # a cell of BioGPT has a projection to itself
                assert owner.bincount().tolist() == [inputs // group.count] * group.count
    assert all(counts.max() == 1 for counts in painted.values())


@each_name
def test_every_matrix_of_the_blocks_belongs_to_some_unit(name):
    model = subject(name)
    adapter = adapter_for(model)
    claimed = {}
    for other in adapter.kinds:
        for group in adapter.groups(other):
            for part in group.parts:
                seen = claimed.setdefault(part.parameter, torch.zeros(part.parameter.shape).bool())
                seen.movedim(part.dim, 0)[part.index.flatten()] = True
            if other == "neuron":
                for parameter in (p for m in sum(group.whole, ()) for p in m.parameters()):
                    claimed[parameter] = torch.ones_like(parameter, dtype=torch.bool)
    for place, parameter in adapter.prunable(PROTOCOLS["fair"]).items():
        if "feedback" not in place:
            assert claimed[parameter].all(), place


@each_unit
def test_masked_equals_removed(name, kind, head_unit):
    original = subject(name)
    before = logits(original)
    for scope in METHODS[RANDOM[kind]].scopes:
        if scope == "global" and head_unit == "query":
            continue
        masked, removed = copy.deepcopy(original), copy.deepcopy(original)
        options = {"scope": scope, "seed": 1, "head_unit": head_unit}
        cut = resprout.prune(masked, RANDOM[kind], 0.6, **options)
        gone = resprout.prune(removed, RANDOM[kind], 0.6, cut="remove", **options)
        assert kept(cut) == kept(gone)
        assert cut.cut == "mask"
        assert gone.cut == "remove"
        assert gone.masks == {}
        expected = logits(masked)
        assert (expected - before).abs().max() > 1e-2  # the cut is felt
        torch.testing.assert_close(logits(removed), expected, **TOLERANCE)
        assert gone.removed == parameters(original) - parameters(removed) > 0
        assert gone.prunable_parameters == cut.prunable_parameters
        taken = resprout.remove(masked, cut)
        assert same_bits(masked, removed)
        assert type(masked) is type(removed)
        assert masked.config.to_dict() == removed.config.to_dict()
        assert kept(taken) == kept(gone)
        assert taken.masks == {}
        assert torch.equal(logits(masked), logits(removed))


@pytest.mark.parametrize(("name", "method"), STRUCTURED)
def test_every_method_masks_and_removes_alike(name, method):
    masked = subject(name)
    before = bits(masked)
    removed = copy.deepcopy(masked)
    cut = resprout.prune(masked, method, 0.5, calibration=CALIBRATION)
    gone = resprout.prune(removed, method, 0.5, calibration=CALIBRATION, cut="remove")
    assert kept(cut) == kept(gone)
    assert 0.25 < cut.achieved <= 0.5
    torch.testing.assert_close(logits(removed), logits(masked), **TOLERANCE)
    for place, after in masked.state_dict().items():
        mask = cut.masks.get(place)
        left = before[place] if mask is None else before[place].masked_fill(~mask, 0)
        if place in dict(masked.named_parameters()):  # a tied tensor stands under one name only
            assert torch.equal(after, left), place
    assert masked.training is removed.training is False
    assert all(p.requires_grad for model in (masked, removed) for p in model.parameters())


@each_unit
def test_amounts_none_and_all(name, kind, head_unit):
    original = subject(name)
    scopes = METHODS[RANDOM[kind]].scopes
    for cut_kind, scope in (("mask", scopes[-1]), ("remove", scopes[0])):
        scope = "per_layer" if head_unit == "query" else scope
        options = {"scope": scope, "cut": cut_kind, "head_unit": head_unit}
        model = copy.deepcopy(original)
        config = model.config.to_dict()
        cut = resprout.prune(model, RANDOM[kind], 0, **options)
        assert same_bits(model, original)
        assert type(model) is type(original)
        assert model.config.to_dict() == config
        assert (cut.achieved, cut.removed, cut.kept) == (0, 0, cut.prunable)
        cut = resprout.prune(model, RANDOM[kind], 1, **options)
        strata = [group.strata for group in adapter_for(original).groups(kind, head_unit)]
        if name != "dendritic_biogpt_two_pass" or kind != "layer":
            assert [len(group.kept) for group in cut.groups] == strata
        assert logits(model).isfinite().all()


def test_layers_that_feed_back_stay():
    model = subject("dendritic_biogpt_two_pass")
    ends = {end for pair in model.config.feedback_pairs for end in pair}
    (group,) = adapter_for(model).groups("layer")
    assert set(group.fixed) == ends
    assert 0 < len(ends) < group.count
    for seed in range(4):
        removed = copy.deepcopy(model)
        cut = resprout.prune(removed, "layers-random", 1, cut="remove", seed=seed)
        assert set(kept(cut)[0]) == ends
        assert len(removed.model.layers) == len(ends)
        pairs = removed.config.feedback_pairs
        assert len(pairs) == len(model.config.feedback_pairs)
        assert {end for pair in pairs for end in pair} == set(range(len(ends)))
    one_pass = adapter_for(subject("dendritic_biogpt")).groups("layer")[0]
    assert not one_pass.fixed


@each_name
def test_two_removals_equal_two_masks(name):
    """Of the same units twice, and of other units after them."""
    original = subject(name)
    kinds = adapter_for(original).kinds
    first = next(m for m in ("glu-maw", "mlp-magnitude", "branches-magnitude")
                 if METHODS[m].unit in kinds)  # fmt: skip
    second = "heads-random" if "head" in kinds else "neurons-random"
    masked, removed = copy.deepcopy(original), copy.deepcopy(original)
    per_layer = {"scope": "per_layer"}
    half = resprout.prune(masked, first, 0.5, **per_layer)
    more = resprout.prune(masked, first, 0.75, previous=half, **per_layer)
    last = resprout.prune(masked, second, 0.5, previous=more, **per_layer)
    assert [each["method"] for each in last.earlier] == [first, first]
    for method in (first, first, second):
        resprout.prune(removed, method, 0.5, cut="remove", **per_layer)
    torch.testing.assert_close(logits(removed), logits(masked), **TOLERANCE)
    # Only the last cut's units can be taken out by it; what the others zeroed goes on being held.
    later = resprout.remove(masked, last)
    assert set(later.masks) <= dict(masked.named_parameters()).keys()
    assert later.masks
    torch.testing.assert_close(logits(masked), logits(removed), **TOLERANCE)
    for place, mask in later.masks.items():
        assert mask.shape == masked.get_parameter(place).shape
        assert not masked.get_parameter(place)[~mask].any()
