"""A run in few sentences, however many curves it has, and every comparison as a table."""

from collections.abc import Sequence

from resprout.measure.significance import holm
from resprout.measure.statistics import Estimate, from_resamples
from resprout.report.comparison import (
    Comparison,
    cautions,
    comparable,
    compare_all,
    headline,
    within_words,
)
from resprout.report.curves import Curve

MOST_PAIRS_IN_WORDS = 2
SURE = 0.05
_CORRECTED = "p of 0.05 or less after Holm's correction over the methods"
TABLE_HEADINGS = (
    "A",
    "B",
    "unit",
    "mean rise of A",
    "mean rise of B",
    "rise, A - B",
    "loss at equal surviving, A - B",
    "at equal non-embedding",
    "at equal FLOPs",
    "within 0.1 nat: A",
    "within 0.1 nat: B",
)


def summary(found: Sequence[Curve], comparisons: Sequence[Comparison]) -> list[str]:
    """What came out: few pairs are told one by one, many by how often who was ahead."""
    protocols = list(dict.fromkeys(curve.protocol for curve in found))
    if len(comparisons) <= MOST_PAIRS_IN_WORDS:
        agreement = _agreement(comparisons) if len(protocols) > 1 else []
        return [*headline(list(found), list(comparisons)), *agreement]
    sentences = []
    for protocol in protocols:
        said = f", protocol {protocol}" if len(protocols) > 1 else ""
        pairs = [pair for pair in comparisons if pair.first.protocol == protocol]
        sentences += _extremes([c for c in found if c.protocol == protocol])
        sentences += _duels(pairs, said)
    if len(protocols) > 1:
        sentences += _agreement(comparisons)
    return sentences + cautions(list(found))


def first_sentence(found: Sequence[Curve]) -> str | None:
    """Of `summary`, without comparing many curves where it tells of none; None of no curve."""
    if len(comparable(list(found))) > MOST_PAIRS_IN_WORDS:
        protocol = found[0].protocol
        said = _extremes([curve for curve in found if curve.protocol == protocol])
        if said:
            return said[0]
    return summary(found, compare_all(list(found)))[0] if found else None


def _extremes(found: list[Curve]) -> list[str]:
    """The least and the most raised loss at the largest amount that all curves have."""
    shared = set.intersection(*({float(a) for a in curve.amounts} for curve in found))
    whole = [curve for curve in found if curve.amounts[0] == 0]
    if len(whole) < 2 or not shared or max(shared) == 0:
        return []
    top = max(shared)
    per_token = len({curve.tokens for curve in found}) == 1
    unit = "nats per token" if per_token else "bits per byte"
    rises = sorted(
        ((_rise(curve, top, per_token), curve.label) for curve in whole),
        key=lambda rise: rise[0].value,
    )
    (least, first), (most, last) = rises[0], rises[-1]
    return [
        f"At {top:.0%} asked for, the loss rises least over the own uncut loss in {first}, by "
        f"{_interval(least, '.3f')} {unit}, and most in {last}, by "
        f"{_interval(most, '.3f')}."
    ]


def _rise(curve: Curve, amount: float, per_token: bool) -> Estimate:
    level = int((curve.amounts == amount).argmax())
    losses = curve.resampled() * (1 if per_token else curve.bits_per_nat)
    return from_resamples(losses[:, level] - losses[:, 0])


def _duels(pairs: list[Comparison], said: str) -> list[str]:
    """For each two subjects: under how many methods which of them rose less, surely.

    Surely: p of 0.05 or less after Holm's correction over the methods.
    """
    duels: dict[tuple[str, str], list[tuple[float, bool]]] = {}
    for pair in pairs:
        if pair.rise_difference is None or pair.rise_p is None:
            continue
        a, b = pair.first, pair.second
        if (a.subject, a.run) == (b.subject, b.run):
            continue
        first, second = (f"{c.subject} of {c.run}" if c.run else c.subject for c in (a, b))
        ours = pair.rise_p, pair.rise_difference.value < 0
        duels.setdefault((first, second), []).append(ours)
    sentences = []
    for names, found in duels.items():
        counts = [0, 0, 0]
        for p, (_, lower) in zip(holm([p for p, _ in found]), found, strict=True):
            counts[2 if p > SURE else 0 if lower else 1] += 1
        sentences.append(_told(names, counts, said))
    return sentences


def _told(names: tuple[str, str], counts: list[int], said: str) -> str:
    """`counts`: methods by which the first rose less, by which the second, and the rest."""
    methods = f"{sum(counts)} method{'s' * (sum(counts) > 1)}"
    ahead = [(name, won) for name, won in zip(names, counts, strict=False) if won]
    unsure = counts[2]
    if ahead:
        told = "cutting raises " + " and ".join(
            f"the loss of {name} less by {won} of {methods}" for name, won in ahead
        )
        told += f"; by {unsure} they cannot be told apart" if unsure else ""
    else:
        told = f"by none of {methods} can it be told whose loss cutting raises less"
    sure = _CORRECTED if sum(counts) > 1 else "95 % interval"
    return f"{' against '.join(names)}{said}: {told} (mean rise, {sure})."


def _agreement(comparisons: Sequence[Comparison]) -> list[str]:
    """Whether the protocols decide alike, where they decide."""
    decided: dict[tuple[str, ...], set[bool]] = {}
    counted: dict[tuple[str, ...], int] = {}
    for pair in comparisons:
        a, b, difference = pair.first, pair.second, pair.rise_difference
        if difference is not None and difference.excludes_zero:
            names = [(curve.run, curve.subject, curve.method) for curve in (a, b)]
            key = (*min(names), *max(names))  # a pair is the same in either order
            first_is_lower = (difference.value < 0) == (names[0] == min(names))
            decided.setdefault(key, set()).add(first_is_lower)
            counted[key] = counted.get(key, 0) + 1
    both = [key for key, count in counted.items() if count > 1]
    if not both:
        return []
    against = [key for key in both if len(decided[key]) > 1]
    named = "; ".join(f"{k[1]}, {k[2]} against {k[4]}, {k[5]}" for k in against[:3])
    more = "" if len(against) <= 3 else f" and {len(against) - 3} more"
    return [
        f"Of {len(both)} comparison{'s' * (len(both) > 1)} that both protocols decide, they decide "
        f"{len(both) - len(against)} alike"
        + (f", and against each other: {named}{more}." if against else ".")
    ]


def shared_unit(comparisons: Sequence[Comparison]) -> str | None:
    """The unit of all comparisons; None where there are several, or none."""
    units = {pair.unit for pair in comparisons}
    return units.pop() if len(units) == 1 else None


def comparison_rows(comparisons: Sequence[Comparison]) -> list[list[str]]:
    """Headings and a row per pair; `-` where there is no figure, no column where there is none.

    The unit is a column only where there are several (`shared_unit`).
    """
    rows = [list(TABLE_HEADINGS)]
    for pair in comparisons:
        rise_a, rise_b = pair.rises or (None, None)
        within_a, within_b = pair.within or (None, None)
        if pair.unit != "nat per token":  # each has a limit of its own then
            within_a = within_b = None
        equal = (pair.equal_surviving, pair.equal_non_embedding, pair.equal_flops)
        rows.append(
            [
                pair.first.label,
                pair.second.label,
                pair.unit,
                _interval(rise_a, ".3f"),
                _interval(rise_b, ".3f"),
                _interval(pair.rise_difference, "+.3f"),
                *(_interval(None if at is None else at.mean, "+.3f") for at in equal),
                "-" if within_a is None else within_words(pair.first, within_a),
                "-" if within_b is None else within_words(pair.second, within_b),
            ]
        )
    alike = shared_unit(comparisons) is not None
    shown = [
        i
        for i, (heading, *cells) in enumerate(zip(*rows, strict=True))
        if set(cells) - {"-"} and not (heading == "unit" and alike)
    ]
    return [[row[i] for i in shown] for row in rows]


def _interval(found: Estimate | None, form: str) -> str:
    if found is None:
        return "-"
    figures = (
        format(figure, "z" + form if form[0] != "+" else "+z" + form[1:])
        for figure in (found.value, found.low, found.high)
    )  # z: no minus before zero
    value, low, high = figures
    return f"{value} ({low} to {high})"
