"""Scores of weights and units against plain formulas and against OptiPFair, where it is at hand."""

import math

import pytest
import torch

from resprout.pruning import scores
from resprout.pruning.scores import l2, magnitude, maw, pon, rms, uniform, vow, wanda
from resprout.pruning.units_selection import keep_units

GLU = {"MAW": maw, "VOW": vow, "PON": pon, "L2": l2}


def pair(rows, columns, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, columns, generator=generator).to(dtype) for _ in range(2)]


def plain(name, gate, up):
    """The formulas, row by row in float64."""
    values = []
    for g, u in zip(gate.double(), up.double(), strict=True):
        values.append(
            {
                "MAW": g.max() + g.min().abs() + u.max() + u.min().abs(),
                "VOW": g.var() + u.var(),
                "PON": g.abs().sum() * u.abs().sum(),
                "L2": g.square().sum().sqrt() + u.square().sum().sqrt(),
            }[name]
        )
    return torch.stack(values)


@pytest.mark.parametrize("name", GLU)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("chunk", [1, 64, 1 << 19])
def test_glu_scores_are_their_formulas(monkeypatch, name, dtype, chunk):
    monkeypatch.setattr(scores, "_CHUNK", chunk)
    gate, up = pair(37, 24, dtype)
    before = gate.clone(), up.clone()
    found = GLU[name](gate, up)
    assert found.shape == (37,)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), plain(name, gate, up), rtol=1e-6, atol=0)
    assert torch.equal(gate, before[0])
    assert torch.equal(up, before[1])


def test_variance_far_from_zero():
    gate, up = (weight * 1e-3 + 10 for weight in pair(8, 4096))
    torch.testing.assert_close(vow(gate, up).double(), plain("VOW", gate, up), rtol=1e-5, atol=0)


def test_rows_of_one_sign_and_columns_of_one():
    rows = torch.tensor([[3.0, 1.0], [-3.0, -1.0]])
    assert maw(rows, rows).tolist() == [8.0, 4.0]  # max + |min|, as published, whatever the signs
    assert pon(rows[:, :1], rows[:, 1:]).tolist() == [3.0, 3.0]


def test_scores_of_no_neurons():
    empty = torch.empty(0, 8)
    assert all(score(empty, empty).shape == (0,) for score in GLU.values())
    with pytest.raises(ValueError, match="rows, columns"):
        maw(torch.ones(3), torch.ones(3))


@pytest.mark.parametrize("name", GLU)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_kept_neurons_equal_optipfairs(name, dtype):
    optipfair = pytest.importorskip("optipfair.pruning.mlp_glu")
    fn = getattr(optipfair, f"compute_neuron_pair_importance_{name.lower()}")
    for seed, (rows, columns) in enumerate([(7, 3), (64, 32), (1000, 128)]):
        gate, up = pair(rows, columns, dtype, seed)
        theirs = fn(gate.float(), up.float())
        ours = GLU[name](gate, up)
        for percent in (0, 1, 5, 10, 20, 30, 33.3, 40, 50, 55, 60, 70, 90, 99, 100):
            count = rows - min(int(percent / 100 * rows), rows - 1)
            expected = torch.topk(theirs, count).indices.sort().values
            kept = keep_units([ours], percent / 100)[0]
            if name == "MAW" and dtype == torch.bfloat16:  # coarse values tie; topk has no order
                assert len(kept) == count
                assert theirs[kept].sort().values.equal(theirs[expected].sort().values)
            else:
                assert torch.equal(kept, expected)


def test_whole_neurons_as_optipfair_prunes_them():
    optipfair = pytest.importorskip("optipfair.pruning.mlp_glu")
    for percent in (10, 37, 60, 100):
        mlp = torch.nn.Module()
        mlp.gate_proj, mlp.up_proj = (torch.nn.Linear(16, 50, bias=False) for _ in range(2))
        mlp.down_proj = torch.nn.Linear(50, 16, bias=False)
        gate, up = mlp.gate_proj.weight.data, mlp.up_proj.weight.data
        new_gate, new_up, _, count = optipfair.prune_neuron_pairs(mlp, percent)
        kept = keep_units([maw(gate, up)], percent / 100)[0]
        assert len(kept) == count
        assert torch.equal(gate[kept], new_gate.weight.data)
        assert torch.equal(up[kept], new_up.weight.data)


def test_magnitude_and_wanda():
    weight = torch.tensor([[[1.0, -2.0], [-3.0, 4.0]], [[-1.0, 1.0], [0.0, 2.0]]])  # (2, 2, 2)
    norms = torch.tensor([[10.0, 1.0], [2.0, 3.0]])
    assert magnitude(weight).tolist() == weight.abs().tolist()
    expected = [[[10.0, 2.0], [30.0, 4.0]], [[2.0, 3.0], [0.0, 6.0]]]
    assert wanda(weight, norms).tolist() == expected
    assert wanda(weight.bfloat16(), norms.double()).dtype == torch.float32
    inputs = torch.randn(2, 50, 2)  # (g, tokens, c)
    norms = inputs.norm(dim=1)
    by_hand = [
        [[abs(w) * math.dist(x, [0] * 50) for w, x in zip(row, xs, strict=True)] for row in group]
        for group, xs in zip(weight.tolist(), inputs.transpose(1, 2).tolist(), strict=True)
    ]
    torch.testing.assert_close(wanda(weight, norms), torch.tensor(by_hand))
    with pytest.raises(ValueError, match="norms: got shape"):
        wanda(weight, norms[:1])


def test_rms_is_over_all_parts():
    generator = torch.Generator().manual_seed(1)
    parts = [torch.randn(5, *shape, generator=generator) for shape in ((3, 4), (7,), ())]
    parts[0] = parts[0].transpose(1, 2)
    rows = torch.cat([part.reshape(5, -1) for part in parts], dim=1)
    torch.testing.assert_close(rms(parts), rows.square().mean(1).sqrt())
    assert rms([part.bfloat16() for part in parts]).dtype == torch.float32
    assert rms([torch.empty(0, 3)]).shape == (0,)
    assert rms([torch.full((1, 4), 300.0, dtype=torch.float16)]).item() == 300  # squares overflow
    with pytest.raises(ValueError, match="units"):
        rms([torch.ones(2, 3), torch.ones(3, 3)])
    with pytest.raises(ValueError, match="without elements"):
        rms([torch.ones(2, 0)])


def test_uniform_scores_are_reproducible():
    first = uniform(1000, 3, 0)
    assert first.equal(uniform(1000, 3, 0))
    assert not first.equal(uniform(1000, 4, 0))
    assert not first.equal(uniform(1000, 3, 1))
    assert first.min() >= 0
    assert first.max() < 1
    assert abs(first.mean() - 0.5) < 0.05
    assert uniform(0, 3, 0).shape == (0,)
