"""How a run was made, on what, and how to make it again: for the foot of a page."""

from typing import Any

import yaml

from resprout.report.records import Run

PROTOCOLS = {
    "fair": "the same prunable set by role for every subject (all matrices and kernels inside the "
    "blocks that the forward pass uses), the same recovery for every level, 0 % too, and the whole "
    "held-out set in fixed windows",
    "paper": "the choices of the published study, its weak points included: its prunable set, and "
    "no recovery for the uncut model",
}


def details_of(run: Run) -> list[tuple[str, str]]:
    """How the study was set up, as pairs of name and value."""
    spec = run.study["spec"]
    first = run.records[0]["measures"]["loss"]
    details = [
        ("text", _text_of(spec["data"])),
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


def _text_of(data: dict[str, Any]) -> str:
    if data["held_out"] is None:
        return f"{data['source']}, prepared, with a validation split of its own"
    return f"{data['source']}, {data['held_out']:.1%} of files held out"


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


def study_file(run: Run) -> str:
    """The study as a YAML file that `resprout run` reads: what was left at its default too."""
    return yaml.safe_dump(_without_none(run.study["spec"]), sort_keys=False, allow_unicode=True)


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(part) for key, part in value.items() if part is not None}
    return [_without_none(part) for part in value] if isinstance(value, list) else value
