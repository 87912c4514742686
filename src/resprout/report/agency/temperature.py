"""Question 3: how does temperature affect pruned models? Diversity and repetition, crossed."""

from collections.abc import Sequence
from typing import NamedTuple

from resprout.report.agency.contrasts import Effect
from resprout.report.agency.effects import Term, combine, reader
from resprout.report.agency.pairs import Comparison, Pair
from resprout.report.agency.readings import DISTINCT, REPETITION, Measure
from resprout.report.agency.verdicts import (
    Answer,
    Finding,
    Verdict,
    corrected,
    interval_words,
    signed,
    summary,
    tested,
)
from resprout.report.series import Series

QUESTION = "How does temperature affect pruned models?"
NAMES = {DISTINCT: "distinct-2", REPETITION: "repetition-3"}
MOVES = {
    Verdict.BETTER: "raises",
    Verdict.WORSE: "lowers",
    Verdict.ALIKE: "leaves as it is (within 2 points)",
    Verdict.OPEN: "moves by less than can be told",
}
CHANGES = {
    Verdict.BETTER: "more",
    Verdict.WORSE: "less",
    Verdict.ALIKE: "alike, within 2 points",
    Verdict.OPEN: "not distinguishable",
}


class _Asked(NamedTuple):
    """A finding and its place: what of (`heat`, `cutting`, `agency`), whose, which measure."""

    about: str
    name: str
    measure: Measure
    finding: Finding


def temperature(comparison: Comparison, names: Sequence[str]) -> Answer:
    """The answer; `names`: the temperatures, rising."""
    if len(names) < 2:
        got = f"temperature {names[0]} alone" if names else "no text"
        short = f"Cannot be told: the study measured {got}."
        return Answer(QUESTION, short, [], "It needs texts at two temperatures or more.")
    cold, hot = names[0], names[-1]
    asked: list[_Asked] = []
    details: list[str] = []
    for measure in NAMES:
        for own in comparison.series:
            _ask_series(own, measure, cold, hot, asked, details)
        for pair in comparison.pairs:
            _ask_pair(pair, measure, cold, hot, asked, details)
    findings = corrected([a.finding for a in asked])
    asked = [a._replace(finding=f) for a, f in zip(asked, findings, strict=True)]
    details = [_sentence(a, cold, hot, len(asked)) for a in asked] + details
    said = [
        f"{NAMES[measure].capitalize()} of the pruned models, {cold} to {hot}: "
        + _lower(summary(_of("heat", measure, asked), MOVES))
        for measure in NAMES
        if _of("heat", measure, asked)
    ]
    for about, words in (
        ("cutting", "Effect of temperature after cutting against before"),
        ("agency", "Effect with agency against without"),
    ):
        found = [f for measure in NAMES for f in _of(about, measure, asked)]
        if found:
            labels = [
                Finding(f"{a.name} ({NAMES[a.measure]})", a.finding.effect, 1, a.finding.holm_p)
                for a in asked
                if a.about == about
            ]
            said.append(f"{words}: " + _lower(summary(labels, CHANGES)))
    return Answer(
        QUESTION,
        " ".join(said) or "Cannot be told: no level has texts at both temperatures.",
        details,
        f"Effects are differences of shares, temperature {hot} minus {cold}, in points of 100, at "
        "each series' highest level; seeds are paired. Said to be alike where the whole interval "
        "lies within 2 points. All tests of this question are corrected together.",
    )


def _effect(
    factor: float, own: Series, level: float, measure: Measure, cold: str, hot: str
) -> list[Term]:
    return [
        (sign * factor, own, level, reader(measure, None, at))
        for sign, at in ((1, hot), (-1, cold))
    ]


def _ask_series(
    own: Series, measure: Measure, cold: str, hot: str, asked: list[_Asked], details: list[str]
) -> None:
    top = own.levels[-1]
    name = f"{own.subject}, {own.label}"
    heat = _effect(1, own, top, measure, cold, hot)
    _add("heat", name, measure, combine(heat, own.seeds_at(top)), asked, details)
    if top > 0 and own.points.get(0.0):
        seeds = [seed for seed in own.seeds_at(top) if seed in own.points[0.0]]
        change = heat + _effect(-1, own, 0.0, measure, cold, hot)
        _add("cutting", name, measure, combine(change, seeds), asked, details)


def _ask_pair(
    pair: Pair, measure: Measure, cold: str, hot: str, asked: list[_Asked], details: list[str]
) -> None:
    top = pair.levels[-1]
    terms = [
        *_effect(1, pair.agency, top, measure, cold, hot),
        *_effect(-1, pair.baseline, top, measure, cold, hot),
    ]
    _add("agency", pair.label, measure, combine(terms, pair.seeds), asked, details)


def _add(
    about: str,
    name: str,
    measure: Measure,
    effect: Effect | str,
    asked: list[_Asked],
    details: list[str],
) -> None:
    if isinstance(effect, str):
        sentence = f"{name}, {NAMES[measure]}: cannot be told, {effect}."
        if sentence not in details:
            details.append(sentence)
        return
    asked.append(_Asked(about, name, measure, Finding(name, effect)))


def _of(about: str, measure: Measure, asked: Sequence[_Asked]) -> list[Finding]:
    return [a.finding for a in asked if a.about == about and a.measure is measure]


def _sentence(a: _Asked, cold: str, hot: str, count: int) -> str:
    what = {
        "heat": f"at the highest level, from temperature {cold} to {hot}",
        "cutting": "that effect less the uncut model's",
        "agency": "agency's effect less the baseline's",
    }[a.about]
    effect = a.finding.effect
    low, high = (None if x is None else 100 * x for x in (effect.low, effect.high))
    return (
        f"{a.name}, {NAMES[a.measure]}, {what}: {signed(100 * effect.value, 1)} points "
        f"({interval_words(low, high, 1)}; {tested(a.finding, count)})."
    )


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
