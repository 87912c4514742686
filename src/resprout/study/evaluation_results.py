"""What an evaluation came to: `results.json`, `figures.csv`, and the tasks' published tables."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resprout.files import write_json, write_text
from resprout.study.between import compare_losses, compare_tasks
from resprout.study.evaluation_plan import Plan, Subject
from resprout.study.task_tables import write_task_tables

FORMAT = 1
_COLUMNS = ("model", "percentage", "measure", "figure", "value", "low95", "high95", "unit",
            "items", "seconds", "protocol", "reason")  # fmt: skip

Document = dict[str, Any]


@dataclass(frozen=True)
class Results:
    """What was found of each model, in the order in which they were named.

    Attributes:
        models: name, model, percentage, method, and measure -> figures or why it failed.
        comparisons: name -> loss and tasks against the baseline.
        failures: what failed -> why.
        files: that were written.
    """

    models: list[dict[str, Any]]
    comparisons: dict[str, dict[str, Any]]
    failures: dict[str, str]
    files: list[Path]


def write_results(
    plan: Plan, digests: Mapping[str, str], found: Mapping[str, Mapping[str, Document]]
) -> Results:
    """Put together what was measured, and write it.

    Args:
        plan: the evaluation.
        digests: name -> what names the model's weights.
        found: name -> measure -> document, as kept in the folder.
    """
    models = [_of_model(subject, digests[subject.name], found[subject.name])
              for subject in plan.subjects]  # fmt: skip
    comparisons = _comparisons(plan, found)
    failures: dict[str, str] = {}
    for subject in plan.subjects:
        for measure, document in found[subject.name].items():
            if "failed" in document:
                failures[f"{subject.name}, {measure}"] = document["failed"]
            else:
                within = document["measured"].get("failed") or {}
                failures |= {f"{subject.name}, {what}": why for what, why in within.items()}
    out = plan.folder.path
    files = [out / "results.json", out / "figures.csv"]
    documents = [d for by_measure in found.values() for d in by_measure.values()]
    environments = [d["environment"] for d in documents]
    write_json(
        files[0],
        {
            "format": FORMAT,
            "models": models,
            "comparisons": comparisons,
            "failures": failures,
            "environments": [e for i, e in enumerate(environments) if e not in environments[:i]],
        },
    )
    write_text(files[1], figures_csv(models))
    if "tasks" in plan.measures:
        files += write_task_tables(plan, found)
    return Results(models, comparisons, failures, files)


def figures_csv(models: list[dict[str, Any]]) -> str:
    """A tidy table: one row per model and figure."""
    out = io.StringIO()
    writer = csv.DictWriter(out, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for model in models:
        base = {"model": model["name"], "percentage": model["percentage"]}
        for measure, result in model["measures"].items():
            if "failed" in result:
                writer.writerow(base | {"measure": measure, "reason": result["failed"]})
                continue
            for name, figure in result["figures"].items():
                low, high = figure["ci95"] or (None, None)
                row = {key: figure[key] for key in _COLUMNS if key in figure}
                row |= {"measure": measure, "figure": name, "low95": low, "high95": high}
                writer.writerow(base | row)
    return out.getvalue()


def _of_model(subject: Subject, digest: str, found: Mapping[str, Document]) -> dict[str, Any]:
    measures = {}
    for measure, document in found.items():
        if "failed" in document:
            measures[measure] = {"failed": document["failed"]}
        else:
            measures[measure] = {
                "figures": document["measured"]["figures"],
                "started": document["started"],
                "finished": document["finished"],
                "stage": document["stage"],
            }
            if (verdicts := document["measured"].get("verdicts")) is not None:
                measures[measure]["verdicts"] = verdicts
    return {
        "name": subject.name,
        "model": subject.model,
        "digest": digest,
        "percentage": subject.percentage,
        "achieved": subject.achieved,
        "method": subject.method,
        "measures": measures,
    }


def _comparisons(
    plan: Plan, found: Mapping[str, Mapping[str, Document]]
) -> dict[str, dict[str, Any]]:
    """Each model against the baseline, in what both have."""
    baseline = plan.baseline
    if baseline is None:
        return {}
    comparisons = {}
    base = found[baseline.name]
    for subject in plan.subjects:
        if subject is baseline:
            continue
        own = found[subject.name]
        both = [m for m in plan.measures if "measured" in own[m] and "measured" in base[m]]
        compared: dict[str, Any] = {"baseline": baseline.name}
        if "loss" in both:
            compared["loss"] = compare_losses(own["loss"]["measured"], base["loss"]["measured"])
        if "tasks" in both:
            folder, other = (plan.folder.tasks_of_model(s.name) for s in (subject, baseline))
            done = [d["tasks"]["measured"]["tasks"] for d in (own, base)]
            common = [
                task
                for task, result in done[0].items()
                if "failed" not in result and "failed" not in done[1].get(task, {"failed": ""})
            ]
            compared["tasks"] = compare_tasks(folder, other, common)
        comparisons[subject.name] = compared
    return comparisons
