"""Selection against torch's own pruning and a plain sort."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune as torch_prune

from resprout.pruning import selection
from resprout.pruning.scores import magnitude
from resprout.pruning.selection import count_to_cut, keep_highest


@pytest.mark.parametrize("amount", [0.0, 0.1, 0.45, 0.5, 0.9, 1.0])
def test_global_magnitude_equals_torch_prune(amount):
    torch.manual_seed(3)
    layers = [nn.Linear(31, 17), nn.Linear(17, 40), nn.Conv1d(8, 8, 5)]
    weights = [layer.weight.detach().clone() for layer in layers]
    masks = keep_highest(weights, magnitude, count_to_cut(sum(w.numel() for w in weights), amount))
    torch_prune.global_unstructured(
        [(layer, "weight") for layer in layers],
        pruning_method=torch_prune.L1Unstructured,
        amount=amount,
    )
    for mask, layer in zip(masks, layers, strict=True):
        assert torch.equal(mask, layer.weight_mask.bool())


@settings(deadline=None)
@given(
    values=st.lists(
        st.lists(st.floats(-4, 4, width=16), min_size=0, max_size=20), min_size=1, max_size=4
    ),
    share=st.floats(0, 1),
    chunk=st.integers(1, 7),
    sample=st.integers(1, 40),
)
def test_the_lowest_go_and_ties_go_in_order(values, share, chunk, sample):
    weights = [torch.tensor(part) for part in values]
    total = sum(weight.numel() for weight in weights)
    cut = round(share * total)
    with pytest.MonkeyPatch.context() as patch:  # so small that every path is walked
        patch.setattr(selection, "_CHUNK", chunk)
        patch.setattr(selection, "_SAMPLE", sample)
        masks = keep_highest(weights, magnitude, cut)
    joined = torch.cat([mask.flatten() for mask in masks]).tolist()
    scores = [abs(value) for part in values for value in part]
    gone = set(sorted(range(total), key=lambda i: (scores[i], i))[:cut])  # a stable sort
    assert joined == [i not in gone for i in range(total)]


@pytest.mark.parametrize("amount", [1e-6, 0.1, 0.45, 0.6, 0.999999])
@pytest.mark.parametrize("zeros", [0.0, 0.5])
def test_large_tensors_with_and_without_ties(amount, zeros):
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(700, 1000, generator=generator) for _ in range(4)]
    for weight in weights:
        weight[torch.rand(weight.shape, generator=generator) < zeros] = 0
        weight[:100] *= 1e-3  # rows unlike the others: no sample is fair to them
    cut = count_to_cut(2_800_000, amount)
    masks = keep_highest(weights, magnitude, cut)
    assert sum(int((~mask).sum()) for mask in masks) == cut
    scores = torch.cat([w.abs().flatten() for w in weights])
    kept = torch.cat([mask.flatten() for mask in masks])
    assert scores[~kept].max() <= scores[kept].min()


def test_a_sample_that_misleads_is_found_out(monkeypatch):
    monkeypatch.setattr(selection, "_SAMPLE", 1000)
    weight = torch.ones(1_000_000)
    weight[::1000] = torch.arange(1000.0) + 2  # all that the sample sees
    cut = 999_500
    kept = keep_highest([weight], magnitude, cut)[0]
    assert int((~kept).sum()) == cut
    assert weight[~kept].max() <= weight[kept].min()


def test_negative_scores_are_ordered_too():
    weights = [torch.tensor([3.0, -2.0, 0.0, -5.0, 1.0])]
    assert keep_highest(weights, lambda w: w, 2)[0].tolist() == [True, False, True, False, True]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_precision(dtype):
    weight = torch.linspace(-1, 1, 11).to(dtype)
    kept = keep_highest([weight], magnitude, 5)[0]
    assert kept.tolist() == [True] * 3 + [False] * 5 + [True] * 3


def test_nan_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        keep_highest([torch.tensor([1.0, float("nan")])], magnitude, 1)


def test_infinite_weights_stay_longest():
    weights = [torch.tensor([1.0, -torch.inf, 2.0])]
    assert keep_highest(weights, magnitude, 2)[0].tolist() == [False, True, False]


def test_amounts_of_any_kind_of_number():
    assert [count_to_cut(10, x) for x in (1, 0.5, np.float32(0.5), np.int64(0))] == [10, 5, 5, 0]
    assert count_to_cut(294_532_636, np.float16(0.5)) == 147_266_318


@pytest.mark.parametrize(
    ("amount", "message"),
    [
        (None, "got None"),
        (40, "did you mean 0.4"),
        (1.01, "allowed is a fraction"),
        (-0.1, "allowed is a fraction"),
        (float("nan"), "allowed is a fraction"),
        (True, "got True"),
        ("0.5", "got '0.5'"),
    ],
)
def test_bad_amounts(amount, message):
    with pytest.raises(ValueError, match=message):
        count_to_cut(100, amount)
