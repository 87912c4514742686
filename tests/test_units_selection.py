"""Which units stay, against counting by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resprout.pruning.amounts import counts_to_keep
from resprout.pruning.units_selection import keep_counts, keep_units


def lists(kept):
    return [indices.tolist() for indices in kept]


def alive(layer, mask):
    return [True] * len(layer) if mask is None else mask


def cheapest(layer, mask, cut):
    """The truth: indices that stay when `cut` go, the earlier cut first; a stable sort."""
    before = alive(layer, mask)
    order = sorted(range(len(layer)), key=lambda i: (before[i], layer[i], i))
    return sorted(order[max(cut, before.count(False)) :])


LAYER = st.lists(st.tuples(st.integers(-2, 2), st.booleans()), min_size=0, max_size=12)


def unpacked(layers, earlier):
    values = [[float(value) for value, _ in layer] for layer in layers]
    masks = [[kept for _, kept in layer] if earlier else None for layer in layers]
    tensors = [torch.tensor(layer) for layer in values]
    held = [None if m is None else torch.tensor(m, dtype=torch.bool) for m in masks]
    return values, masks, tensors, held


@settings(deadline=None)
@given(layers=st.lists(LAYER, max_size=4), amount=st.floats(0, 1), earlier=st.booleans())
def test_each_layer_loses_its_lowest(layers, amount, earlier):
    values, masks, tensors, held = unpacked(layers, earlier)
    expected = [
        cheapest(layer, mask, max(0, min(int(amount * len(layer)), len(layer) - 1)))
        for layer, mask in zip(values, masks, strict=True)
    ]
    assert lists(keep_units(tensors, amount, held=held)) == expected


@settings(deadline=None)
@given(layers=st.lists(LAYER, max_size=4), amount=st.floats(0, 1), earlier=st.booleans())
def test_all_layers_compete(layers, amount, earlier):
    values, masks, tensors, held = unpacked(layers, earlier)
    units = [
        (mask is None or mask[i], value, number, i)
        for number, (layer, mask) in enumerate(zip(values, masks, strict=True))
        for i, value in enumerate(layer)
    ]
    highest = {max(u for u in units if u[2] == number) for number in {u[2] for u in units}}
    safe = {unit for unit in highest if unit[0]}  # of equal scores the last; none cut before
    cut = max(int(amount * len(units)), sum(not unit[0] for unit in units))
    gone = set([unit for unit in sorted(units) if unit not in safe][:cut])
    expected = [
        [
            i
            for (_, _, owner, i) in sorted(set(units) - gone, key=lambda u: u[2:])
            if owner == number
        ]
        for number in range(len(values))
    ]
    assert lists(keep_units(tensors, amount, scope="global", held=held)) == expected


@settings(deadline=None)
@given(
    strata=st.integers(1, 4),
    size=st.integers(1, 6),
    amount=st.floats(0, 1),
    multiple=st.one_of(st.none(), st.integers(1, 8)),
    data=st.data(),
)
def test_strata_lose_alike(strata, size, amount, multiple, data):
    values = data.draw(st.lists(st.integers(0, 3), min_size=strata * size, max_size=strata * size))
    scores = torch.tensor(values).float()
    kept = keep_units([scores], amount, strata=[strata], round_to=multiple)[0].tolist()
    each = max(1, size - int(amount * size))
    if multiple is not None and each < size:
        fits = [k for k in range(1, each + 1) if k * strata % multiple == 0]
        above = [k for k in range(each, size + 1) if k * strata % multiple == 0]
        each = fits[-1] if fits else above[0] if above else size
    expected = []
    for s in range(strata):
        own = values[s * size : (s + 1) * size]
        expected += [s * size + i for i in cheapest(own, None, size - each)]
    assert kept == expected


def test_amounts_none_and_all():
    scores = [torch.tensor([3.0, 1.0, 2.0]), torch.tensor([5.0])]
    for scope in ("per_layer", "global"):
        assert lists(keep_units(scores, 0, scope=scope)) == [[0, 1, 2], [0]]
        assert lists(keep_units(scores, 1, scope=scope)) == [[0], [0]]
        assert keep_units([], 0.5, scope=scope) == []
        equal = keep_units([torch.zeros(4)], 0.5, scope=scope)
        assert lists(equal) == [[2, 3]]


def test_infinite_scores():
    scores = [torch.tensor([-torch.inf, torch.inf, 0.0, -torch.inf])]
    held = [torch.tensor([True, True, False, True])]
    assert lists(keep_units(scores, 0.5)) == [[1, 2]]
    assert lists(keep_units(scores, 0.5, held=held)) == [[1, 3]]
    assert lists(keep_units(scores, 0.5, scope="global", held=held)) == [[1, 3]]


def test_whole_layers_may_go_but_not_all():
    layers = [torch.tensor([score]) for score in (0.3, 0.1, 0.2)]
    kept = keep_units(layers, 0.67, scope="global", may_empty=True)
    assert lists(kept) == [[0], [], []]
    for scope in ("per_layer", "global"):
        assert lists(keep_units(layers, 1, scope=scope, may_empty=True)) == [[0], [], []]
    assert lists(keep_units([torch.zeros(3)], 1, may_empty=True)) == [[2]]
    held = [torch.tensor([False]), None, None]
    kept = keep_units(layers, 1, scope="global", may_empty=True, held=held)
    assert lists(kept) == [[], [], [0]]  # the highest that is left


def test_rounding_in_the_global_scope():
    scores = [torch.arange(10.0), torch.arange(10.0) + 100, torch.arange(3.0) + 1]
    kept = lists(keep_units(scores, 0.2, scope="global", round_to=4))
    assert kept == [[6, 7, 8, 9], list(range(10)), [0, 1, 2]]  # 7 -> 4; nothing went; 2 of 3 -> all


def test_an_earlier_cut_is_never_undone_by_rounding():
    held = [torch.tensor([True, True, False, False, False, False])]
    assert lists(keep_units([torch.arange(6.0)], 0.1, held=held, round_to=4)) == [[0, 1]]


def test_counts_given():
    scores = [torch.tensor([1.0, 4.0, 3.0, 2.0]), torch.tensor([1.0, 2.0, 4.0, 3.0])]
    assert lists(keep_counts(scores, [1, 2])) == [[1], [2, 3]]
    assert lists(keep_counts(scores, [2, 4], strata=[2, 2])) == [[1, 2], [0, 1, 2, 3]]
    held = [torch.tensor([False, False, False, True]), None]
    assert lists(keep_counts(scores, [2, 0], held=held)) == [[3], []]
    for counts, strata in (([5, 0], None), ([-1, 0], None), ([1, 0], [2, 1])):
        with pytest.raises(ValueError, match="counts: got"):
            keep_counts(scores, counts, strata=strata)


def test_expansion_rates():
    assert counts_to_keep([8192, 8192], 140, [2048, 2048]) == [2868, 2868]
    assert counts_to_keep([8192], 400, [2048]) == [8192]
    assert counts_to_keep([100], 0.001, [50]) == [1]
    assert counts_to_keep([6000], 110, [100]) == [110]  # 110 / 100 * 100 is above 110
    with pytest.raises(ValueError, match=r"got 401 \(8213 neurons.*present 400 \(8192"):
        counts_to_keep([8192], 401, [2048])
    for rate in (0, -1, None, True, float("nan"), float("inf"), "140"):
        with pytest.raises(ValueError, match="expansion_rate: got"):
            counts_to_keep([8192], rate, [2048])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"amount": 40}, "did you mean 0.4"),
        ({"scope": "layer"}, "allowed are per_layer, global"),
        ({"round_to": 0}, "round_to: got 0"),
        ({"round_to": 2.0}, "round_to: got 2.0"),
        ({"strata": [3]}, "strata: got 3 for 4 units"),
        ({"strata": [0]}, "strata: got 0"),
        ({"strata": [2], "scope": "global"}, "strata: got 2 with scope global"),
        ({"strata": [2], "may_empty": True}, "strata: got 2 with may_empty"),
        ({"held": [torch.ones(3, dtype=torch.bool)]}, "held: got a mask"),
        ({"held": [torch.ones(4)]}, "held: got a mask"),
        ({"scores": [torch.tensor([1.0, torch.nan])]}, "layer 0 are NaN"),
        ({"scores": [torch.ones(2, 2)]}, "scores: got shape"),
    ],
)
def test_bad_options(options, message):
    scores, amount = options.pop("scores", [torch.ones(4)]), options.pop("amount", 0.5)
    with pytest.raises(ValueError, match=message):
        keep_units(scores, amount, **options)
