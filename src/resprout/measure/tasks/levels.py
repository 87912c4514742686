"""Levels of one model, cut by more and more, and the best of them by a stated rule. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from resprout.measure.tasks.paired import compare_items

TOLERANCE = 0.05


@dataclass(frozen=True)
class Level:
    """A model at one amount of cutting, and what its tasks came to.

    Attributes:
        name: of the model, such as a folder's.
        percentage: of the units that were cut, 0 to 100; 0 is the uncut model.
        method: the pruning method's name; None for the uncut model.
        results: task -> its record, as `kept.finished` reads them.
        failed: task -> why there is no result.
        folder: of the finished tasks, for comparing models item by item; None where they are gone.
        about: more for the metadata, plain JSON: the cut's manifest, achieved amounts.
    """

    name: str
    percentage: float
    method: str | None
    results: Mapping[str, Mapping[str, Any]]
    failed: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def value(self, task: str) -> float | None:
        """The headline score of a task; None where it failed or is not finite."""
        record = self.results.get(task)
        if record is None or task in self.failed:
            return None
        value: float | None = record["metrics"][record["headline"]]["value"]
        return value


# The p-value of no change between two levels in a task; None where they cannot be compared.
Compare = Callable[[Level, Level, str], float | None]


def ordered(levels: Sequence[Level]) -> list[Level]:
    """By percentage.

    Raises:
        ValueError: no level, two of one percentage, or one outside 0 to 100.
    """
    if not levels:
        raise ValueError("levels: got none, needs one at least")
    found = sorted(levels, key=lambda level: level.percentage)
    for level in found:
        if not 0 <= level.percentage <= 100:
            raise ValueError(f"levels: got {level.percentage} %, allowed is 0 to 100")
    for one, other in pairwise(found):
        if one.percentage == other.percentage:
            raise ValueError(f"levels: got two at {one.percentage:g} %, allowed is one")
    return found


def uncut(levels: Sequence[Level]) -> Level | None:
    """The level at 0 %, if there is one."""
    return next((level for level in levels if level.percentage == 0), None)


def tasks_of(levels: Sequence[Level]) -> list[str]:
    """All tasks that any level has a result or a failure of, as they are first mentioned."""
    return list(dict.fromkeys(task for level in levels for task in (*level.results, *level.failed)))


def higher_is_better(levels: Sequence[Level], task: str) -> bool:
    """Of a task's headline metric."""
    for level in levels:
        if (record := level.results.get(task)) is not None:
            return bool(record["metrics"][record["headline"]]["higher_is_better"])
    return True


def change(before: float | None, after: float | None) -> float | None:
    """(cut - uncut) / uncut, also of a perplexity; None where it is not defined."""
    return None if before is None or after is None or before == 0 else (after - before) / before


def paired_p(before: Level, after: Level, task: str) -> float | None:
    """The p-value of no change, from the items that both were asked: the default comparison.

    McNemar's exact test where items are right or wrong, else the sign-flip test of the items'
    differences. None without item files, or where both were not asked the same items.
    """
    if before.folder is None or after.folder is None:
        return None
    if task not in before.results or task not in after.results:
        return None
    try:
        return compare_items(before.folder, after.folder, task).p
    except ValueError:
        return None


@dataclass(frozen=True)
class Best:
    """The best level, and how it was found.

    Attributes:
        level: None where no cut level is within the tolerance, or none can be compared.
        tolerance: x of the rule.
        means: percentage -> mean normalised score of the levels that could be compared.
        left_out: percentage -> why that level could not.
        tasks: that the means are over.
        rule: in words, with its parameters.
        reason: why there is no level.
    """

    level: Level | None
    tolerance: float
    means: Mapping[float, float]
    left_out: Mapping[float, str]
    tasks: tuple[str, ...]
    rule: str
    reason: str | None

    def as_json(self) -> dict[str, Any]:
        """For the metadata."""
        return {
            "percentage": None if self.level is None else self.level.percentage,
            "rule": self.rule,
            "tolerance": self.tolerance,
            "tasks": list(self.tasks),
            "mean_normalised": {f"{at:g}": mean for at, mean in self.means.items()},
            "left_out": {f"{at:g}": why for at, why in self.left_out.items()},
            "reason": self.reason,
        }


def normalised(record: Mapping[str, Any], before: float, after: float) -> float | None:
    """A score on a scale where 1 is perfect, or of a perplexity as good as the uncut model.

    Accuracies: (score - chance) / (1 - chance), chance = 1 / choices where that is known, else 0;
    below chance is below 0. Perplexities and bits per byte: uncut / cut. None for other scores.

    Args:
        record: of the task, for metric and chance.
        before: the uncut model's score.
        after: the score to be normalised.
    """
    metric = record["metrics"][record["headline"]]
    if metric["unit"] != "share":
        return before / after if after else None
    if not metric["higher_is_better"]:
        return None
    chance = record["chance"] or 0.0
    return (after - chance) / (1 - chance) if chance < 1 else None


def best_level(levels: Sequence[Level], tolerance: float = TOLERANCE) -> Best:
    """The largest amount whose mean normalised score is within x of the uncut model's.

    Args:
        levels: of one model.
        tolerance: x, on the scale of `normalised`.

    Raises:
        ValueError: a tolerance below 0, or levels that `ordered` refuses.
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance: got {tolerance}, allowed is 0 or more")
    rule = (
        f"the largest amount whose mean normalised score is within {tolerance:g} of the uncut "
        "model's; accuracies are rescaled so that chance (1 / choices, 0 where unknown) is 0 and "
        "all right is 1, perplexities are uncut / cut, and all tasks weigh alike"
    )
    every = ordered(levels)
    base = uncut(every)
    if base is None:
        return Best(None, tolerance, {}, {}, (), rule, "there is no uncut level (0 %)")
    tasks = []
    for task in base.results:
        before = base.value(task)
        if before is not None and normalised(base.results[task], before, before) is not None:
            tasks.append(task)
    if not tasks:
        nothing = "the uncut model has no score to compare with"
        return Best(None, tolerance, {}, {}, (), rule, nothing)
    means: dict[float, float] = {}
    left_out: dict[float, str] = {}
    for level in every:
        missing = [task for task in tasks if level.value(task) is None]
        if missing:
            left_out[level.percentage] = f"no score of {', '.join(missing)}"
            continue
        scores = []
        for task in tasks:
            before, after = base.value(task), level.value(task)
            assert before is not None and after is not None
            one = normalised(base.results[task], before, after)
            assert one is not None, task
            scores.append(one)
        means[level.percentage] = sum(scores) / len(scores)
    within = [at for at, mean in means.items() if at > 0 and mean >= means[0] - tolerance]
    best = next((level for level in every if within and level.percentage == max(within)), None)
    reason = None if best else "no cut level is within the tolerance"
    return Best(best, tolerance, means, left_out, tuple(tasks), rule, reason)
