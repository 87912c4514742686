"""SparseGPT against the update with explicitly inverted Hessians, and against plain cuts."""

import pytest
import torch

from resprout.pruning.scores import magnitude, wanda
from resprout.pruning.selection import keep_n_of_m, keep_per_layer, keep_per_row
from resprout.pruning.sparsegpt import sparsegpt


def problem(rows, columns, tokens=400, dtype=torch.float64, seed=0):
    """A weight (r, c) and correlated inputs (c, tokens) of unequal size."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(columns, columns, generator=generator, dtype=dtype)
    inputs = mix @ torch.randn(columns, tokens, generator=generator, dtype=dtype)
    inputs *= torch.rand(columns, 1, generator=generator, dtype=dtype) * 3
    weight = torch.randn(rows, columns, generator=generator, dtype=dtype)
    return weight, inputs


def reference(weight, hessian, block, amount=None, pattern=None, damp=0.01, held=None):
    """Optimal brain surgery column by column: the inverse of what remains, each time anew."""
    weight, hessian = weight.clone(), hessian.clone()
    rows, columns = weight.shape
    dead = hessian.diagonal() == 0
    hessian[dead, dead] = 1
    weight[:, dead] = 0
    hessian += damp * hessian.diagonal().mean() * torch.eye(columns, dtype=hessian.dtype)
    inverses = [torch.linalg.inv(hessian[j:, j:]) for j in range(columns)]
    diagonal = torch.stack([inverse[0, 0] for inverse in inverses])
    held = torch.ones_like(weight, dtype=torch.bool) if held is None else held
    kept = torch.ones_like(held)
    width = block if pattern is None else pattern[1]
    for j in range(columns):
        if j % width == 0:
            stop = min(j + width, columns)
            scores = weight[:, j:stop].square() / diagonal[j:stop]
            cells = [(r, k) for r in range(rows) for k in range(stop - j)]
            key = {(r, k): (bool(held[r, j + k]), float(scores[r, k]), r, k) for r, k in cells}
            if pattern is None:
                gone = sorted(cells, key=key.get)[: int(amount * len(cells))]
            else:
                lost = (stop - j) * (pattern[1] - pattern[0]) // pattern[1]
                gone = []
                for row in range(rows):
                    gone += sorted((cell for cell in cells if cell[0] == row), key=key.get)[:lost]
            gone += [cell for cell in cells if not held[cell[0], j + cell[1]]]
            for r, k in gone:
                kept[r, j + k] = False
        error = torch.where(kept[:, j], 0, weight[:, j]) / diagonal[j]
        weight[:, j:] -= error.unsqueeze(1) * inverses[j][0]
        weight[~kept[:, j], j] = 0
    return weight, kept


@pytest.mark.parametrize("columns", [1, 37, 40])
@pytest.mark.parametrize("block", [1, 8, 20, 40, 128])
@pytest.mark.parametrize(
    "choice",
    [{"amount": 0.0}, {"amount": 0.33}, {"amount": 0.5}, {"amount": 1.0}, {"pattern": (2, 4)}],
)
@pytest.mark.parametrize("earlier", [False, True])
def test_equals_the_update_with_explicit_inverses(columns, block, choice, earlier):
    weight, inputs = problem(6, columns)
    held = None
    if earlier:
        held = torch.rand(weight.shape, generator=torch.Generator().manual_seed(5)) > 0.3
        weight = weight * held
    hessian = inputs @ inputs.T
    before = weight.clone(), hessian.clone()
    new, kept = sparsegpt(weight, hessian, block=block, held=held, **choice)
    expected, mask = reference(weight, hessian, block, held=held, **choice)
    assert torch.equal(kept, mask)
    torch.testing.assert_close(new, expected, rtol=1e-6, atol=1e-8)
    assert (new[~kept] == 0).all()
    assert torch.equal(weight, before[0])
    assert torch.equal(hessian, before[1])
    if held is not None:
        assert not (kept & ~held).any()


@pytest.mark.parametrize("pattern", [(1, 2), (3, 5), (1, 30)])
def test_patterns_across_blocks(pattern):
    weight, inputs = problem(5, 32)
    hessian = inputs @ inputs.T
    new, kept = sparsegpt(weight, hessian, pattern=pattern, block=8)
    expected, mask = reference(weight, hessian, 8, pattern=pattern)
    assert torch.equal(kept, mask)
    torch.testing.assert_close(new, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_exact_counts_in_any_precision(dtype):
    weight, inputs = problem(16, 64, dtype=torch.float32)
    new, kept = sparsegpt(weight.to(dtype), inputs @ inputs.T, amount=0.45, block=24)
    counts = [int((~part).sum()) for part in kept.split(24, dim=1)]
    assert counts == [int(0.45 * 16 * width) for width in (24, 24, 16)]
    assert new.dtype == dtype
    assert new.is_contiguous()
    assert kept.is_contiguous()
    assert (new[~kept] == 0).all()


def test_output_error_is_below_that_of_plain_cuts():
    for seed in range(3):
        weight, inputs = problem(48, 64, dtype=torch.float32, seed=seed)
        norms = inputs.norm(dim=1)
        hessian = inputs @ inputs.T

        def error(new, weight=weight, inputs=inputs):
            return float(((new - weight) @ inputs).norm())

        by_wanda, plain = wanda(weight[None], norms[None])[0], magnitude(weight)
        unstructured = error(sparsegpt(weight, hessian, amount=0.5)[0])
        assert unstructured < error(weight * keep_per_row(by_wanda, 0.5))
        assert unstructured < error(weight * keep_per_layer(plain, 0.5))
        patterned = error(sparsegpt(weight, hessian, pattern=(2, 4))[0])
        assert patterned < error(weight * keep_n_of_m(by_wanda, 2, 4))
        assert patterned < error(weight * keep_n_of_m(plain, 2, 4))
        assert unstructured < patterned


def test_independent_inputs_leave_the_rest_alone():
    weight = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    new, kept = sparsegpt(weight, torch.eye(8), amount=0.5)
    assert torch.equal(kept, keep_per_layer(magnitude(weight), 0.5))
    torch.testing.assert_close(new, weight * kept)


def test_equal_scores_go_in_order():
    kept = sparsegpt(torch.ones(2, 4), torch.eye(4), amount=0.5)[1]
    assert kept.tolist() == [[False] * 4, [True] * 4]


def test_inputs_that_are_always_zero():
    weight, inputs = problem(5, 12)
    inputs[[2, 7]] = 0
    new, kept = sparsegpt(weight, inputs @ inputs.T, amount=0.1)
    assert (new[:, [2, 7]] == 0).all()
    expected, mask = reference(weight, inputs @ inputs.T, 128, amount=0.1)
    assert torch.equal(kept, mask)
    torch.testing.assert_close(new, expected)
    all_dead, kept = sparsegpt(weight, torch.zeros(12, 12, dtype=weight.dtype), amount=0.5)
    assert (all_dead == 0).all()
    assert int(kept.sum()) == 30


def test_fewer_tokens_than_columns():
    weight, inputs = problem(5, 40, tokens=10, dtype=torch.float32)
    new, kept = sparsegpt(weight, inputs @ inputs.T, amount=0.5)
    assert new.isfinite().all()
    assert int(kept.sum()) == 100


def test_empty_matrices():
    new, kept = sparsegpt(torch.empty(0, 4), torch.eye(4), amount=0.5)
    assert new.shape == kept.shape == (0, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one"),
        ({"amount": 0.5, "pattern": (2, 4)}, "exactly one"),
        ({"amount": 50}, "did you mean 0.5"),
        ({"pattern": (4, 4)}, "pattern: got"),
        ({"amount": 0.5, "block": 0}, "block: got 0"),
        ({"amount": 0.5, "damp": -0.1}, "damp: got -0.1"),
        ({"amount": 0.5, "damp": float("nan")}, "damp: got nan"),
        ({"amount": 0.5, "held": torch.ones(4, 3, dtype=torch.bool)}, "held: got a mask"),
        ({"amount": 0.5, "hessian": torch.eye(4)}, "hessian: got shape"),
        ({"amount": 0.5, "hessian": -torch.eye(3)}, "not positive definite"),
        ({"amount": 0.5, "hessian": torch.eye(3) * torch.nan}, "hessian: got values"),
        ({"amount": 0.5, "weight": torch.full((2, 3), torch.inf)}, "weight: got values"),
    ],
)
def test_bad_options(options, message):
    weight = options.pop("weight", torch.ones(2, 3))
    hessian = options.pop("hessian", torch.eye(3))
    with pytest.raises(ValueError, match=message):
        sparsegpt(weight, hessian, **options)
