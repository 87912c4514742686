"""Who is compared with whom: each subject with agency against the one without, method by method."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from resprout.hints import did_you_mean
from resprout.report.series import Series, whole_grid

GATE, TAYLOR = "heads-gate", "heads-taylor"


@dataclass(frozen=True)
class Pair:
    """A subject with agency and its baseline, cut by the same method.

    Attributes:
        agency, baseline: their series.
        levels: the amounts compared, rising: those that both have with all of `seeds`.
        seeds: of training, those that both have.
        label: the method, and who, where a run has several subjects with agency.
    """

    agency: Series
    baseline: Series
    levels: tuple[float, ...]
    seeds: tuple[int, ...]
    label: str

    @property
    def same_method(self) -> bool:
        """False for gates against the baseline's Taylor."""
        return self.agency.method == self.baseline.method


@dataclass(frozen=True)
class Comparison:
    """All that is compared in a run.

    Attributes:
        subjects: subject with agency -> its baseline.
        series: of these subjects, baselines first.
        pairs: what is compared.
        notes: what is not compared, or not plainly, and why.
    """

    subjects: dict[str, str]
    series: list[Series]
    pairs: list[Pair]
    notes: list[str]

    def order(self) -> list[str]:
        """Subjects as charts colour them: baselines, then those with agency."""
        return [*dict.fromkeys(self.subjects.values()), *self.subjects]


def compare(
    subjects: Sequence[dict[str, Any]], series: Sequence[Series], baseline: str | None = None
) -> Comparison:
    """Pair the series of a run.

    Args:
        subjects: the spec's.
        series: those that have records.
        baseline: the subject without agency to compare with; None = the one of the same model.

    Raises:
        ValueError: no subject with agency or none without, a baseline that is not among these or
            not to be told, or one without any finished point.
    """
    chosen = baselines(subjects, baseline)
    have = {own.subject for own in series}
    for subject in dict.fromkeys([*chosen, *chosen.values()]):
        if subject not in have:
            raise ValueError(f"subjects: {subject!r} has no finished point yet")
    ours = [s for name in dict.fromkeys([*chosen.values(), *chosen]) for s in _own(series, name)]
    pairs: list[Pair] = []
    notes: list[str] = []
    for subject, base in chosen.items():
        for own in _own(series, subject):
            _pair(own, _own(series, base), len(chosen) > 1, pairs, notes)
        methods = {(own.method, own.variant) for own in _own(series, subject)}
        notes += [
            f"{other.label}: {subject} was not cut by it, so {base} is shown alone"
            for other in _own(series, base)
            if (other.method, other.variant) not in methods
            and not any(p.agency.subject == subject and p.baseline is other for p in pairs)
        ]
    notes += [
        f"{own.subject}, {own.label}: it has no uncut point of its own, and takes the one by "
        "another method: nothing was cut from either"
        for own in ours
        if own.borrowed
    ]
    return Comparison(chosen, ours, pairs, list(dict.fromkeys(notes)))


def baselines(subjects: Sequence[dict[str, Any]], baseline: str | None = None) -> dict[str, str]:
    """Subject with agency -> the subject without that it is compared with.

    Raises:
        ValueError: see `compare`.
    """
    with_agency = [s for s in subjects if s.get("agency") is not None]
    without = {s["name"]: s for s in subjects if s.get("agency") is None}
    names = ", ".join(s["name"] for s in subjects)
    if not with_agency:
        raise ValueError(f"subjects: got {names}, allowed is a run with one or more with agency")
    if not without:
        raise ValueError(f"subjects: got {names}, allowed is a run with one without agency too")
    if baseline is not None and baseline not in without:
        hint = did_you_mean(baseline, without)
        raise ValueError(f"baseline: got {baseline!r}, allowed are {', '.join(without)}{hint}")
    found = {}
    for subject in with_agency:
        alike = [name for name, s in without.items() if s["model"] == subject["model"]]
        choice = [baseline] if baseline is not None else alike or list(without)
        if len(choice) > 1:
            raise ValueError(
                f"baseline: got none, and {subject['name']} could be compared with "
                f"{', '.join(choice)}; allowed is one of these"
            )
        found[subject["name"]] = choice[0]
    return found


def _own(series: Sequence[Series], subject: str) -> list[Series]:
    return [own for own in series if own.subject == subject]


def _pair(
    own: Series, others: list[Series], several: bool, pairs: list[Pair], notes: list[str]
) -> None:
    """Find the baseline's series for one of the agency's, or note why there is none."""
    base = others[0].subject
    same = [o for o in others if (o.method, o.variant) == (own.method, own.variant)]
    label = own.label
    if not same and own.method == GATE:
        same = [o for o in others if (o.method, o.variant) == (TAYLOR, own.variant)]
        same = same or [o for o in others if o.method == TAYLOR]
        if same:
            label = f"{own.label} against {same[0].label}"
            notes.append(
                f"{own.label}: {base} has no gates. It is compared with {same[0].label}, the "
                "first-order effect on the loss of a gate at 1 (Michel et al. 2019): the two "
                "subjects were cut by different scores"
            )
    if not same:
        notes.append(f"{own.label}: {base} was not cut by it, so {own.subject} is shown alone")
        return
    levels, seeds = grid(own, same[0])
    if not levels:
        notes.append(f"{own.label}: {own.subject} and {base} have no level and seed in common")
        return
    every = set(own.levels) | set(same[0].levels)
    if left := sorted(every - set(levels)):
        notes.append(
            f"{own.label}: not compared at {', '.join(f'{100 * x:g} %' for x in left)}, which "
            f"{own.subject} or {base} lacks, in part or whole"
        )
    if several:
        label = f"{own.subject}, {label}"
    pairs.append(Pair(own, same[0], levels, seeds, label))


def grid(a: Series, b: Series) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Levels and seeds that both have without a gap: the choice that keeps most points."""
    common = [level for level in a.levels if level in b.points]
    at = {level: set(a.seeds_at(level)) & set(b.seeds_at(level)) for level in common}
    return whole_grid(at)
