"""The page: one HTML file with everything in it, for a reader without the run or a network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from resprout.files import write_text
from resprout.report import charts, tables
from resprout.report.comparison import compare_all
from resprout.report.curves import Curve, curves
from resprout.report.details import PROTOCOLS, details_of, environments_of, study_file
from resprout.report.embed import inline_svg, script_digest, script_json, templates
from resprout.report.insides import insides
from resprout.report.overlay import published_overlay
from resprout.report.plot_data import plot_data
from resprout.report.records import Run, protocols_of, read_runs
from resprout.report.summary import comparison_rows, summary
from resprout.report.task_table import task_tables
from resprout.report.texts import text_levels
from resprout.report.workload_table import absent_energy, how_timed, workload_tables

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
    script = _script(environment)
    page = environment.get_template("report.html").render(
        title=" and ".join(run.study["study"] for run in runs),
        questions=list(dict.fromkeys(run.study["question"] for run in runs)),
        protocols={name: PROTOCOLS[name] for run in runs for name in protocols_of(run)},
        charts={name: inline_svg(folder / "charts" / f"{name}{also}.svg", name) for name in drawn},
        script=Markup(script),
        script_digest=script_digest(script),
        table=tables.table(records),
        is_text=tables.is_text,
        runs=[_foot(run) for run in runs],
        has_agency_page=not others and len({"agency" in record for record in records}) == 2,
        **_sections(found, [run.study["study"] for run in runs]),
    )
    path = folder / f"report{also}.html"
    write_text(path, page)
    return path


def _sections(found: Sequence[Curve], studies: Sequence[str]) -> dict[str, Any]:
    """What the page shows of the curves."""
    plot = plot_data(found)
    published = published_overlay(studies, 1 + max(curve["colour"] for curve in plot["curves"]))
    plot["curves"] += published
    if published:  # they are told by the amount asked for
        plot["x"].sort(key=lambda axis: axis["key"] != "amount")
    comparisons = compare_all(list(found))
    drawings = insides(found)
    return {
        "headline": summary(found, comparisons),
        "comparisons": comparison_rows(comparisons),
        "levels": text_levels(found),
        "curve_labels": [curve.label for curve in found],
        "borrowed": [curve.label for curve in found if curve.borrowed],
        "tasks": task_tables(found),
        "workloads": workload_tables(found),
        "timed": how_timed(found),
        "no_energy": absent_energy(found),
        "drawings": drawings,
        "published": list(dict.fromkeys(curve["source"] for curve in published)),
        "data": script_json({"plot": plot, "insides": drawings}),
    }


def _foot(run: Run) -> dict[str, Any]:
    """How a run was made, and what of it is missing."""
    return {
        "name": run.name,
        "points": len(run.study["points"]),
        "missing": run.missing,
        "failures": run.failures,
        "details": details_of(run),
        "environments": environments_of(run),
        "study": run.study["study"],
        "study_file": study_file(run),
    }


def _script(environment: Environment) -> str:
    """The page's own program, whole."""
    loader = environment.loader
    assert loader is not None
    sources = [loader.get_source(environment, name)[0] for name in SCRIPTS]
    return "".join(f"(() => {{\n{source}}})();\n" for source in sources)
