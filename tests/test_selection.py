"""Selection of weights against torch's own pruning and a plain sort."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune as torch_prune

from resprout.pruning import selection, threshold
from resprout.pruning.amounts import count_to_cut, parse_pattern
from resprout.pruning.scores import magnitude, wanda
from resprout.pruning.selection import (
    RandomScore,
    WandaScore,
    keep_highest,
    keep_n_of_m,
    keep_per_layer,
    keep_per_row,
    without_lowest,
)


def lowest_gone(scores, cut, held=None):
    """The truth: which stay of a list when `cut` go, the earlier cut first; a stable sort."""
    held = held or [True] * len(scores)
    cut = max(cut, held.count(False))
    gone = set(sorted(range(len(scores)), key=lambda i: (held[i], scores[i], i))[:cut])
    return [i not in gone for i in range(len(scores))]


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
        st.lists(st.tuples(st.floats(-4, 4, width=16), st.booleans()), min_size=0, max_size=20),
        min_size=1,
        max_size=4,
    ),
    share=st.floats(0, 1),
    chunk=st.integers(1, 7),
    sample=st.integers(1, 40),
    earlier=st.sampled_from(["none", "some", "all"]),
)
def test_the_lowest_go_and_ties_go_in_order(values, share, chunk, sample, earlier):
    weights = [torch.tensor([value for value, _ in part]) for part in values]
    masks = [torch.tensor([kept for _, kept in part], dtype=torch.bool) for part in values]
    held = None
    if earlier != "none":
        held = [mask if earlier == "all" or i % 2 else None for i, mask in enumerate(masks)]
    cut = round(share * sum(weight.numel() for weight in weights))
    with pytest.MonkeyPatch.context() as patch:  # so small that every path is walked
        patch.setattr(threshold, "_CHUNK", chunk)
        patch.setattr(threshold, "_SAMPLE", sample)
        masks_now = keep_highest(weights, magnitude, cut, held=held)
    joined = torch.cat([mask.flatten() for mask in masks_now]).tolist()
    scores = [abs(value) for part in values for value, _ in part]
    before = [
        kept if held is not None and held[i] is not None else True
        for i, part in enumerate(values)
        for _, kept in part
    ]
    assert joined == lowest_gone(scores, cut, before)


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
    monkeypatch.setattr(threshold, "_SAMPLE", 1000)
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


@pytest.mark.parametrize("values", [[torch.inf, -torch.inf, 0.0, -torch.inf], [2.0] * 4, [0.0] * 4])
@pytest.mark.parametrize("held", [None, [True, True, False, True], [False] * 4])
def test_infinities_and_equal_scores_with_an_earlier_cut(values, held):
    mask = None if held is None else torch.tensor(held)
    for cut in range(5):
        expected = lowest_gone(values, cut, held)
        scores = torch.tensor(values)
        kept = keep_highest([scores], lambda w: w, cut, held=[mask])[0]
        assert kept.tolist() == expected
        assert without_lowest(scores, cut, mask).tolist() == expected


def test_masks_are_the_callers_own():
    held = torch.tensor([True, False])
    kept = keep_highest([torch.ones(2)], magnitude, 0, held=[held])[0]
    kept[0] = False
    assert held.tolist() == [True, False]
    with pytest.raises(ValueError, match="held: got a mask of"):
        keep_highest([torch.ones(3)], magnitude, 1, held=[held])


def test_tensors_that_are_not_contiguous():
    weight = torch.randn(30, 20, generator=torch.Generator().manual_seed(0)).t()
    expected = lowest_gone(weight.abs().flatten().tolist(), 123)
    assert keep_highest([weight], magnitude, 123)[0].flatten().tolist() == expected


@pytest.mark.parametrize("sample", [50, 1 << 20])
def test_random_scores_are_reproducible_and_uniform(monkeypatch, sample):
    monkeypatch.setattr(threshold, "_CHUNK", 1000)
    monkeypatch.setattr(threshold, "_SAMPLE", sample)
    weights = [torch.zeros(70, 100), torch.zeros(3000)]
    cut = 4000
    kept = keep_highest(weights, RandomScore(7), cut)
    assert sum(int((~mask).sum()) for mask in kept) == cut
    again = keep_highest([weight + 1 for weight in weights], RandomScore(7), cut)
    other = keep_highest(weights, RandomScore(8), cut)
    assert all(torch.equal(a, b) for a, b in zip(kept, again, strict=True))
    assert not torch.equal(kept[0], other[0])
    shares = torch.cat([mask.flatten() for mask in kept]).view(10, 1000).float().mean(1)
    assert (shares - 0.6).abs().max() < 0.08  # five standard deviations in each chunk
    chunks = torch.cat([mask.flatten() for mask in kept]).view(10, 1000)
    assert len({tuple(chunk.tolist()) for chunk in chunks}) == 10  # each chunk has its own
    more = keep_highest(weights, RandomScore(7), 7000, held=kept)
    assert all(bool((a >= b).all()) for a, b in zip(kept, more, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("sample", [40, 1 << 20])
def test_wanda_among_all_tensors(monkeypatch, dtype, chunk, sample):
    monkeypatch.setattr(threshold, "_CHUNK", chunk)
    monkeypatch.setattr(threshold, "_SAMPLE", sample)
    generator = torch.Generator().manual_seed(2)

    def rand(*shape):
        return torch.randn(*shape, generator=generator)

    weights = [rand(9, 12).to(dtype), rand(3, 8, 5).to(dtype), rand(6, 10).to(dtype)]
    plain, grouped, inputs_are_rows = rand(12).abs(), rand(3, 5).abs(), rand(6).abs()
    norms = [
        plain,
        grouped[:, None].expand_as(weights[1]),
        inputs_are_rows[:, None].expand_as(weights[2]),
    ]
    kept = keep_highest(weights, WandaScore(norms), 130)
    scores = [w.abs().to(torch.promote_types(dtype, torch.float32)) for w in weights]
    scores = [score * norm for score, norm in zip(scores, norms, strict=True)]
    if dtype is not torch.float64:
        assert torch.equal(scores[1], wanda(weights[1], grouped))
    truth = lowest_gone(torch.cat([score.flatten() for score in scores]).tolist(), 130)
    assert torch.cat([mask.flatten() for mask in kept]).tolist() == truth


@pytest.mark.parametrize("norms", [[], [torch.ones(3)], [torch.ones(2, 4)[:, :1]]])
def test_norms_that_do_not_fit(norms):
    with pytest.raises(ValueError, match="norms: got"):
        keep_highest([torch.ones(2, 4)], WandaScore(norms), 1)


MATRICES = st.tuples(st.integers(1, 3), st.integers(0, 4), st.integers(1, 9)).flatmap(
    lambda shape: st.tuples(
        st.just(shape),
        st.lists(
            st.tuples(st.integers(-2, 2), st.booleans()),
            min_size=shape[0] * shape[1] * shape[2],
            max_size=shape[0] * shape[1] * shape[2],
        ),
    )
)


@settings(deadline=None)
@given(
    matrix=MATRICES,
    amount=st.floats(0, 1),
    earlier=st.booleans(),
    n=st.integers(1, 4),
    more=st.integers(1, 3),
    chunk=st.integers(1, 20),
)
def test_matrices_lose_the_lowest_of_each_group(matrix, amount, earlier, n, more, chunk):
    shape, cells = matrix
    scores = torch.tensor([float(value) for value, _ in cells]).view(shape)
    mask = torch.tensor([kept for _, kept in cells], dtype=torch.bool).view(shape)
    held = mask if earlier else None
    before = mask if earlier else torch.ones_like(mask)
    rows, kepts = scores.flatten(0, 1).tolist(), before.flatten(0, 1).tolist()
    c, m = shape[2], n + more
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "_CHUNK", chunk)
        per_row = keep_per_row(scores, amount, held)
        n_of_m = keep_n_of_m(scores, n, m, held)
    per_layer = keep_per_layer(scores, amount, held)
    for row, kept, by_row, by_group in zip(
        rows, kepts, per_row.flatten(0, 1).tolist(), n_of_m.flatten(0, 1).tolist(), strict=True
    ):
        assert by_row == lowest_gone(row, int(amount * c), kept)
        expected = []
        for i in range(0, c, m):
            group = row[i : i + m]
            expected += lowest_gone(group, len(group) * more // m, kept[i : i + m])
        assert by_group == expected
    total = round(amount * scores.numel())
    flat = lowest_gone(scores.flatten().tolist(), total, before.flatten().tolist())
    assert per_layer.flatten().tolist() == flat
    assert per_layer.shape == per_row.shape == n_of_m.shape == shape


@pytest.mark.parametrize("way", [keep_per_row, keep_per_layer])
def test_amounts_of_matrices(way):
    scores = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    assert way(scores, 0).all()
    assert not way(scores, 1).any()
    assert way(scores.bfloat16(), 0.5).sum() == 40
    with pytest.raises(ValueError, match=r"did you mean 0\.4"):
        way(scores, 40)
    scores[0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        way(scores, 0.5)


def test_empty_tensors():
    assert keep_highest([], magnitude, 0) == []
    for shape in ((1, 0, 4), (1, 4, 0), (0, 3, 3)):
        empty = torch.empty(shape)
        assert keep_per_row(empty, 0.5).shape == shape
        assert keep_per_layer(empty, 0.5).shape == shape
        assert keep_n_of_m(empty, 2, 4).shape == shape
    kept = keep_highest([torch.empty(0, 3), torch.tensor([2.0, 1.0])], RandomScore(0), 1)
    assert sum(int(mask.sum()) for mask in kept) == 1


def test_two_of_four_as_in_the_published_example():
    scores = torch.tensor([[[1.0, 4.0, 3.0, 2.0, 5.0, 5.0, 5.0, 5.0, 9.0, 8.0]]])
    kept = keep_n_of_m(scores, 2, 4)[0, 0].int().tolist()
    assert kept == [0, 1, 1, 0, 0, 0, 1, 1, 1, 0]  # two left over lose one
    with pytest.raises(ValueError, match="NaN"):
        keep_n_of_m(scores * torch.nan, 2, 4)
    with pytest.raises(ValueError, match="1 <= n < m"):
        keep_n_of_m(scores, 4, 4)


def test_patterns():
    assert parse_pattern("2:4") == (2, 4)
    assert parse_pattern(" 1 : 16 ") == (1, 16)


@pytest.mark.parametrize("text", ["", "2", "4:2", "4:4", "0:4", "-1:4", "2:4:8", "2/4", None, 24])
def test_bad_patterns(text):
    with pytest.raises(ValueError, match=r"pattern: got .*such as 2:4"):
        parse_pattern(text)
