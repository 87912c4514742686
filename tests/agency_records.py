"""Runs with known answers for the tests of the agency report: records as a study writes them."""

import json

import numpy as np

WINDOWS = 40
TOKENS = 16
WORKLOAD = "batch1/prompt32/new20"
ENVIRONMENT = {
    "resprout": "0", "git_commit": "abc", "git_clean": True, "python": "3", "cpu": "a cpu",
    "libraries": {"torch": "2"}, "system": "Linux", "cores": 2, "threads": 2, "device": "cpu",
    "device_name": "a cpu",
}  # fmt: skip


def figure(value, unit="share", reach=0.02, reason=None):
    if value is None:
        return {"value": None, "unit": unit, "items": 0, "protocol": "p", "seconds": 0.1,
                "ci95": None, "reason": reason or "there is none"}  # fmt: skip
    interval = None if reach is None else [value - reach, value + reach]
    return {"value": value, "unit": unit, "items": 5, "protocol": "p", "seconds": 0.1,
            "ci95": interval, "reason": None if interval else "exact"}  # fmt: skip


def text(distinct, repetition, temperature, **more):
    return {
        "distinct_2": distinct,
        "repetition_3": repetition,
        "temperature": temperature,
        "samples": [{"category": "code", "prompt": "def f", "text": "some <text>", "tokens": 3}],
        "figures": {
            "distinct_2": figure(distinct, **more),
            "repetition_3": figure(repetition, **more),
        },
    }


def record(
    subject,
    amount,
    nats,
    seed=0,
    method="heads-random",
    distinct=0.5,
    repetition=0.1,
    rate=100.0,
    ratio=1.0,
    first=5.0,
    warmer=None,
    noise=7,
    tokens="t",
    agency=None,
    options=None,
):
    """One point; `nats`: its mean loss; `warmer`: (distinct, repetition) at temperature 1."""
    spread = np.random.default_rng(noise).normal(0, 0.5, WINDOWS)  # the same hard windows for all
    loss = {
        "nats_per_token": nats,
        "perplexity": float(np.exp(nats)),
        "bits_per_byte": nats / 2,
        "ci95": [nats - 0.1, nats + 0.1],
        "tokens": TOKENS * WINDOWS,
        "windows": WINDOWS,
        "tokens_per_byte": 0.3,
        "unigram_nats_per_token": 6.0,
        "window_tokens": [TOKENS] * WINDOWS,
        "window_nats": [TOKENS * (nats + e) for e in spread - spread.mean()],
    }
    speed = {
        f"{WORKLOAD}/tokens_per_second": figure(rate, "tokens/s", 1.0),
        f"{WORKLOAD}/time_to_first_token": figure(first, "ms", 0.1),
        "model_bytes": figure(4e6 * (1 - amount / 4), "bytes", None),
    }
    if amount:
        speed[f"{WORKLOAD}/tokens_per_second/ratio"] = figure(ratio, "ratio", 0.01)
    measures = {
        "loss": loss,
        "loss_before_recovery": loss,
        "text": text(distinct, repetition, 0.7),
        "speed": {"figures": speed, "failed": {}},
    }
    if warmer is not None:
        measures["text_at"] = {"1": text(*warmer, 1.0)}
    found = {
        "id": f"{subject}-{method}-{amount}-{seed}{'-x' if options else ''}",
        "study": "made", "subject": subject, "method": method, "unit": "head",
        "amount": amount, "achieved": amount, "seed": seed, "protocol": "fair",
        "parameters": {"total": 10**6, "prunable": 10**5, "nonzero": 1,
                       "surviving": int(10**6 * (1 - amount / 4))},
        "dead_units": [], "measures": measures, "identity": {"cut": options or {}},
        "stages": {"loss": {"seconds": 1.0, "peak_bytes": 10**9}},
        "digests": {"tokens": tokens}, "environment": ENVIRONMENT,
    }  # fmt: skip
    if agency is not None:
        found["agency"] = agency
    return found


def curve(subject, losses, seeds=(0, 1, 2), jitter=0.001, levels=(0.0, 0.2, 0.5), **more):
    """Points along losses; seeds differ by `jitter`, alike in no two subjects.

    Values of `more` that are lists go level by level.
    """
    shift = np.random.default_rng(sum(map(ord, subject))).normal(0, jitter, (len(levels), 9))
    return [
        record(
            subject,
            level,
            losses[i] + shift[i][seed],
            seed,
            **{k: v[i] if isinstance(v, list) else v for k, v in more.items()},
        )
        for seed in seeds
        for i, level in enumerate(levels)
    ]


def subjects(*names, agency=("ada",)):
    return [
        {"name": name, "model": "gpt2-nano", "learning_rate": 1e-3, "learning_rate_search": None}
        | ({"agency": {"gate_penalty": 0.1, "states": True}} if name in agency else {})
        for name in names
    ]


def write_run(folder, records, missing=(), agency=("ada",), names=None):
    """The records as a run's folder."""
    (folder / "points").mkdir(parents=True, exist_ok=True)
    for point in records:
        (folder / "points" / f"{point['id']}.json").write_text(json.dumps(point))
    names = names or list(dict.fromkeys(r["subject"] for r in records))
    options = {"steps": 2, "learning_rate": 1e-3}
    study = {
        "study": "made", "question": "Who <wins>?", "protocol": "fair",
        "points": [r["id"] for r in records] + list(missing),
        "spec": {"data": {"source": "stdlib", "held_out": 0.02, "window": 16}, "seeds": [0],
                 "recovery": options, "training": options,
                 "subjects": subjects(*names, agency=agency)},
    }  # fmt: skip
    (folder / "study.json").write_text(json.dumps(study))
    return folder
