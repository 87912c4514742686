"""The page: one HTML file with everything in it, for a reader without the run or a network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from resprout.files import write_text
from resprout.report import charts, tables
from resprout.report.agency.page import PAGE as AGENCY_PAGE
from resprout.report.comparison import compare_all
from resprout.report.curves import Curve, curves
from resprout.report.details import PROTOCOLS, details_of, environment_of, study_file
from resprout.report.embed import inline_svg, page_script, script_digest, script_json, templates
from resprout.report.insides import insides
from resprout.report.overlay import published_overlay
from resprout.report.plot_data import plot_data
from resprout.report.records import Run, protocols_of, read_runs
from resprout.report.summary import comparison_rows, shared_unit, summary
from resprout.report.task_table import task_tables
from resprout.report.texts import characters, side_by_side, text_levels
from resprout.report.workload_table import absent_energy, how_timed, workload_tables

# A page is to be sent: texts are shown shorter until it is below this.
MOST_BYTES = 4_800_000
LENGTHS = (None, 2000, 1000, 500, 250, 120, 60)  # characters

SCRIPTS = ("chart.js", "tables.js", "texts.js", "insides.js")


def write_report(folder: Path, *others: Path) -> Path:
    """Read a run's records, draw its charts and write its page; returns the page's path.

    Args:
        folder: of the run; gets `report.html`, and `charts/` in PNG and SVG.
        others: runs that are laid over it; the page is `report_with_NAMES.html` then.

    Raises:
        ValueError: a folder is no run, or no point of it is finished.
    """
    runs = read_runs([folder, *others])
    records = [record for run in runs for record in run.records]
    found = curves(records)
    also = "".join(f"_with_{other.resolve().name}" for other in others)
    drawn = {
        "pruning_curve": charts.pruning_curve(found)[0],
        "efficiency_frontier": charts.efficiency_frontier(found)[0],
    }
    for name, figure in drawn.items():
        charts.save(figure, folder / "charts" / f"{name}{also}")
    environment = templates()
    script = page_script(environment, SCRIPTS)
    whole = {
        "title": " and ".join(run.study["study"] for run in runs),
        "questions": list(dict.fromkeys(run.study["question"] for run in runs)),
        "protocols": {name: PROTOCOLS[name] for run in runs for name in protocols_of(run)},
        "charts": {
            name: inline_svg(folder / "charts" / f"{name}{also}.svg", name) for name in drawn
        },
        "script": Markup(script),
        "script_digest": script_digest(script),
        "table": tables.table(records),
        "is_text": tables.is_text,
        "runs": [_foot(run) for run in runs],
        "again": " ".join(["resprout report", *(run.folder.resolve().name for run in runs)]),
        "has_agency_page": not others and (folder / AGENCY_PAGE).is_file(),
        **_sections(found, [run.study["study"] for run in runs]),
    }
    template = environment.get_template("report.html")
    fitting = [most for most in LENGTHS if characters(found, most) < MOST_BYTES]
    for most in fitting or LENGTHS[-1:]:
        page = template.render(whole, levels=text_levels(found, most), most_characters=most)
        if len(page.encode()) <= MOST_BYTES:
            break
    path = folder / f"report{also}.html"
    write_text(path, page)
    return path


def _sections(found: Sequence[Curve], studies: Sequence[str]) -> dict[str, Any]:
    """What the page shows of the curves."""
    plot = plot_data(found)
    names = [*studies, *(curve.subject for curve in found)]
    published = published_overlay(names, 1 + max(curve["colour"] for curve in plot["curves"]))
    drawn = {axis["key"] for axis in plot["y"]}
    published = [curve for curve in published if drawn & set(curve["y"])]
    plot["curves"] += published
    if published:  # they are told by the amount asked for
        plot["x"].sort(key=lambda axis: axis["key"] != "amount")
    comparisons = compare_all(list(found))
    drawings = insides(found)
    return {
        "headline": summary(found, comparisons),
        "comparisons": comparison_rows(comparisons) if comparisons else [],
        "comparison_unit": shared_unit(comparisons),
        "curve_labels": [curve.label for curve in found],
        "beside": side_by_side(found),
        "left_out": [(c.label, _in_words(c.left_out)) for c in found if c.left_out],
        "borrowed": [curve.label for curve in found if curve.borrowed],
        "tasks": task_tables(found),
        "workloads": workload_tables(found),
        "timed": how_timed(found),
        "no_energy": absent_energy(found),
        "drawings": drawings,
        "published": [(curve["subject"], curve["source"]) for curve in published],
        "data": script_json({"plot": plot, "insides": drawings}),
    }


def _in_words(left_out: Sequence[tuple[float, int]]) -> str:
    """`seed 2 at 0%, 25%`, seed by seed."""
    seeds = dict.fromkeys(seed for _, seed in left_out)
    return "; ".join(
        f"seed {seed} at {', '.join(f'{100 * a:g}%' for a, own in left_out if own == seed)}"
        for seed in seeds
    )


def _foot(run: Run) -> dict[str, Any]:
    """How a run was made, and what of it is missing."""
    return {
        "name": run.name,
        "points": len(run.study["points"]),
        "missing": run.missing,
        "failures": run.failures,
        "details": details_of(run),
        "environment": environment_of(run),
        "study": run.study["study"],
        "study_file": study_file(run),
    }
