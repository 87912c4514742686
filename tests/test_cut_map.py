"""What a cut took where: against masks counted by hand."""

import pytest
import torch
from pydantic import TypeAdapter

from resprout.models.sizes import build, configuration
from resprout.pruning.api import prune
from resprout.record_parts import CutMap
from resprout.study.cut_map import CELLS, cut_map


def small(name):
    return build(configuration(name, vocab_size=300), seed=0)


@pytest.mark.parametrize("name", ["biogpt-nano", "gpt-neox-nano", "llama-nano", "gpt2-nano"])
@pytest.mark.parametrize("protocol", ["fair", "paper"])
def test_matrices_add_up_to_the_cut(name, protocol):
    model = small(name)
    cut = prune(model, "magnitude", 0.6, protocol=protocol)
    found = cut_map(model, cut)
    TypeAdapter(CutMap).validate_python(found, strict=True)
    counts = [pair for row in found["matrices"] for pair in row["matrices"].values()]
    assert sum(gone for gone, _ in counts) == cut.prunable - cut.kept
    assert sum(count for _, count in counts) == cut.prunable
    layers = [row["name"] for row in found["matrices"] if row["name"].startswith("layer")]
    assert layers == [f"layer {i}" for i in range(model.config.num_hidden_layers)]


def test_branches_are_counted_in_their_own_weights():
    model = small("biogpt-nano")
    cut = prune(model, "magnitude", 0.6)
    found = cut_map(model, cut)
    assert found["unit"] == "branch"
    neuron = model.base_model.layers[0].neurons[1]
    name = next(n for n, p in model.named_parameters() if p is neuron.qkv.weight)
    prefix = name.removesuffix("qkv.weight")
    n, d = 8, 9
    branch = 5
    places = slice(branch * d, (branch + 1) * d)
    D = n * d
    qkv = cut.masks[f"{prefix}qkv.weight"]
    own = [qkv[part * D : (part + 1) * D][places] for part in range(3)]
    own += [cut.masks[f"{prefix}soma_proj.weight"][:, places]]
    own += [cut.masks[f"{prefix}{m}.weight"][places] for m in ("temporal_conv", "ff_down")]
    own += [cut.masks[f"{prefix}ff_up.weight"][2 * branch * d : 2 * (branch + 1) * d]]
    kept = torch.cat([mask.flatten() for mask in own])
    group = next(g for g in found["groups"] if g["name"] == "layer 0 neuron 1")
    assert group["cut"][branch] == round(1 - kept.float().mean().item(), 3)


@pytest.mark.parametrize("kind", ["mask", "remove"])
def test_whole_units_are_there_or_gone(kind):
    model = small("gpt2-nano")
    cut = prune(model, "heads-magnitude", 0.5, cut=kind)
    found = cut_map(model, cut)
    assert found["unit"] == "head"
    assert found["matrices"] == []
    for group, units in zip(found["groups"], cut.groups, strict=True):
        kept = [i for i, share in enumerate(group["cut"]) if share == 0]
        assert kept == units.kept.tolist()
        assert set(group["cut"]) <= {0.0, 1.0}


def test_many_units_are_told_in_stretches():
    model = small("llama-nano")
    cut = prune(model, "glu-maw", 0.4)
    for group, units in zip(cut_map(model, cut)["groups"], cut.groups, strict=True):
        assert len(group["cut"]) == CELLS
        assert group["units"] == units.count
        gone = 1 - len(units.kept) / units.count
        assert sum(group["cut"]) / CELLS == pytest.approx(gone, abs=0.02)


def test_nothing_cut_is_nothing_gone():
    model = small("gpt-neox-nano")
    found = cut_map(model, prune(model, "magnitude", 0))
    assert all(share == 0 for group in found["groups"] for share in group["cut"])
