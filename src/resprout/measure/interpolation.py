"""Curves over levels, read between the levels. Pure functions of arrays.

A curve is x, (L,) increasing levels (amounts, parameters, FLOPs), and y, (R, L), one row per
resample, so that every figure comes once per resample, (R,), and has an interval. Between levels
the default is the monotone piecewise cubic of Fritsch and Carlson (1980), as SciPy's
`PchipInterpolator` has it: it never leaves the span of two neighbouring levels, so it invents no
dip and no peak. Nothing is read outside of the levels.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from resprout.measure.statistics import Floats

Kind = Literal["monotone", "linear"]


def ascending(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    """Levels in increasing order, with their losses.

    Where several levels have the same x and the same losses (amounts that round to one cut), one
    of them is taken.

    Args:
        x: (L,) in any order.
        y: (R, L).

    Raises:
        ValueError: one x with several losses, which is no curve (such as a mask's losses over
            FLOPs that count its zeros).
    """
    levels = np.asarray(x, dtype=np.float64)
    curves = np.atleast_2d(np.asarray(y, dtype=np.float64))
    if levels.ndim != 1 or not len(levels) or curves.shape[1] != len(levels):
        raise ValueError(f"y: got shape {curves.shape}, allowed is (R, {levels.size})")
    order = np.argsort(levels, kind="stable")
    levels, curves = levels[order], curves[:, order]
    for i in np.flatnonzero(np.diff(levels) == 0):
        if not np.allclose(curves[:, i], curves[:, i + 1], rtol=1e-9, atol=0):
            raise ValueError(f"x: got several levels at {levels[i]:g}, allowed are different ones")
    first = np.concatenate([[True], np.diff(levels) > 0])
    return levels[first], curves[:, first]


def curve_pieces(x: ArrayLike, y: ArrayLike, kind: Kind) -> tuple[Floats, Floats, Any]:
    """Levels (L,), curves (R, L), and pieces as SciPy's PPoly, coefficients (k, L - 1, R).

    The pieces are None where there is one level.

    Raises:
        ValueError: levels not increasing, heights that are not one per level or not finite.
    """
    from scipy.interpolate import PchipInterpolator, PPoly

    levels = np.asarray(x, dtype=np.float64)
    curves = np.atleast_2d(np.asarray(y, dtype=np.float64))
    if (np.diff(levels) <= 0).any() or not len(levels):
        raise ValueError(f"x: got {levels.tolist()}, allowed are increasing levels")
    if curves.shape[1] != len(levels):
        raise ValueError(f"y: got shape {curves.shape}, allowed is (R, {len(levels)})")
    if not np.isfinite(curves).all():
        raise ValueError("y: got a value that is not finite")
    if kind not in ("monotone", "linear"):
        raise ValueError(f"kind: got {kind!r}, allowed is 'monotone' or 'linear'")
    if len(levels) == 1:
        return levels, curves, None
    if kind == "linear":
        slopes = np.diff(curves, axis=1).T / np.diff(levels)[:, None]
        return levels, curves, PPoly(np.stack([slopes, curves[:, :-1].T]), levels)
    return levels, curves, PchipInterpolator(levels, curves.T)


def check_within(name: str, places: Floats, levels: Floats) -> None:
    """Refuse (P,) places outside of the levels, by a ValueError that names the range."""
    if (places < levels[0]).any() or (places > levels[-1]).any():
        got = f"{places.min():g} to {places.max():g}" if len(places) > 1 else f"{places[0]:g}"
        raise ValueError(f"{name}: got {got}, allowed is {levels[0]:g} to {levels[-1]:g}")


def interpolate(at: ArrayLike, x: ArrayLike, y: ArrayLike, kind: Kind = "monotone") -> Floats:
    """The curves' heights at (P,) places, (R, P).

    Raises:
        ValueError: a place outside the levels, or levels not increasing.
    """
    places = np.atleast_1d(np.asarray(at, dtype=np.float64))
    levels, curves, pieces = curve_pieces(x, y, kind)
    check_within("at", places, levels)
    if pieces is None:
        return np.repeat(curves, len(places), axis=1)
    return np.asarray(pieces(places), dtype=np.float64).T


def mean_over_range(
    low: float, high: float, x: ArrayLike, y: ArrayLike, kind: Kind = "monotone"
) -> Floats:
    """The curves' mean height between two places, (R,): the exact integral of the pieces.

    With low = high, the height there.

    Raises:
        ValueError: a place outside the levels, low above high, or levels not increasing.
    """
    if low == high:
        return interpolate([low], x, y, kind)[:, 0]
    if low > high:
        raise ValueError(f"low: got {low:g}, allowed is up to high, {high:g}")
    levels, _, pieces = curve_pieces(x, y, kind)
    check_within("range", np.array([low, high]), levels)
    return np.asarray(pieces.integrate(low, high), dtype=np.float64) / (high - low)
