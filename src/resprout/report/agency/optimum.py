"""Question 2: what is the optimal pruning level? How far the loss holds, and where speed gains."""

from resprout.measure.degradation import largest_tolerated
from resprout.measure.statistics import Estimate, from_resamples
from resprout.report.agency.effects import Improvement, speed_gain
from resprout.report.agency.pairs import Comparison, Pair, grid
from resprout.report.agency.resilience import loss_curve
from resprout.report.agency.verdicts import (
    Answer,
    Finding,
    Verdict,
    corrected,
    interval_words,
    percent,
    signed,
    tested,
)
from resprout.report.comparison import TOLERATED_RISE_NATS
from resprout.report.series import Series

QUESTION = "What is the optimal pruning level?"


def optimum(comparison: Comparison, workload: str | None) -> Answer:
    """The answer: one for each subject and method."""
    short: dict[str, list[str]] = {}  # what is said -> of whom
    details = []
    for own in comparison.series:
        name = f"{own.subject}, {own.label}"
        levels, seeds = grid(own, own)
        if len(levels) < 2 or levels[0] != 0:
            got = ", ".join(map(percent, levels)) or "none"
            details.append(f"{name}: cannot be told, needs the uncut and a cut level, has {got}.")
            continue
        try:
            losses = loss_curve(own, levels, seeds)
        except ValueError as error:
            details.append(f"{name}: cannot be told, {error}.")
            continue
        limit = from_resamples(largest_tolerated(TOLERATED_RISE_NATS, levels, losses))
        rise = losses[0] - losses[0, 0]
        tried = [x for x, r in zip(levels, rise, strict=True) if x and r <= TOLERATED_RISE_NATS]
        held = _held(limit, levels[-1])
        gains = _gains(own, levels[1:], workload)
        within = [f for f in gains if f[0] in tried]
        faster = [f for f in within if f[2].after_holm is Verdict.BETTER]
        best = max(faster or within, key=lambda found: found[1].percent, default=None)
        short.setdefault(_optimum(best, tried, bool(gains)), []).append(name)
        details.append(
            f"{name}: the loss stays within {TOLERATED_RISE_NATS:g} nat per token of the uncut "
            f"one up to {held}{_levels(tried)}. {_speed(gains, own, workload)}"
        )
    details += [_further(pair) for pair in comparison.pairs]
    return Answer(
        QUESTION,
        " ".join(_said(told, names) for told, names in short.items())
        if short
        else "Cannot be told: no subject has two levels.",
        details,
        f"Optimal is called the level tried at which tokens per second gain most over the "
        f"subject's own uncut model, among those whose loss rises by at most "
        f"{TOLERATED_RISE_NATS:g} nat per token. The limit itself is read off the monotone curve "
        "through the levels. The largest of several gains flatters itself: its p-value is "
        "corrected over the levels.",
    )


def _said(told: str, names: list[str]) -> str:
    named = names[0] if len(names) == 1 else f"{'; '.join(names[:-1])} and {names[-1]}"
    return f"{named}: {told}."


def _further(pair: Pair) -> str:
    """How much farther agency's loss holds than the baseline's."""
    a, b, top = pair.agency.subject, pair.baseline.subject, pair.levels[-1]
    if pair.levels[0] != 0 or len(pair.levels) < 2:
        return f"{pair.label}: who holds farther cannot be told without the uncut and a cut level."
    try:
        ours, theirs = (
            largest_tolerated(
                TOLERATED_RISE_NATS, pair.levels, loss_curve(own, pair.levels, pair.seeds)
            )
            for own in (pair.agency, pair.baseline)
        )
    except ValueError as error:
        return f"{pair.label}: who holds farther cannot be told, {error}."
    if ours[0] >= top and theirs[0] >= top:
        return f"{pair.label}: {a} and {b} both hold to the largest level compared, {percent(top)}."
    found = from_resamples(100 * (ours - theirs))
    ends = " or more" if max(ours[0], theirs[0]) >= top else ""
    word = "not distinguishable"
    if found.excludes_zero:
        word = f"{a if found.value > 0 else b} holds farther"
    return (
        f"{pair.label}: the limit of {a} less that of {b} is {signed(found.value, 0)}{ends} points "
        f"({interval_words(found.low, found.high, 0)}): {word}."
    )


def _gains(
    own: Series, levels: tuple[float, ...], workload: str | None
) -> list[tuple[float, Improvement, Finding]]:
    """Level, gain, and the finding with Holm's correction over the levels."""
    found = [(level, speed_gain(own, level, workload)) for level in levels]
    there = [(level, gain) for level, gain in found if isinstance(gain, Improvement)]
    findings = corrected([Finding(percent(level), gain.effect) for level, gain in there])
    return [(level, gain, f) for (level, gain), f in zip(there, findings, strict=True)]


def _held(limit: Estimate, top: float) -> str:
    if limit.value >= top:
        return f"{percent(top)}, the largest tried, or more"
    low, high = 100 * limit.low, 100 * limit.high
    more = " or more" if limit.high >= top else ""
    return f"{100 * limit.value:.0f} % (95 % interval {low:.0f} to {high:.0f} %{more})"


def _levels(tried: list[float]) -> str:
    if not tried:
        return ", so at no level tried"
    return f"; of the levels tried {percent(tried[-1])} is the largest such"


def _optimum(
    best: tuple[float, Improvement, Finding] | None, tried: list[float], timed: bool
) -> str:
    if not tried:
        return "none, every level costs more than the limit"
    if not timed:
        return f"{percent(tried[-1])} by the loss alone (speed has no figure)"
    if best is None:
        return f"{percent(tried[-1])} by the loss alone (speed has no figure there)"
    level, gain, finding = best
    if finding.after_holm is Verdict.BETTER:
        return f"{percent(level)} ({signed(gain.percent, 1)} % tokens/s)"
    return f"{percent(tried[-1])} by the loss, but no level within the limit is measurably faster"


def _speed(
    gains: list[tuple[float, Improvement, Finding]], own: Series, workload: str | None
) -> str:
    if not gains:
        reason = speed_gain(own, own.levels[-1], workload)
        return f"No gain in speed can be told: {reason}."
    level, gain, finding = max(gains, key=lambda found: found[1].percent)
    verdicts = {found.after_holm for _, _, found in gains}
    others = ", as is every other level" if verdicts == {Verdict.WORSE} and len(gains) > 1 else ""
    word = {
        Verdict.BETTER: "faster than uncut",
        Verdict.WORSE: f"slower than uncut{others}",
        Verdict.ALIKE: "as fast as uncut within 2 %",
        Verdict.OPEN: "not distinguishable from uncut",
    }[finding.after_holm]
    return (
        f"Tokens per second gain most at {percent(level)}: {signed(gain.percent, 1)} % "
        f"({interval_words(gain.low, gain.high, 1, ' %')}; {tested(finding, len(gains))}): {word}."
    )
