"""The tables as published: every metric (CSV), how it was made (JSON), summaries (Markdown)."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resprout.files import write_json, write_text
from resprout.measure.tasks.kept import digest
from resprout.measure.tasks.levels import (
    TOLERANCE,
    Best,
    Compare,
    Level,
    best_level,
    change,
    higher_is_better,
    ordered,
    paired_p,
    tasks_of,
    uncut,
)
from resprout.measure.tasks.names import HEADLINE_RULE

COLUMNS = (
    "model",
    "pruning_percentage",
    "method",
    "task",
    "metric",
    "value",
    "stderr",
    "ci95_low",
    "ci95_high",
    "items",
    "shots",
    "higher_is_better",
    "headline",
    "status",
)
SIGNIFICANT = 0.05

# As the published tables call and order them.
_COLUMN_NAMES = {
    "mmlu": "MMLU",
    "gsm8k": "GSM8K",
    "arc_challenge": "ARC-C",
    "arc_easy": "ARC-E",
    "hellaswag": "HellaSwag",
    "boolq": "BoolQ",
    "piqa": "PIQA",
    "ifeval": "IFEval",
    "leaderboard_musr": "MUSR",
    "truthfulqa_mc1": "TruthfulQA-MC1",
    "truthfulqa_mc2": "TruthfulQA-MC2",
    "winogrande": "WinoGrande",
    "wikitext": "WikiText PPL",
    "lambada_openai": "Lambada PPL",
}


def results_csv(levels: Sequence[Level]) -> str:
    """One row per level, task and metric, with lm-eval's standard error; failures say so."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for level in ordered(levels):
        of_level = {
            "model": level.name,
            "pruning_percentage": f"{level.percentage:g}",
            "method": level.method,
        }
        for task in tasks_of([level]):
            if task in level.failed:
                status = f"failed: {level.failed[task]}"
                writer.writerow(of_level | {"task": task, "status": status})
                continue
            record = level.results[task]
            for label, one in record["metrics"].items():
                low, high = one["ci95"] or (None, None)
                writer.writerow(
                    of_level
                    | {
                        "task": task,
                        "metric": label,
                        "value": one["value"],
                        "stderr": one["stderr"],
                        "ci95_low": low,
                        "ci95_high": high,
                        "items": one["items"],
                        "shots": "/".join(map(str, sorted(set(record["shots"].values())))),
                        "higher_is_better": one["higher_is_better"],
                        "headline": label == record["headline"],
                        "status": one["reason"] if one["value"] is None else "ok",
                    }
                )
    return text.getvalue()


def metadata(
    model: str, levels: Sequence[Level], environment: Mapping[str, Any], best: Best
) -> dict[str, Any]:
    """How the results were made: what somebody needs to repeat them.

    Args:
        model: the name of the uncut model.
        levels: its levels.
        environment: hardware and versions, plain JSON.
        best: the best level, with its rule.
    """
    every = ordered(levels)
    tasks: dict[str, Any] = {}
    for level in every:
        for task, record in level.results.items():
            tasks.setdefault(
                task,
                {
                    "headline": record["headline"],
                    "shots": record["shots"],
                    "versions": record["versions"],
                    "chance": record["chance"],
                    "data": record["data"],
                    "configs": record["configs"],
                },
            )
    records = [record for level in every for record in level.results.values()]
    return {
        "model": model,
        "hardware": dict(environment),
        "evaluation": "lm-eval " + " and ".join(sorted({r["lm_eval"] for r in records})),
        "pruning_methods": sorted({level.method for level in every if level.method}),
        "started": min((r["started"] for r in records), default=None),
        "ended": max((r["ended"] for r in records), default=None),
        "headline_rule": HEADLINE_RULE,
        "best_level": best.as_json(),
        "levels": [_level(level, tasks) for level in every],
        "tasks": tasks,
    }


def _level(level: Level, tasks: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "model": level.name,
        "pruning_percentage": level.percentage,
        "method": level.method,
        **level.about,
        "failed": dict(level.failed),
        "tasks": {},
    }
    kept = ("started", "ended", "seconds", "limit", "batch_size", "seeds", "max_length")
    for task, record in level.results.items():
        one = {key: record[key] for key in (*kept, "max_gen_toks")}
        one["model_digest"] = record["identity"]["model"]
        one["dtype"] = record["identity"]["dtype"]
        for key in ("data", "configs"):
            if digest(record[key]) != digest(tasks[task][key]):
                one[key] = record[key]  # made another way than the first level
        found["tasks"][task] = one
    return found


def score_table(levels: Sequence[Level], compare: Compare = paired_p) -> str:
    """Tasks that no cut improves: score and relative change per level, Markdown."""
    return _table(levels, compare, improving=False)


def improving_table(levels: Sequence[Level], compare: Compare = paired_p) -> str:
    """Tasks with a better score than the uncut model's at one level or more, Markdown."""
    return _table(levels, compare, improving=True)


def improves(levels: Sequence[Level], task: str) -> bool:
    """Whether a task's score is better than the uncut model's at some level."""
    base = uncut(levels)
    if base is None or (before := base.value(task)) is None:
        return False
    sign = 1 if higher_is_better(levels, task) else -1
    values = [level.value(task) for level in levels if level is not base]
    return any(value is not None and sign * (value - before) > 0 for value in values)


def _table(levels: Sequence[Level], compare: Compare, improving: bool) -> str:
    every = ordered(levels)
    known = list(_COLUMN_NAMES)
    tasks = [task for task in tasks_of(every) if improves(every, task) == improving]
    tasks.sort(key=lambda task: known.index(task) if task in known else len(known))
    if not tasks:
        return "None.\n"
    names = [_COLUMN_NAMES.get(task, task) for task in tasks]
    lines = [f"| Pruning % | {' | '.join(names)} |", "| --- |" + " --- |" * len(tasks)]
    for level in every:
        label = f"{level.percentage:g}%" if level.percentage else "**0%** (baseline)"
        cells = [_cell(every, level, task, compare, improving) for task in tasks]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(levels: Sequence[Level], level: Level, task: str, compare: Compare, bold: bool) -> str:
    if task in level.failed:
        return "failed"
    value = level.value(task)
    if value is None:
        return "not finite" if task in level.results else "not measured"
    share = level.results[task]["metrics"][level.results[task]["headline"]]["unit"] == "share"
    score = f"{value:.4f}" if share else f"{value:.2f}" if abs(value) < 1e6 else f"{value:.3e}"
    base = uncut(levels)
    if base is None or base is level:
        return score
    before = base.value(task)
    if before is None:
        return f"{score} (no baseline)"
    relative = change(before, value)
    same = value == before  # also of a score of 0, where a relative change is not defined
    words = "+0.0%" if same else "from 0" if relative is None else f"{100 * relative:+.1f}%"
    better = not same and (value > before) == higher_is_better(levels, task)
    p = compare(base, level, task)
    mark = " ?" if p is None else " ~" if p >= SIGNIFICANT else ""
    return f"{score} ({f'**{words}**' if bold and better else words}{mark})"


_LEGEND = (
    "In parentheses: (cut - uncut) / uncut, of perplexities too. Bold: better than the uncut "
    "model. `~`: compatible with no change, item by item on the same items (p of 0.05 or more, "
    "each comparison by itself: McNemar's exact test of right and wrong answers, else the "
    "sign-flip test). `?`: not compared item by item."
)


def summary_markdown(
    model: str,
    levels: Sequence[Level],
    tolerance: float = TOLERANCE,
    compare: Compare = paired_p,
) -> str:
    """The summary page of a model: best level, both tables, failures.

    Raises:
        ValueError: as `best_level`.
    """
    every = ordered(levels)
    best = best_level(every, tolerance)
    found = f"{best.level.percentage:g}% pruning" if best.level else f"none: {best.reason}"
    parts = [f"## {model}", f"**Best configuration:** {found}. Rule: {best.rule}."]
    if best.means:
        means = ", ".join(f"{at:g}%: {mean:.4f}" for at, mean in best.means.items())
        parts.append(f"Mean normalised score over {len(best.tasks)} tasks: {means}.")
    parts += [f"{at:g}% was left out: {why}." for at, why in best.left_out.items()]
    if uncut(every) is None:
        parts.append("There is no uncut level (0 %), so no change can be shown.")
    parts += ["### Benchmarks", score_table(every, compare).rstrip()]
    parts += ["### Benchmarks That Improve With Pruning", improving_table(every, compare).rstrip()]
    parts.append(_LEGEND)
    failures = [
        f"- {level.percentage:g}%, {task}: {why}"
        for level in every
        for task, why in level.failed.items()
    ]
    if failures:
        parts += ["### Failed", "\n".join(failures)]
    return "\n\n".join(parts) + "\n"


def write_tables(
    folder: Path,
    name: str,
    model: str,
    levels: Sequence[Level],
    environment: Mapping[str, Any],
    tolerance: float = TOLERANCE,
    compare: Compare = paired_p,
) -> list[Path]:
    """Write `NAME_results.csv`, `NAME_metadata.json` and `NAME_summary.md`; returns their paths.

    Raises:
        ValueError: as `best_level`.
    """
    best = best_level(levels, tolerance)
    paths = [folder / f"{name}_{end}" for end in ("results.csv", "metadata.json", "summary.md")]
    write_text(paths[0], results_csv(levels))
    write_json(paths[1], metadata(model, levels, environment, best))
    write_text(paths[2], summary_markdown(model, levels, tolerance, compare))
    return paths
