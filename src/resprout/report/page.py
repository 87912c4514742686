"""The page: one HTML file with everything in it, for a reader without the run or a network."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from resprout.files import write_text
from resprout.report import charts, tables
from resprout.report.comparison import compare_all, headline
from resprout.report.curves import curves
from resprout.report.records import Run, read_run

PROTOCOLS = {
    "fair": "the same prunable set by role for every subject (all matrices and kernels inside the "
    "blocks that the forward pass uses), the same recovery for every level, 0 % too, and the whole "
    "held-out set in fixed windows",
    "paper": "the choices of the published study, its weak points included: its prunable set, and "
    "no recovery for the uncut model",
}


def write_report(folder: Path) -> Path:
    """Read a run's records, draw its charts and write `report.html`; returns its path.

    Raises:
        ValueError: the folder is no run, or no point of it is finished.
    """
    run = read_run(folder)
    found = curves(run.records)
    drawn = {
        "pruning_curve": charts.pruning_curve(found)[0],
        "efficiency_frontier": charts.efficiency_frontier(found)[0],
    }
    for name, figure in drawn.items():
        charts.save(figure, folder / "charts" / name)
    page = (
        templates()
        .get_template("report.html")
        .render(
            study=run.study,
            protocol=PROTOCOLS[run.study["protocol"]],
            headline=headline(found, compare_all(found)),
            charts={name: inline_svg(folder / "charts" / f"{name}.svg", name) for name in drawn},
            table=tables.table(run.records),
            is_text=tables.is_text,
            levels=_levels(run),
            details=details_of(run),
            environments=environments_of(run),
            failures=run.failures,
            missing=run.missing,
        )
    )
    path = folder / "report.html"
    write_text(path, page)
    return path


def templates() -> Environment:
    """The pages' templates: every value is escaped, and one that is missing is an error."""
    return Environment(
        loader=PackageLoader("resprout.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def inline_svg(path: Path, name: str) -> Markup:
    """A chart as an <svg> element: our own drawing, its texts are outlines, so safe as it is.

    Identifiers are made the chart's own: two inlined drawings share one page.
    """
    svg = path.read_text("utf-8")
    svg = svg[svg.index("<svg") :]
    for marker in ('id="', 'xlink:href="#', "url(#"):
        svg = svg.replace(marker, f"{marker}{name}-")
    described = f'<svg role="img" aria-label="{name.replace("_", " ")}"'
    return Markup(svg.replace("<svg", described, 1))


def _levels(run: Run) -> list[dict[str, Any]]:
    """For the slider: each amount with every subject's samples there, side by side."""
    amounts = sorted({record["amount"] for record in run.records})
    levels = []
    for amount in amounts:
        columns = [
            {
                "title": f"{record['subject']}, {record['method']}, seed {record['seed']}",
                "loss": record["measures"]["loss"]["nats_per_token"],
                "achieved": record["achieved"],
                "samples": {
                    s.get("name", s["category"]): s for s in record["measures"]["text"]["samples"]
                },
            }
            for record in run.records
            if record["amount"] == amount and "samples" in record["measures"].get("text", {})
        ]
        if columns:
            categories = list(columns[0]["samples"])
            levels.append({"amount": amount, "columns": columns, "categories": categories})
    return levels


def details_of(run: Run) -> list[tuple[str, str]]:
    """How the study was set up, as pairs of name and value."""
    spec = run.study["spec"]
    first = run.records[0]["measures"]["loss"]
    details = [
        ("text", f"{spec['data']['source']}, {spec['data']['held_out']:.1%} of files held out"),
        (
            "held-out set",
            f"{first['tokens']:,} predicted tokens in {first['windows']:,} windows of "
            f"{spec['data']['window']}",
        ),
        (
            "baseline",
            f"{first['unigram_nats_per_token']:.3f} nats per token: a model that knows only how "
            "often each token occurs",
        ),
        ("seeds", ", ".join(map(str, spec["seeds"]))),
        ("recovery", _options(spec["recovery"])),
    ]
    if spec["training"]:
        details.append(("growing", _options(spec["training"])))
    for subject in spec["subjects"]:
        parts = [subject["model"]]
        if subject["learning_rate"]:
            parts.append(f"learning rate {subject['learning_rate']:g}")
        if subject["learning_rate_search"]:
            tried = ", ".join(
                f"{rate}: {loss:.3f}" for rate, loss in subject["learning_rate_search"].items()
            )
            parts.append(f"chosen from a search (held-out nats per token at {tried})")
        details.append((subject["name"], "; ".join(parts)))
    for record in run.records:
        if record["dead_units"]:
            where = f"dead in {record['subject']} at {record['amount']:.0%}, seed {record['seed']}"
            details.append((where, ", ".join(record["dead_units"])))
    return details


def _options(options: dict[str, Any]) -> str:
    shown = {name: v if isinstance(v, str) else f"{v:g}" for name, v in options.items()}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in shown.items())


def environments_of(run: Run) -> list[list[tuple[str, str]]]:
    """What the points were run on; usually one machine."""
    found: list[list[tuple[str, str]]] = []
    for record in run.records:
        e = record["environment"]
        commit = "unknown (not a git checkout)"
        if e["git_commit"]:
            commit = e["git_commit"] + ("" if e["git_clean"] else ", with uncommitted changes")
        pairs = [
            ("device", e["device_name"]),
            ("processor", f"{e['cpu']}, {e['cores']} cores, {e['threads']} threads used"),
            ("system", f"{e['system']}, Python {e['python']}"),
            ("libraries", ", ".join(f"{n} {v}" for n, v in e["libraries"].items())),
            ("resprout", f"{e['resprout']}, commit {commit}"),
        ]
        if pairs not in found:
            found.append(pairs)
    return found
