"""Two curves against each other, and what came out in words made from the figures."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from resprout.measure.degradation import (
    AtEqual,
    knee,
    knee_estimate,
    largest_tolerated,
    loss_at_equal,
    mean_rise,
)
from resprout.measure.significance import resampled_p
from resprout.measure.statistics import Estimate, Floats, from_resamples
from resprout.report.curves import Curve

TOLERATED_RISE_NATS = 0.1
SIZES = ("surviving", "non_embedding", "flops")  # of a curve, at which subjects are compared


@dataclass(frozen=True)
class Comparison:
    """A against B; differences are A minus B, so below zero A has the lower loss.

    Between levels a curve is the monotone piecewise cubic (`measure.interpolation`).

    Attributes:
        first, second: the curves.
        unit: `nat per token`, or `bit per byte` where the tokenizers differ.
        paired: whether the same documents were compared one by one.
        at_amounts: amount -> difference there.
        equal_surviving: differences at equal surviving parameters, over the range where both have
            levels, or None (`not_compared` says why; so for the next two).
        equal_non_embedding: at equal surviving parameters outside of embeddings and head.
        equal_flops: at equal FLOPs per token, products with weights at zero left out.
        not_compared: which of these three there is not -> the reason.
        rises: mean rise over the curve's own uncut loss, averaged over the common amounts, of
            each: the area under the degradation curve, per unit of amount.
        rise_difference: of the two, A minus B: below zero A is the more resilient.
        rise_p: its p-value, from the same resamples, of this comparison alone.
        within: largest amount whose rise stays within 0.1 nat per token, of each.
        knees: amount from which the loss rises faster than on average, of each, where it has one.
    """

    first: Curve
    second: Curve
    unit: str
    paired: bool
    at_amounts: dict[float, Estimate]
    equal_surviving: AtEqual | None
    equal_non_embedding: AtEqual | None
    equal_flops: AtEqual | None
    not_compared: dict[str, str]
    rises: tuple[Estimate, Estimate] | None
    rise_difference: Estimate | None
    rise_p: float | None
    within: tuple[Estimate, Estimate] | None
    knees: tuple[Estimate | None, Estimate | None]


def compare_all(found: list[Curve]) -> list[Comparison]:
    """Every pair of curves of one protocol that differ in the subject, the method or the run alone.

    Across protocols an amount is of other weights, and not recovered alike.
    """
    return [compare(a, b) for a, b in comparable(found)]


def comparable(found: list[Curve]) -> list[tuple[Curve, Curve]]:
    """The pairs of `compare_all`, without the work; not those of `in_other_windows`."""
    return [(a, b) for a, b in _alike(found) if not _other_windows(a, b)]


def in_other_windows(found: list[Curve]) -> list[tuple[Curve, Curve]]:
    """Pairs that read the same tokens in other windows: what a token has before it differs."""
    return [(a, b) for a, b in _alike(found) if _other_windows(a, b)]


def _alike(found: list[Curve]) -> list[tuple[Curve, Curve]]:
    return [
        (a, b)
        for a, b in combinations(found, 2)
        if a.protocol == b.protocol
        and [a.subject == b.subject, a.method == b.method, a.run == b.run].count(False) == 1
    ]


def _other_windows(a: Curve, b: Curve) -> bool:
    return a.tokens == b.tokens and a.windows != b.windows


def compare(a: Curve, b: Curve) -> Comparison:
    """Compare two curves, by a paired bootstrap where both read the same windows."""
    same_tokens = a.tokens == b.tokens
    same_windows = same_tokens and a.windows == b.windows and np.array_equal(a.sizes, b.sizes)
    paired = same_windows and a.seeds == b.seeds
    weights_a = a.weights(seed=0)
    weights_b = weights_a if paired else b.weights(seed=1)
    x, y = _losses(a, weights_a, same_tokens), _losses(b, weights_b, same_tokens)

    common = sorted(set(a.amounts.tolist()) & set(b.amounts.tolist()))
    places = [(int(np.argmax(a.amounts == m)), int(np.argmax(b.amounts == m))) for m in common]
    equal: dict[str, AtEqual | None] = {}
    not_compared: dict[str, str] = {}
    for size in SIZES:
        name = f"equal_{size}"
        try:
            equal[name] = _at_equal(size, a, x, b, y)
        except ValueError as error:
            equal[name], not_compared[name] = None, str(error)
    rises = rise_difference = rise_p = within = None
    if len(common) >= 2 and a.amounts[0] == b.amounts[0] == 0:
        rise_a, rise_b = mean_rise(common[-1], a.amounts, x), mean_rise(common[-1], b.amounts, y)
        rises = from_resamples(rise_a), from_resamples(rise_b)
        rise_difference = from_resamples(rise_a - rise_b)
        rise_p = resampled_p(rise_a - rise_b)
        limit_a, limit_b = (
            TOLERATED_RISE_NATS * (1 if same_tokens else curve.bits_per_nat) for curve in (a, b)
        )
        within = (
            from_resamples(largest_tolerated(limit_a, a.amounts, x)),
            from_resamples(largest_tolerated(limit_b, b.amounts, y)),
        )
    return Comparison(
        first=a,
        second=b,
        unit="nat per token" if same_tokens else "bit per byte",
        paired=paired,
        at_amounts={
            amount: from_resamples(x[:, i] - y[:, j])
            for amount, (i, j) in zip(common, places, strict=True)
        },
        **equal,
        not_compared=not_compared,
        rises=rises,
        rise_difference=rise_difference,
        rise_p=rise_p,
        within=within,
        knees=(knee_estimate(knee(a.amounts, x)), knee_estimate(knee(b.amounts, y))),
    )


def _losses(curve: Curve, weights: Floats, same_tokens: bool) -> Floats:
    """(1 + R, L): the data's own losses first, then the resampled ones, in the shared unit."""
    plain = np.ones((1, *weights.shape[1:]))
    losses = np.concatenate([curve.losses(plain), curve.losses(weights)])
    return losses if same_tokens else losses * curve.bits_per_nat


def _at_equal(size: str, a: Curve, x: Floats, b: Curve, y: Floats) -> AtEqual:
    """Compare at equal size, `size` one of `SIZES`; a ValueError says why that cannot be done."""
    for curve in (a, b):
        if getattr(curve, size) is None:
            raise ValueError(f"{size}: not counted in every record of {curve.label}")
    if size == "flops" and a.flops_context_tokens != b.flops_context_tokens:
        contexts = f"{a.flops_context_tokens} and {b.flops_context_tokens}"
        raise ValueError(f"{size}: counted in contexts of {contexts} tokens")
    return loss_at_equal(getattr(a, size), x, getattr(b, size), y)


def headline(found: list[Curve], comparisons: list[Comparison]) -> list[str]:
    """The run in sentences: who has the lower loss, who loses less, and how sure that is."""
    if not comparisons:
        return [*(_alone(curve) for curve in found), *cautions(found)]
    sentences = []
    for pair in comparisons:
        a, b = pair.first.label, pair.second.label
        for size, equal in _sizes_to_tell(pair):
            lowest, highest = f"{equal.low / 1e6:,.2f}", f"{equal.high / 1e6:,.2f}"
            sentences.append(
                f"At equal {size} ({lowest} to {highest} million), "
                + _who_is_lower(a, b, equal.mean, "the lower loss", pair.unit)
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
        if pair.within is not None and pair.unit == "nat per token":  # one limit for both
            within_a, within_b = pair.within
            sentences.append(
                f"The largest amount that keeps the rise within {TOLERATED_RISE_NATS:g} nat per "
                f"token is {within_words(pair.first, within_a)} for {a} and "
                f"{within_words(pair.second, within_b)} for {b}."
            )
    return sentences + cautions(found)


def cautions(found: list[Curve]) -> list[str]:
    """What the intervals do not tell: training runs that there are not, windows that differ."""
    said = []
    once = list(dict.fromkeys(curve.subject for curve in found if trained_once(curve)))
    told = (
        "the intervals tell how far other held-out documents could move these figures, not how "
        "far another training run could"
    )
    if once and all(curve.subject in once for curve in found):
        said.append(f"One training run each: {told}.")
    elif once:
        said.append(f"One training run of {', '.join(once)}: {told}.")
    for a, b in in_other_windows(found):
        said.append(
            f"{a.label} and {b.label} are not compared: their text was read in other windows "
            f"(of {max(a.windows)} and {max(b.windows)} tokens)."
        )
    return said


def trained_once(curve: Curve) -> bool:
    """Whether all its seeds cut the same trained model: they are of recovery and of chance alone.

    Told by the digests of the models; of records without, by losses that agree exactly.
    """
    if curve.seeds == 1:
        return True
    digests = {record["digests"].get("subject") for record in curve.records[0]}
    if None in digests:
        return bool((curve.nats == curve.nats[:, :1]).all())
    return len(digests) == 1


def _sizes_to_tell(pair: Comparison) -> list[tuple[str, AtEqual]]:
    """The kinds of size at which a comparison is told: not twice the same one."""
    a, b = pair.first, pair.second
    told = [("surviving parameters", pair.equal_surviving)]
    if a.non_embedding is not None and b.non_embedding is not None:
        # Where embeddings and head are alike in size, counting them or not says the same.
        outside = np.concatenate([a.surviving - a.non_embedding, b.surviving - b.non_embedding])
        if np.ptp(outside) > 0:
            told.append(("surviving non-embedding parameters", pair.equal_non_embedding))
    told.append(("FLOPs per token, zeros skipped", pair.equal_flops))
    return [(name, equal) for name, equal in told if equal is not None]


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
    if len(curve.amounts) == 1:
        return (
            f"{curve.label}: {first.value:.3f} nats per token ({first.low:.3f} to "
            f"{first.high:.3f}) at {curve.amounts[0]:.0%} cut."
        )
    return (
        f"{curve.label}: {first.value:.3f} nats per token ({first.low:.3f} to {first.high:.3f}) at "
        f"{curve.amounts[0]:.0%} cut, {last.value:.3f} ({last.low:.3f} to {last.high:.3f}) at "
        f"{curve.amounts[-1]:.0%}."
    )


def within_words(curve: Curve, found: Estimate) -> str:
    """The largest amount within the limit, as far as the levels tried can tell."""
    top = curve.amounts[-1]
    if found.value >= top:  # it never left the limit: the curve says no more
        return f"{found.value:.0%} or more (the largest tried)"
    more = " or more" if found.high >= top else ""
    return f"{found.value:.0%} ({found.low:.0%} to {found.high:.0%}{more})"
