"""Two curves against each other, and what came out in words made from the figures."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from resprout.measure.statistics import (
    Estimate,
    Floats,
    largest_within,
    mean_over_range,
    percentile_interval,
)
from resprout.report.curves import Curve

TOLERATED_RISE_NATS = 0.1


@dataclass(frozen=True)
class Comparison:
    """A against B; differences are A minus B, so below zero A has the lower loss.

    Attributes:
        first, second: the curves.
        unit: `nat per token`, or `bit per byte` where the tokenizers differ.
        paired: whether the same windows were compared one by one.
        at_amounts: amount -> difference there.
        surviving_range: (low, high) parameters where both curves have levels, or None.
        equal_surviving: mean difference over that range, at equal surviving parameters.
        rises: mean rise over the curve's own uncut loss, averaged over the common amounts, of
            each: the area under the degradation curve, per unit of amount.
        rise_difference: of the two, A minus B: below zero A is the more resilient.
        within: largest amount whose rise stays within 0.1 nat per token, of each.
    """

    first: Curve
    second: Curve
    unit: str
    paired: bool
    at_amounts: dict[float, Estimate]
    surviving_range: tuple[float, float] | None
    equal_surviving: Estimate | None
    rises: tuple[Estimate, Estimate] | None
    rise_difference: Estimate | None
    within: tuple[Estimate, Estimate] | None


def compare_all(found: list[Curve]) -> list[Comparison]:
    """Every pair of curves that differ in the subject or in the method, not in both."""
    return [
        compare(a, b)
        for a, b in combinations(found, 2)
        if a.subject == b.subject or a.method == b.method
    ]


def compare(a: Curve, b: Curve) -> Comparison:
    """Compare two curves, by a paired bootstrap where both read the same windows."""
    paired = a.tokens == b.tokens and a.nats.shape[1:] == b.nats.shape[1:]
    same_tokens = a.tokens == b.tokens
    weights_a = a.weights(seed=0)
    weights_b = weights_a if paired else b.weights(seed=1)
    resampled = _both(a, weights_a, same_tokens), _both(b, weights_b, same_tokens)

    def figure(of: Callable[[Floats, Floats], Floats]) -> Estimate:
        """An estimate of a function of both curves, (1 + R, La) and (1 + R, Lb) -> (1 + R,)."""
        return _estimate(of(*resampled))

    common = sorted(set(a.amounts) & set(b.amounts))
    at_amounts = {}
    for amount in common:
        i, j = int(np.argmax(a.amounts == amount)), int(np.argmax(b.amounts == amount))
        at_amounts[float(amount)] = _estimate(resampled[0][:, i] - resampled[1][:, j])
    low = max(a.surviving.min(), b.surviving.min())
    high = min(a.surviving.max(), b.surviving.max())
    overlap = (float(low), float(high)) if low <= high else None
    equal_surviving = None
    if overlap is not None:
        equal_surviving = figure(
            lambda x, y: _over_surviving(a, x, *overlap) - _over_surviving(b, y, *overlap)
        )
    rises = rise_difference = within = None
    if len(common) >= 2 and a.amounts[0] == b.amounts[0] == 0:
        top = common[-1]

        def rise(curve: Curve, losses: Floats) -> Floats:
            return mean_over_range(0.0, top, curve.amounts, losses - losses[:, :1])

        rises = figure(lambda x, y: rise(a, x)), figure(lambda x, y: rise(b, y))
        rise_difference = figure(lambda x, y: rise(a, x) - rise(b, y))
        limit_a = TOLERATED_RISE_NATS * (1 if same_tokens else a.bits_per_nat)
        limit_b = TOLERATED_RISE_NATS * (1 if same_tokens else b.bits_per_nat)
        within = (
            figure(lambda x, y: largest_within(limit_a, a.amounts, x - x[:, :1])),
            figure(lambda x, y: largest_within(limit_b, b.amounts, y - y[:, :1])),
        )
    return Comparison(
        first=a,
        second=b,
        unit="nat per token" if same_tokens else "bit per byte",
        paired=paired,
        at_amounts=at_amounts,
        surviving_range=overlap,
        equal_surviving=equal_surviving,
        rises=rises,
        rise_difference=rise_difference,
        within=within,
    )


def _estimate(values: Floats) -> Estimate:
    """From the data's own figure, first, and the resampled ones."""
    low, high = percentile_interval(values[1:])
    return Estimate(float(values[0]), low, high)


def _both(curve: Curve, weights: Floats, same_tokens: bool) -> Floats:
    """(1 + R, L): the data's own losses first, then the resampled ones, in the shared unit."""
    plain = np.ones((1, *weights.shape[1:]))
    losses = np.concatenate([curve.losses(plain), curve.losses(weights)])
    return losses if same_tokens else losses * curve.bits_per_nat


def _over_surviving(curve: Curve, losses: Floats, low: float, high: float) -> Floats:
    """Mean loss over a range of surviving parameters, along the curve."""
    order = np.argsort(curve.surviving)
    levels, first = np.unique(curve.surviving[order], return_index=True)
    return mean_over_range(low, high, levels, losses[:, order][:, first])


def headline(found: list[Curve], comparisons: list[Comparison]) -> list[str]:
    """The run in sentences: who has the lower loss, who loses less, and how sure that is."""
    if not comparisons:
        return [_alone(curve) for curve in found]
    sentences = []
    for pair in comparisons:
        a, b = pair.first.label, pair.second.label
        if pair.equal_surviving is not None and pair.surviving_range is not None:
            low, high = (f"{count / 1e6:,.2f}" for count in pair.surviving_range)
            sentences.append(
                f"At equal surviving parameters ({low} to {high} million), "
                + _who_is_lower(a, b, pair.equal_surviving, "the lower loss", pair.unit)
            )
        if pair.rise_difference is not None and pair.rises is not None:
            top = max(pair.at_amounts)
            rise_a, rise_b = pair.rises
            sentences.append(
                f"Averaged over the amounts 0 to {top:.0%}, cutting raises the loss of {a} by "
                f"{rise_a.value:.3f} and of {b} by {rise_b.value:.3f} {pair.unit} above its own "
                "uncut loss: "
                + _who_is_lower(a, b, pair.rise_difference, "the smaller rise", pair.unit)
            )
        if pair.within is not None:
            within_a, within_b = pair.within
            sentences.append(
                f"The largest amount that keeps the rise within {TOLERATED_RISE_NATS:g} nat per "
                f"token is {_within(pair.first, within_a)} for {a} and "
                f"{_within(pair.second, within_b)} for {b}."
            )
    if max(curve.seeds for curve in found) == 1:
        sentences.append(
            "One training run each: the intervals tell how far the choice of held-out text could "
            "move these figures, not how far another training seed could."
        )
    return sentences


def _who_is_lower(a: str, b: str, difference: Estimate, prize: str, unit: str) -> str:
    size, low, high = abs(difference.value), difference.low, difference.high
    if not difference.excludes_zero:
        return (
            f"neither {a} nor {b} can be said to have {prize}: the difference is "
            f"{difference.value:+.3f} {unit} (95 % interval {low:+.3f} to {high:+.3f})."
        )
    winner, loser = (a, b) if difference.value < 0 else (b, a)
    low, high = sorted((abs(low), abs(high)))
    return (
        f"{winner} has {prize}: {size:.3f} {unit} below {loser} "
        f"(95 % interval {low:.3f} to {high:.3f})."
    )


def _alone(curve: Curve) -> str:
    first, last = curve.estimates()[0], curve.estimates()[-1]
    return (
        f"{curve.label}: {first.value:.3f} nats per token ({first.low:.3f} to {first.high:.3f}) at "
        f"{curve.amounts[0]:.0%} cut, {last.value:.3f} ({last.low:.3f} to {last.high:.3f}) at "
        f"{curve.amounts[-1]:.0%}."
    )


def _within(curve: Curve, found: Estimate) -> str:
    if found.value >= curve.amounts[-1]:  # it never left the limit: the curve says no more
        return f"{found.value:.0%} or more (the largest tried)"
    return f"{found.value:.0%} ({found.low:.0%} to {found.high:.0%})"
