"""How a run was made, on what, and how to make it again: for the foot of a page."""

import math
from collections import Counter
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
    details = [
        ("text", _text_of(spec["data"])),
        ("held-out set", _held_out(run)),
        ("baseline", f"{_baseline(run)}: a model that knows only how often each token occurs"),
        ("seeds", ", ".join(map(str, spec["seeds"]))),
        ("recovery", _options(spec["recovery"]) if spec["recovery"]["steps"] else "none"),
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
            parts.append(f"chosen from a search (held-out nats per own token at {tried})")
        details.append((subject["name"], "; ".join(parts)))
    for record in run.records:
        if record["dead_units"]:
            where = f"dead in {record['subject']} at {record['amount']:.0%}, seed {record['seed']}"
            details.append((where, ", ".join(record["dead_units"])))
    return details


def _subjects_of(run: Run) -> dict[str, dict[str, Any]]:
    """Subject -> its loss, one where all have the same tokens, then without a name."""
    losses = {record["subject"]: record["measures"]["loss"] for record in run.records}
    alike = len({record["digests"]["tokens"] for record in run.records}) == 1
    return {"": next(iter(losses.values()))} if alike else losses


def _held_out(run: Run) -> str:
    window = run.study["spec"]["data"]["window"]
    return "; ".join(
        f"{f'{name}: ' * bool(name)}{loss['tokens']:,} predicted tokens in {loss['windows']:,} "
        f"windows of {window}"
        for name, loss in _subjects_of(run).items()
    )


def _baseline(run: Run) -> str:
    """In nats per token where all have the same tokens, else in bits per byte of each."""
    found = _subjects_of(run)
    if "" in found:
        return f"{found['']['unigram_nats_per_token']:.3f} nats per token"
    told = {
        name: loss["unigram_nats_per_token"] * loss["tokens_per_byte"] / math.log(2)
        for name, loss in found.items()
    }
    return ", ".join(f"{name}: {bits:.3f}" for name, bits in told.items()) + " bits per byte"


def _text_of(data: dict[str, Any]) -> str:
    if data["held_out"] is None:
        return f"{data['source']}, prepared, with a validation split of its own"
    return f"{data['source']}, {data['held_out']:.1%} of files held out"


def _options(options: dict[str, Any]) -> str:
    shown = {name: v if isinstance(v, str) else f"{v:g}" for name, v in options.items()}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in shown.items())


def environment_of(run: Run) -> list[tuple[str, str]]:
    """What the points were run on: each part once, with its points where they differ."""
    parts: dict[str, Counter[str]] = {}
    for record in run.records:
        for name, value in _environment(record["environment"]):
            parts.setdefault(name, Counter())[value] += 1
    return [
        (
            name,
            next(iter(values))
            if len(values) == 1
            else "; ".join(f"{value} ({_points(count)})" for value, count in values.items()),
        )
        for name, values in parts.items()
    ]


def _environment(e: dict[str, Any]) -> list[tuple[str, str]]:
    commit = "unknown (not a git checkout)"
    if e["git_commit"]:
        commit = e["git_commit"] + ("" if e["git_clean"] else ", with uncommitted changes")
    threads = f"{e['threads']} thread{'s' * (e['threads'] != 1)} used"
    return [
        ("device", e["device_name"]),
        ("processor", f"{e['cpu']}, {e['cores']} cores, {threads}"),
        ("system", f"{e['system']}, Python {e['python']}"),
        ("libraries", ", ".join(f"{n} {v}" for n, v in e["libraries"].items())),
        ("resprout", f"{e['resprout']}, commit {commit}"),
    ]


def _points(count: int) -> str:
    return f"{count} point{'s' * (count != 1)}"


def study_file(run: Run) -> str:
    """The study as a YAML file that `resprout run` reads: what was left at its default too."""
    return yaml.safe_dump(_without_none(run.study["spec"]), sort_keys=False, allow_unicode=True)


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(part) for key, part in value.items() if part is not None}
    return [_without_none(part) for part in value] if isinstance(value, list) else value
