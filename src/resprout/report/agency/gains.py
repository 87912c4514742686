"""Questions 4 and 5: is agency worth more where little is left, and which metrics gain most?"""

from resprout.report.agency.effects import Improvement, gap, gap_change, in_percent
from resprout.report.agency.pairs import Comparison, Pair
from resprout.report.agency.readings import (
    DISTINCT,
    PERPLEXITY,
    QUALITY,
    REPETITION,
    TOKENS_PER_SECOND,
    Measure,
)
from resprout.report.agency.verdicts import (
    Answer,
    Finding,
    Verdict,
    corrected,
    fades,
    interval_words,
    listed,
    percent,
    signed,
    summary,
    tested,
)

CONSTRAINED = "Is agency more beneficial under resource constraints?"
METRICS = "What types of quality metrics benefit most?"
SHORT = {
    PERPLEXITY: "perplexity",
    DISTINCT: "diversity (distinct-2)",
    REPETITION: "repetition (repetition-3)",
    TOKENS_PER_SECOND: "tokens per second",
}
GROWS = {
    Verdict.BETTER: "yes, its advantage grows",
    Verdict.WORSE: "the other way round, its advantage shrinks",
    Verdict.ALIKE: "no, it stays as it is (within 2 %)",
    Verdict.OPEN: "not distinguishable",
}
_BASIS_RATIO = (
    "Gains are ratios, agency to baseline, seeds paired; perplexity is tested on the loss, window "
    "by window. "
)


def constrained(comparison: Comparison, workload: str | None) -> Answer:
    """Relative gain at the highest level against that at the lowest."""
    asked: list[tuple[Pair, Measure, Improvement, Improvement, Finding]] = []
    details = []
    for pair in comparison.pairs:
        low, high = pair.levels[0], pair.levels[-1]
        if low == high:
            details.append(f"{pair.label}: cannot be told, both have {percent(low)} alone.")
            continue
        for measure in (PERPLEXITY, TOKENS_PER_SECOND):
            change = gap_change(pair, measure, low, high, workload)
            ends = [gap(pair, measure, level, workload) for level in (low, high)]
            absent = next((x for x in (*ends, change) if isinstance(x, str)), None)
            if absent is not None:
                details.append(f"{pair.label}, {SHORT[measure]}: cannot be told, {absent}.")
                continue
            first, last = (in_percent(x, measure.gain) for x in ends if not isinstance(x, str))
            assert not isinstance(change, str)
            finding = Finding(pair.label, change, measure.gain)
            asked.append((pair, measure, first, last, finding))
    findings = corrected([a[-1] for a in asked])
    told = []
    for (pair, measure, first, last, _), finding in zip(asked, findings, strict=True):
        low, high = pair.levels[0], pair.levels[-1]
        shift = in_percent(finding.effect, measure.gain)
        told.append(
            f"{pair.label}, {SHORT[measure]}: {pair.agency.subject} over {pair.baseline.subject} "
            f"{_gain(first)} at {percent(low)}, {_gain(last)} at {percent(high)}; the ratio of the "
            f"two ratios is {signed(shift.percent, 1)} % "
            f"({interval_words(shift.low, shift.high, 1, ' %')}; "
            f"{tested(finding, len(findings))}): {GROWS[finding.verdict]}{fades(finding)}."
        )
    short = []
    for measure in (PERPLEXITY, TOKENS_PER_SECOND):
        own = [f for a, f in zip(asked, findings, strict=True) if a[1] is measure]
        if own:
            word = summary(own, GROWS)
            short.append(f"By {SHORT[measure]}: {word[:1].lower()}{word[1:]}")
    return Answer(
        CONSTRAINED,
        " ".join(short) or "Cannot be told: nothing was compared at two levels.",
        told + details,
        _BASIS_RATIO + "Asked is whether the gain at the highest level differs from that at the "
        "lowest; above zero agency is worth more where more was cut. All tests of this question "
        "are corrected together.",
    )


def metrics(comparison: Comparison, workload: str | None) -> Answer:
    """The quality metrics at the highest level, best first."""
    asked: list[tuple[Pair, Measure, Improvement, Finding]] = []
    details = []
    for pair in comparison.pairs:
        for measure in QUALITY:
            found = gap(pair, measure, pair.levels[-1], workload)
            if isinstance(found, str):
                details.append(f"{pair.label}, {SHORT[measure]}: cannot be told, {found}.")
                continue
            finding = Finding(f"{SHORT[measure]} ({pair.label})", found, measure.gain)
            asked.append((pair, measure, in_percent(found, measure.gain), finding))
    findings = corrected([a[-1] for a in asked])
    rows = [(*a[:-1], f) for a, f in zip(asked, findings, strict=True)]
    told = []
    for pair in comparison.pairs:
        own = sorted((r for r in rows if r[0] is pair), key=lambda r: -r[2].percent)
        if own:
            parts = [
                f"{SHORT[measure]} {signed(gain.percent, 1)} % "
                f"({interval_words(gain.low, gain.high, 1, ' %')}; "
                f"{tested(finding, len(rows))}): {_verdict(finding)}"
                for _, measure, gain, finding in own
            ]
            told.append(f"{pair.label}, at {percent(pair.levels[-1])}: {'; '.join(parts)}.")
    return Answer(
        METRICS,
        _ranked(rows),
        told + details,
        _BASIS_RATIO + "Up is better in all of them, so a lower perplexity or repetition counts "
        "above zero; the order is by size as measured, which is not itself tested. A broken "
        "model's text can be diverse too. All tests of this question are corrected together.",
    )


def _gain(found: Improvement) -> str:
    return f"{signed(found.percent, 1)} % ({interval_words(found.low, found.high, 1, ' %')})"


def _verdict(finding: Finding) -> str:
    word = {
        Verdict.BETTER: "better",
        Verdict.WORSE: "worse",
        Verdict.ALIKE: "alike, within 2 %",
        Verdict.OPEN: "not distinguishable",
    }[finding.verdict]
    return f"{word}{fades(finding)}"


def _ranked(rows: list[tuple[Pair, Measure, Improvement, Finding]]) -> str:
    """The metrics that can be told to be better, largest gain first; then those that are worse."""
    if not rows:
        return "Cannot be told: no quality metric was compared."
    better, worse = (_by_metric(rows, verdict) for verdict in (Verdict.BETTER, Verdict.WORSE))
    said = ["None: no quality metric can be told to be better with agency."]
    if better:
        order = ", the largest gain first" if len(better) > 1 else ""
        said = [f"Can be told to be better{order}: {listed(better)}."]
    if worse:
        said.append(f"The other way round, can be told to be worse: {listed(worse)}.")
    rest = sum(r[3].after_holm in (Verdict.OPEN, Verdict.ALIKE) for r in rows)
    if rest:
        said.append(f"{rest} of {len(rows)} comparisons are alike or not distinguishable.")
    return " ".join(said)


def _by_metric(
    rows: list[tuple[Pair, Measure, Improvement, Finding]], verdict: Verdict
) -> list[str]:
    """Each metric with that verdict: in how many comparisons, and its gains; largest mean first."""
    found = []
    for measure in QUALITY:
        every = [r for r in rows if r[1] is measure]
        gains = sorted(r[2].percent for r in every if r[3].after_holm is verdict)
        if not gains:
            continue
        size = f"{signed(gains[0], 1)} %"
        if len(gains) > 1:
            size = f"{signed(gains[0], 1)} to {signed(gains[-1], 1)} %"
        often = f" in {len(gains)} of {len(every)} comparisons" if len(every) > 1 else ""
        found.append((sum(gains) / len(gains), f"{SHORT[measure]}{often} ({size})"))
    return [words for _, words in sorted(found, key=lambda f: -abs(f[0]))]
