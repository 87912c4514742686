"""The agency page: answers, charts and tables in one HTML file, from a run's records alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from resprout.files import write_text
from resprout.report.agency import charts as agency_charts
from resprout.report.agency.gains import constrained, metrics
from resprout.report.agency.optimum import optimum
from resprout.report.agency.pairs import Comparison, compare
from resprout.report.agency.radar import radar
from resprout.report.agency.readings import temperatures, workload_of
from resprout.report.agency.resilience import resilience
from resprout.report.agency.tables import (
    figures_table,
    heads_table,
    improvements_table,
    tidy_csv,
)
from resprout.report.agency.temperature import temperature
from resprout.report.agency.verdicts import Answer, seeds_words
from resprout.report.charts import save
from resprout.report.details import PROTOCOLS, details_of, environment_of, study_file
from resprout.report.embed import inline_svg, page_script, script_digest, templates
from resprout.report.records import Run, protocols_of, read_run
from resprout.report.series import series_of

PAIRS_OF_A_SHEET = 4  # of subjects, in one chart: what fits a page
MOST_BYTES_OF_CHARTS = 3_500_000
PAGE, CSV = "agency.html", "agency.csv"


def write_agency_report(folder: Path, baseline: str | None = None) -> Path:
    """Compare the subjects of a run that have agency with the one that has not.

    Writes `agency.html` (whole and offline), `agency.csv` (tidy) and `charts/agency_*` (PNG, SVG)
    into the folder; returns the page's path.

    Args:
        folder: of the run.
        baseline: the subject without agency; None = the one of the same model.

    Raises:
        ValueError: the folder is no run, no point of it is finished, or there are no subjects to
            compare; in one line.
    """
    run = read_run(folder)
    comparison = compare(run.study["spec"]["subjects"], series_of(run.records), baseline)
    own = [r for r in run.records if r["subject"] in comparison.order()]
    workload, heats = workload_of(own), temperatures(own)
    drawn = draw(comparison, workload, heats)
    for name, (_, figure) in drawn.items():
        save(figure, folder / "charts" / name)
    write_text(folder / CSV, tidy_csv(run.records, comparison.order()))
    charts, left_out = _inlined(folder / "charts", drawn)
    environment = templates()
    script = page_script(environment, ("tables.js",))
    page = environment.get_template("agency.html").render(
        study=run.study,
        protocols={name: PROTOCOLS[name] for name in protocols_of(run)},
        intro=introduction(comparison),
        answers=answers(comparison, workload, heats),
        charts=charts,
        charts_left_out=left_out,
        tables=_tables(comparison, workload),
        workload=workload,
        notes=comparison.notes,
        one_seed=any(len(pair.seeds) == 1 for pair in comparison.pairs),
        details=_details(run),
        environment=environment_of(run),
        study_file=study_file(run),
        again=f"resprout report {folder.resolve().name}",
        script=Markup(script),
        script_digest=script_digest(script),
        failures=run.failures,
        missing=run.missing,
    )
    path = folder / PAGE
    write_text(path, page)
    return path


def answers(comparison: Comparison, workload: str | None, heats: list[str]) -> list[Answer]:
    """The five questions of the published guide, in its order."""
    return [
        resilience(comparison),
        optimum(comparison, workload),
        temperature(comparison, heats),
        constrained(comparison, workload),
        metrics(comparison, workload),
    ]


def draw(
    comparison: Comparison, workload: str | None, heats: list[str]
) -> dict[str, tuple[str, Figure]]:
    """File name -> title, figure; what was not measured is not drawn."""
    drawn: dict[str, tuple[str, Figure]] = {}
    if workload is not None:
        drawn["agency_speed"] = "Speed", agency_charts.speed(comparison, workload)[0]
    drawn["agency_quality"] = "Quality", agency_charts.quality(comparison)[0]
    sheets = [
        replace(comparison, pairs=comparison.pairs[first : first + PAIRS_OF_A_SHEET])
        for first in range(0, len(comparison.pairs), PAIRS_OF_A_SHEET)
    ]
    for number, sheet in enumerate(sheets):
        found = agency_charts.relative(sheet, workload)[0]
        drawn[_numbered("agency_relative", number)] = "Relative improvement", found
    for number, pair in enumerate(comparison.pairs):
        figure = agency_charts.summary(comparison, pair, workload)[0]
        drawn[_numbered("agency_summary", number)] = "Summary of each pair", figure
    for number, sheet in enumerate(sheets):
        web = radar(sheet, workload)
        if web is not None:
            title = "The highest level, every axis so that outside is better"
            drawn[_numbered("agency_radar", number)] = title, web[0]
    if heats:
        figure = agency_charts.temperatures(comparison, heats)[0]
        drawn["agency_temperatures"] = "Temperatures", figure
    return drawn


def _numbered(name: str, number: int) -> str:
    return name if number == 0 else f"{name}_{number + 1}"


def _inlined(
    folder: Path, drawn: dict[str, tuple[str, Figure]]
) -> tuple[list[tuple[str, list[Markup]]], list[str]]:
    """Charts by title, and the names of those that a page below 5 MB has no room for."""
    found: dict[str, list[Markup]] = {}
    left_out, size = [], 0
    for name in sorted(drawn, key=lambda name: name.startswith("agency_summary")):
        chart = inline_svg(folder / f"{name}.svg", name)
        size += len(chart)
        if size > MOST_BYTES_OF_CHARTS:
            left_out.append(name)
        else:
            found.setdefault(drawn[name][0], []).append(chart)
    return list(found.items()), left_out


def introduction(comparison: Comparison) -> list[str]:
    """Who is compared with whom, by what, over how many seeds."""
    said = [
        f"{subject}: with agency, that is with gates and states on its attention heads. "
        f"{base}: the same model without."
        for subject, base in comparison.subjects.items()
    ]
    alike: dict[str, list[str]] = {}
    for pair in comparison.pairs:
        levels = ", ".join(f"{100 * level:g} %" for level in pair.levels)
        basis = f"{seeds_words(len(pair.seeds))}, levels {levels}"
        alike.setdefault(basis, []).append(pair.label)
    said += [f"{basis}: {'; '.join(labels)}." for basis, labels in alike.items()]
    if not comparison.pairs:
        said.append("No method was applied to both, so nothing is compared.")
    return said


def _tables(comparison: Comparison, workload: str | None) -> list[tuple[str, list[list[str]]]]:
    found = [
        ("Figures by level", figures_table(comparison, workload)),
        ("Agency over its baseline, up = better", improvements_table(comparison, workload)),
        ("The heads that are left", heads_table(comparison)),
    ]
    return [(title, rows) for title, rows in found if len(rows) > 1]


def _details(run: Run) -> list[tuple[str, str]]:
    """The study's set-up, and what agency was set to."""
    details = details_of(run)
    for subject in run.study["spec"]["subjects"]:
        settings: dict[str, Any] | None = subject.get("agency")
        if settings is not None:
            words = {True: "on", False: "off"}
            said = ", ".join(
                f"{k.replace('_', ' ')} {words[v] if isinstance(v, bool) else v}"
                for k, v in settings.items()
            )
            details.append((f"{subject['name']}, its agency", said or "as usual"))
    precision = run.study["spec"].get("precision")
    if precision is not None:
        details.append(("precision of the measures", str(precision)))
    return details
