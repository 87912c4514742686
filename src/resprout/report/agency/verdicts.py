"""From an interval to a word, and from several comparisons to a sentence that is honest."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from resprout.measure.significance import holm
from resprout.report.agency.contrasts import Effect

SIGNIFICANT = 0.05
# A difference that lies whole within so much either way is none worth the name: in nats per token
# and in logarithms of ratios 2 %, in shares two points.
NEGLIGIBLE = 0.02
NAMED = 4  # of more comparisons a summary gives the number alone


class Verdict(Enum):
    """What an interval says."""

    BETTER = "better"
    WORSE = "worse"
    ALIKE = "alike"
    OPEN = "not distinguishable"


@dataclass(frozen=True)
class Finding:
    """One comparison.

    Attributes:
        label: what was compared, as the sentence names it.
        effect: the difference.
        better: 1 where above zero is the better side, -1 where below is.
        holm_p: its p-value after Holm's correction over all findings of the question; None without.
    """

    label: str
    effect: Effect
    better: int = 1
    holm_p: float | None = None

    @property
    def verdict(self) -> Verdict:
        """By its own interval."""
        effect = self.effect
        if effect.low is None or effect.high is None:
            return Verdict.OPEN
        if effect.excludes_zero:
            return Verdict.BETTER if self.better * effect.value > 0 else Verdict.WORSE
        small = max(abs(effect.low), abs(effect.high)) <= NEGLIGIBLE
        return Verdict.ALIKE if small else Verdict.OPEN

    @property
    def after_holm(self) -> Verdict:
        """The same where the corrected p-value allows it, else not distinguishable."""
        decided = self.verdict in (Verdict.BETTER, Verdict.WORSE)
        if decided and self.holm_p is not None and self.holm_p > SIGNIFICANT:
            return Verdict.OPEN
        return self.verdict

    @property
    def negligible(self) -> bool:
        """Whether the whole interval lies within `NEGLIGIBLE`, whichever side of zero it is on."""
        ends = self.effect.low, self.effect.high
        return all(x is not None and abs(x) <= NEGLIGIBLE for x in ends)


@dataclass(frozen=True)
class Answer:
    """A question's answer.

    Attributes:
        question: as the guide asks it.
        short: the answer in a sentence or two.
        details: what it rests on, a sentence or two per comparison.
        basis: how it was tested.
    """

    question: str
    short: str
    details: list[str]
    basis: str


def corrected(findings: Sequence[Finding]) -> list[Finding]:
    """With Holm's (1979) p-values, over those that have one."""
    tested = [f.effect.p for f in findings if f.effect.p is not None]
    adjusted = iter(holm(tested).tolist())
    return [f if f.effect.p is None else replace(f, holm_p=next(adjusted)) for f in findings]


def summary(findings: Sequence[Finding], words: dict[Verdict, str]) -> str:
    """One word where all agree, else each word with those it holds for; after Holm's correction."""
    if not findings:
        return "Cannot be told: nothing was compared."
    groups = {
        verdict: [f.label for f in findings if f.after_holm is verdict] for verdict in Verdict
    }
    said = {verdict: labels for verdict, labels in groups.items() if labels}
    if len(said) == 1:
        every = {1: "", 2: " in both comparisons"}.get(
            len(findings), f" in all {len(findings)} comparisons"
        )
        return f"{_capital(words[next(iter(said))])}{every}."
    parts = []
    for number, (verdict, labels) in enumerate(said.items(), start=1):
        which = f"with {listed(labels)}"
        if number == len(said) and len(labels) > 2:
            which = f"with the other {len(labels)}"
        elif len(labels) > NAMED:
            which = f"in {len(labels)} of {len(findings)} comparisons"
        parts.append(f"{words[verdict]} {which}")
    return f"{_capital('; '.join(parts))}."


def tested(finding: Finding, count: int) -> str:
    """What an interval rests on: seeds, what it is over, p, and p after the correction."""
    effect = finding.effect
    parts = [seeds_words(effect.seeds), f"interval over {effect.over}"]
    if effect.low is None:
        parts = [seeds_words(effect.seeds), "no interval in the record, so nothing is tested"]
    if effect.p is not None:
        parts.append(f"p {p_words(effect.p)}")
    if finding.holm_p is not None and count > 1:
        parts.append(f"after Holm's correction over {count} comparisons {p_words(finding.holm_p)}")
    return ", ".join(parts)


def fades(finding: Finding) -> str:
    """Said where a finding does not outlive the correction."""
    if finding.verdict is finding.after_holm:
        return ""
    return " alone, but not after the correction for several comparisons"


def p_words(p: float) -> str:
    """A p-value as text."""
    return "below 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def seeds_words(seeds: int) -> str:
    """How many seeds."""
    return f"{seeds} seeds" if seeds > 1 else "1 seed"


def interval_words(low: float | None, high: float | None, digits: int, unit: str = "") -> str:
    """An interval in words, signed."""
    if low is None or high is None:
        return "no interval"
    return f"95 % interval {signed(low, digits)} to {signed(high, digits)}{unit}"


def signed(value: float, digits: int) -> str:
    """With its sign, never a negative zero; what is huge in powers of ten."""
    if abs(value) >= 1e4:
        return f"{value:+.1e}"
    return f"{round(value, digits) + 0.0:+.{digits}f}"


def percent(level: float) -> str:
    """A level as it is asked for: 0.25 as `25 %`."""
    return f"{100 * level:g} %"


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
