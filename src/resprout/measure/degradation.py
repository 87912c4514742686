"""Degradation curves: how far a loss rises with the amount, and who is lower at equal size.

Pure functions; x, (L,), and y, (R, L), are curves as `interpolation` describes them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from resprout.measure.interpolation import (
    Kind,
    ascending,
    check_within,
    curve_pieces,
    interpolate,
    mean_over_range,
)
from resprout.measure.statistics import LEVEL, Estimate, Floats, from_resamples

_STRAIGHT = 1e-9  # of the curve's height
_HALVINGS = 60


def mean_rise(top: float, amounts: ArrayLike, losses: ArrayLike, kind: Kind = "monotone") -> Floats:
    """The area under the degradation curve per unit of amount, (R,).

    It is the rise of the loss over that of the uncut model, averaged over the amounts 0 to `top`.

    Args:
        top: the largest amount that counts.
        amounts: (L,) increasing, the first 0.
        losses: (R, L).
        kind: of the interpolation.

    Raises:
        ValueError: no level at amount 0, or `top` beyond the levels.
    """
    return mean_over_range(0.0, top, amounts, _rises(amounts, losses), kind)


def largest_tolerated(
    limit: float, amounts: ArrayLike, losses: ArrayLike, kind: Kind = "monotone"
) -> Floats:
    """The largest amount up to which the rise over the uncut loss stays within `limit`, (R,).

    Raises:
        ValueError: no level at amount 0.
    """
    return largest_within(limit, amounts, _rises(amounts, losses), kind)


def _rises(amounts: ArrayLike, losses: ArrayLike) -> Floats:
    first = np.asarray(amounts, dtype=np.float64)[:1]
    if first.tolist() != [0.0]:
        raise ValueError(f"amounts: got {first.tolist()} first, allowed is 0, the uncut model")
    curves = np.atleast_2d(np.asarray(losses, dtype=np.float64))
    return curves - curves[:, :1]


def largest_within(limit: float, x: ArrayLike, y: ArrayLike, kind: Kind = "monotone") -> Floats:
    """The largest x up to which each curve has stayed at or below `limit`, (R,).

    Solved on the pieces, to the precision of the numbers. A curve that never leaves the limit gives
    the last level, one that starts above it the first.
    """
    levels, curves, pieces = curve_pieces(x, y, kind)
    over = curves > limit
    leaves = over.any(axis=1)
    found = np.where(leaves, levels[0], levels[-1])
    first = over.argmax(axis=1)
    rows = np.flatnonzero(leaves & (first > 0))
    if not rows.size:
        return found
    # Between two levels the pieces are monotone, so the one crossing lies before the first level
    # that is over.
    left = first[rows] - 1
    piece = pieces.c[:, left, rows]  # (k, rows)
    low, high = np.zeros(len(rows)), levels[left + 1] - levels[left]
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = _horner(piece, middle) <= limit
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    found[rows] = levels[left] + low
    return found


def _horner(coefficients: Floats, t: Floats) -> Floats:
    """Polynomials, highest power first along the first axis."""
    value = np.zeros_like(t)
    for coefficient in coefficients:
        value = value * t + coefficient
    return value


def knee(x: ArrayLike, y: ArrayLike, kind: Kind = "monotone") -> Floats:
    """Where each curve begins to rise faster than it does over all, (R,).

    Kneedle (Satopaa et al. 2011) for a rising, convex curve: with both axes scaled to 0 to 1, the
    place where the curve lies farthest below its chord, found on the pieces and not on a grid. It
    depends on the first and the last level, and is no surer than the levels around it are close.

    NaN where there is none: a curve that does not rise from its first level to its last, or that
    nowhere lies below its chord (straight or concave).
    """
    levels, curves, pieces = curve_pieces(x, y, kind)
    found = np.full(len(curves), np.nan)
    if pieces is None:
        return found
    width, rises = levels[-1] - levels[0], curves[:, -1] - curves[:, 0]  # rises: (R,)
    rising = rises > _STRAIGHT * np.abs(curves).max(axis=1)
    if not rising.any():
        return found
    c = pieces.c[:, :, rising]  # (k, L - 1, R')
    start, rises = curves[rising, 0], rises[rising]
    slopes = rises / width
    steps = np.diff(levels)[:, None]
    # Beside the levels, places where the curve is as steep as its chord.
    places = [np.zeros_like(c[0]), np.broadcast_to(steps, c[0].shape)]
    if len(c) == 4:
        places += _quadratic_roots(3 * c[0], 2 * c[1], c[2] - slopes)
    t = np.stack(places)  # (candidates, L - 1, R')
    t = np.where((t >= 0) & (t <= steps), t, 0.0)
    at = levels[:-1, None] + t
    chord = start + slopes * (at - levels[0])
    below = ((chord - _horner(np.broadcast_to(c[:, None], (len(c), *t.shape)), t)) / rises).reshape(
        -1, len(rises)
    )
    best = below.argmax(axis=0)
    columns = np.arange(len(rises))
    place = at.reshape(-1, len(rises))[best, columns]
    found[rising] = np.where(below[best, columns] > _STRAIGHT, place, np.nan)
    return found


def _quadratic_roots(a: Floats, b: Floats, c: Floats) -> list[Floats]:
    """Both real roots of a t^2 + b t + c, without cancellation; NaN or infinite where none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        q = -0.5 * (b + np.copysign(np.sqrt(b * b - 4 * a * c), b))
        return [q / a, c / q]


def knee_estimate(knees: ArrayLike) -> Estimate | None:
    """From (1 + R,) knees, the data's own first; None where it or over 5 % of resamples have none.

    The interval is that of the resamples that have one.
    """
    values = np.asarray(knees, dtype=np.float64)
    has = ~np.isnan(values)
    if not has[0] or has[1:].mean() < LEVEL:
        return None
    return from_resamples(values[has])


@dataclass(frozen=True)
class AtEqual:
    """Loss of A minus loss of B at equal x.

    Attributes:
        low, high: the range of x where both have levels.
        mean: the difference averaged over that range.
        at: place -> the difference there.
    """

    low: float
    high: float
    mean: Estimate
    at: dict[float, Estimate]


def common_range(x_a: ArrayLike, x_b: ArrayLike) -> tuple[float, float] | None:
    """Where two curves both have levels, if anywhere."""
    low, high = max(np.min(x_a), np.min(x_b)), min(np.max(x_a), np.max(x_b))
    return (float(low), float(high)) if low <= high else None


def loss_at_equal(
    x_a: ArrayLike,
    losses_a: ArrayLike,
    x_b: ArrayLike,
    losses_b: ArrayLike,
    places: ArrayLike = (),
    kind: Kind = "monotone",
) -> AtEqual:
    """Compare two subjects at equal x (surviving parameters, FLOPs), along their curves.

    Args:
        x_a: (La,) levels of A, in any order.
        losses_a: (1 + R, La): the data's own losses first, then the resampled ones.
        x_b: (Lb,) levels of B.
        losses_b: (1 + R, Lb), of the same resamples where A and B are compared in pairs.
        places: (P,) where besides to read the difference.
        kind: of the interpolation.

    Raises:
        ValueError: no common range, a place outside of it, or one x with several losses.
    """
    both = common_range(x_a, x_b)
    if both is None:
        spans = [f"{np.min(x):g} to {np.max(x):g}" for x in (x_a, x_b)]
        raise ValueError(f"x: got {spans[0]} and {spans[1]}, allowed are ranges that meet")
    wanted = np.asarray(places, dtype=np.float64)
    if wanted.size:
        check_within("places", wanted, np.array(both))
    a, b = ascending(x_a, losses_a), ascending(x_b, losses_b)
    mean = mean_over_range(*both, *a, kind) - mean_over_range(*both, *b, kind)
    at = {}
    if wanted.size:
        differences = interpolate(wanted, *a, kind) - interpolate(wanted, *b, kind)
        at = {float(p): from_resamples(d) for p, d in zip(wanted, differences.T, strict=True)}
    return AtEqual(*both, from_resamples(mean), at)
