"""Tests between two subjects, on the same windows or the same items. Pure functions of arrays."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resprout.measure.statistics import (
    RESAMPLES,
    Estimate,
    Floats,
    effective_number,
    estimate,
    resampling_weights,
    weighted_mean,
)

ENUMERATED_PAIRS = 16  # 2^16 sign patterns at most are gone through one by one
FLIPS = 9999
_CHUNK = 500  # sign patterns at once: memory


def paired_difference(
    a: ArrayLike, b: ArrayLike, sizes: ArrayLike, seed: int = 0, resamples: int = RESAMPLES
) -> Estimate:
    """Loss per token of A minus that of B, with a paired bootstrap interval.

    Both are drawn with the same windows (and seeds), so what a window is like for both cancels.

    Args:
        a: (W,) or (S, W), summed loss per window (and seed) of A.
        b: of B, on the same windows.
        sizes: (W,) predicted tokens per window.
        seed: of the bootstrap.
        resamples: R.

    Raises:
        ValueError: shapes that differ.
    """
    first, second, tokens = _paired(a, b, sizes)
    effective = effective_number(tokens)
    weights = resampling_weights(len(first), len(tokens), resamples, seed, effective)
    return estimate(lambda w: weighted_mean(first - second, tokens, w), weights)


def _paired(a: ArrayLike, b: ArrayLike, sizes: ArrayLike) -> tuple[Floats, Floats, Floats]:
    first, second = (np.atleast_2d(np.asarray(x, dtype=np.float64)) for x in (a, b))
    if first.shape != second.shape:
        raise ValueError(f"b: got losses of shape {second.shape}, allowed is a's, {first.shape}")
    tokens = np.asarray(sizes, dtype=np.float64)
    if tokens.shape != first.shape[1:]:
        raise ValueError(f"sizes: got {tokens.size}, allowed is one per window, {first.shape[1]}")
    return first, second, tokens


def sign_flip_p(differences: ArrayLike, seed: int = 0, flips: int = FLIPS) -> float:
    """Two-sided p-value of paired differences, (N,); see `sign_flip_ps`."""
    return float(sign_flip_ps(np.atleast_2d(np.asarray(differences)), seed, flips)[0])


def sign_flip_ps(differences: ArrayLike, seed: int = 0, flips: int = FLIPS) -> Floats:
    """Two-sided p-values of the sign-flip (randomisation) test; Fisher 1935, section 21.

    Were the two subjects alike, each pair's difference could as well have had the other sign. p is
    the share of sign patterns whose sum lies as far from zero as the one seen. Up to 16 pairs all
    patterns are gone through; of more, `flips` random ones, and p = (b + 1) / (m + 1), which never
    is zero and never too small (Phipson and Smyth 2010).

    Args:
        differences: (H, N), a row per hypothesis, a column per pair (window, item).
        seed: of the random patterns, the same ones for every row.
        flips: m.

    Returns:
        (H,)

    Raises:
        ValueError: no pair, or a difference that is not finite.
    """
    rows = np.asarray(differences, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ValueError(f"differences: got shape {rows.shape}, allowed is one pair or more")
    if not np.isfinite(rows).all():
        raise ValueError("differences: got a value that is not finite")
    if flips < 1:
        raise ValueError(f"flips: got {flips}, allowed is 1 or more")
    # What is equal but for rounding counts as equal.
    seen = np.abs(rows.sum(axis=1)) - 1e-12 * np.abs(rows).sum(axis=1)
    N = rows.shape[1]
    if N <= ENUMERATED_PAIRS:
        sums = np.zeros((len(rows), 1))
        for column in rows.T:
            sums = np.concatenate([sums + column[:, None], sums - column[:, None]], axis=1)
        return (np.abs(sums) >= seen[:, None]).mean(axis=1)
    generator = np.random.default_rng(seed)
    as_far = np.zeros(len(rows), dtype=np.int64)
    for start in range(0, flips, _CHUNK):
        signs = 1.0 - 2.0 * generator.integers(
            2, size=(min(_CHUNK, flips - start), N), dtype=np.int8
        )
        as_far += (np.abs(signs @ rows.T) >= seen).sum(axis=0)
    return (as_far + 1) / (flips + 1)


def resampled_p(values: ArrayLike) -> float:
    """Two-sided p-value of (1 + R,) resamples: the level at which their interval first holds zero.

    Twice the smaller tail beyond zero, never below 2 / (R + 1).
    """
    resamples = np.asarray(values, dtype=np.float64)[1:]
    tail = min((resamples <= 0).sum(), (resamples >= 0).sum())
    return float(min(1.0, 2 * (tail + 1) / (len(resamples) + 1)))


@dataclass(frozen=True)
class McNemar:
    """Two subjects on the same items: how often each was right, and the p-value of a difference."""

    both: int
    only_first: int
    only_second: int
    neither: int
    p: float

    @property
    def items(self) -> int:
        """How many items."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def difference(self) -> float:
        """Share right of the first minus that of the second."""
        return (self.only_first - self.only_second) / self.items


def mcnemar(first: ArrayLike, second: ArrayLike, mid_p: bool = False) -> McNemar:
    """McNemar's test (1947), exact: of the items that one alone got right, half should be each's.

    Two-sided: twice the smaller binomial tail, at most 1. Exact is conservative; the mid-p variant
    counts the outcome seen by half (Fagerland, Lydersen and Laake 2013).

    Args:
        first: (N,) whether the first subject was right, item by item; booleans or 0 and 1.
        second: of the second, on the same items.
        mid_p: count the outcome seen by half.

    Raises:
        ValueError: no items, not as many of each, or values other than right and wrong.
    """
    a, b = _right("first", first), _right("second", second)
    if len(a) != len(b):
        raise ValueError(f"second: got {len(b)} items, allowed is as many as of first, {len(a)}")
    only_a, only_b = int((a & ~b).sum()), int((~a & b).sum())
    return McNemar(
        both=int((a & b).sum()),
        only_first=only_a,
        only_second=only_b,
        neither=int((~a & ~b).sum()),
        p=_two_sided_half(only_a, only_b, mid_p),
    )


def _right(name: str, values: ArrayLike) -> NDArray[np.bool_]:
    array = np.asarray(values)
    if array.ndim != 1 or len(array) == 0:
        raise ValueError(f"{name}: got shape {array.shape}, allowed is one item or more")
    if not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name}: got values other than right and wrong, allowed are 0 and 1")
    return array.astype(bool)


def _two_sided_half(k: int, m: int, mid_p: bool) -> float:
    """Twice the smaller tail of k against m under a fair coin."""
    from scipy.special import bdtr

    few, n = min(k, m), k + m
    tail = float(bdtr(few, n, 0.5))
    if mid_p:
        below = float(bdtr(few - 1, n, 0.5)) if few else 0.0
        tail = (tail + below) / 2  # P(X < few) + P(X = few) / 2
    return min(1.0, 2 * tail)


def holm(p_values: ArrayLike) -> Floats:
    """Holm's (1979) step-down correction: adjusted p-values, (H,), in the order given.

    The k-th smallest of H is multiplied by H - k + 1 and is at least what the smaller ones became;
    one that is 0.05 or less may be called significant with at most 5 % risk over the family.

    Raises:
        ValueError: a p-value that is none.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p_values: got {p.tolist()}, allowed is a list of 0 to 1")
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, steps)
    return adjusted
