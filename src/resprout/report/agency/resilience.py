"""Question 1: does agency improve resilience to pruning? By the slope of the decline."""

from collections.abc import Sequence

import numpy as np

from resprout.measure.degradation import mean_rise
from resprout.measure.statistics import Floats
from resprout.report.agency.contrasts import (
    Effect,
    Reading,
    effect_of_resamples,
    loss_matrix,
    resampled,
)
from resprout.report.agency.pairs import Comparison, Pair
from resprout.report.agency.readings import PERPLEXITY, read
from resprout.report.agency.verdicts import (
    Answer,
    Finding,
    Verdict,
    corrected,
    fades,
    interval_words,
    percent,
    signed,
    summary,
    tested,
)
from resprout.report.series import Series

QUESTION = "Does agency improve resilience to pruning?"
WORDS = {
    Verdict.BETTER: "yes",
    Verdict.WORSE: "no, the other way round",
    Verdict.ALIKE: "no: the two decline alike",
    Verdict.OPEN: "not distinguishable",
}


def loss_curve(own: Series, levels: Sequence[float], seeds: Sequence[int]) -> Floats:
    """(1 + R, L) nats per token: the data's own first, then resamples, the same for every series.

    Raises:
        ValueError: seeds or levels with other held-out windows.
    """
    columns = []
    for level in levels:
        readings = [read(record, PERPLEXITY) for record in own.records(level, seeds)]
        columns.append(resampled(*loss_matrix([r for r in readings if isinstance(r, Reading)])))
    return np.stack(columns, axis=1)


def rises(pair: Pair) -> tuple[float, float, Effect]:
    """Mean rise of the loss of agency and of the baseline, and the difference, agency minus it.

    The rise over the subject's own uncut loss, averaged over the amounts from 0 to the highest
    (`measure.degradation.mean_rise`): the area under the degradation curve.

    Raises:
        ValueError: no uncut level, or no other; other tokens or windows.
    """
    if pair.levels[0] != 0 or len(pair.levels) < 2:
        got = ", ".join(percent(level) for level in pair.levels)
        raise ValueError(f"a slope needs the uncut model and a cut level, and both have {got}")
    records = [
        record
        for own in (pair.agency, pair.baseline)
        for level in pair.levels
        for record in own.records(level, pair.seeds)
    ]
    if len({record["digests"]["tokens"] for record in records}) > 1:
        raise ValueError("the tokens differ, so losses per token cannot be compared")
    top = pair.levels[-1]
    both = [
        mean_rise(top, pair.levels, loss_curve(own, pair.levels, pair.seeds))
        for own in (pair.agency, pair.baseline)
    ]
    found = effect_of_resamples(both[0] - both[1], len(pair.seeds))
    return float(both[0][0]), float(both[1][0]), found


def resilience(comparison: Comparison) -> Answer:
    """The answer, from all pairs."""
    found: list[Finding] = []
    told: list[tuple[Pair, float, float]] = []
    details = []
    for pair in comparison.pairs:
        try:
            ours, theirs, effect = rises(pair)
        except ValueError as error:
            details.append(f"{pair.label}: cannot be told, {error}.")
            continue
        found.append(Finding(pair.label, effect, better=-1))
        told.append((pair, ours, theirs))
    found = corrected(found)
    for finding, (pair, ours, theirs) in zip(found, told, strict=True):
        a, b = pair.agency.subject, pair.baseline.subject
        effect = finding.effect
        details.append(
            f"{pair.label}: from 0 to {percent(pair.levels[-1])}, cutting changes the loss of {a} "
            f"by {signed(ours, 3)} and of {b} by {signed(theirs, 3)} nats per token on average; "
            f"{a} minus {b} {signed(effect.value, 3)} "
            f"({interval_words(effect.low, effect.high, 3)}; {tested(finding, len(found))}). "
            f"{_said(finding, a, b)}"
        )
    return Answer(
        QUESTION,
        summary(found, WORDS),
        details,
        "The slope of decline is the mean rise of the held-out loss over the subject's own uncut "
        "loss, along the monotone curve through its levels; the same windows (and seeds) are "
        "compared in pairs. Below zero agency loses less. Said to be alike where the whole "
        "interval lies within 0.02 nat per token.",
    )


def _said(finding: Finding, a: str, b: str) -> str:
    small = ", by less than 0.02 nat per token, which is little" if finding.negligible else ""
    match finding.verdict:
        case Verdict.BETTER:
            return f"{a} is the more resilient{small}{fades(finding)}."
        case Verdict.WORSE:
            return f"The other way round: {b} is the more resilient{small}{fades(finding)}."
        case Verdict.ALIKE:
            return f"{a} and {b} decline alike, within 0.02 nat per token."
        case _:
            return "Not distinguishable."
