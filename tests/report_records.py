"""Records as a run writes them, made up: every measure, so that a page has every section."""

import json
from itertools import product

import numpy as np

LEVELS = (0.0, 0.5, 0.9)
WINDOWS = 60


def make_record(subject, amount, nats, seed=0, tokens="t", text="some text", total=1_000_000):
    """A record as a run writes it; `nats`: the mean loss per token of this point."""
    noise = np.random.default_rng(7).normal(0, 0.5, WINDOWS)  # the same hard windows for all
    sizes = [16] * WINDOWS
    window_nats = [16 * (nats + e - noise.mean()) for e in noise]
    loss = {
        "nats_per_token": nats,
        "perplexity": float(np.exp(nats)),
        "bits_per_byte": nats / 2,
        "ci95": [nats - 0.1, nats + 0.1],
        "tokens": 16 * WINDOWS,
        "windows": WINDOWS,
        "tokens_per_byte": 0.3,
        "unigram_nats_per_token": 6.0,
        "window_tokens": sizes,
        "window_nats": window_nats,
    }
    sample = {"category": "code", "prompt": "def f", "text": text, "tokens": 3}
    environment = {
        "resprout": "0", "git_commit": "abc", "git_clean": True, "python": "3", "cpu": "a cpu",
        "libraries": {"torch": "2"}, "system": "Linux", "cores": 2, "threads": 2, "device": "cpu",
        "device_name": "a cpu",
    }  # fmt: skip
    return {
        "id": f"{subject}-{amount}-{seed}",
        "study": "made",
        "subject": subject,
        "method": "magnitude",
        "unit": "weight",
        "stages": {"loss": {"seconds": 1.0, "peak_bytes": 10**9}},
        "amount": amount,
        "achieved": amount,
        "seed": seed,
        "protocol": "fair",
        "parameters": {"total": total, "prunable": total // 2,
                       "surviving": int(total * (1 - amount / 2)), "nonzero": 1},
        "dead_units": [],
        "measures": {
            "loss": loss,
            "loss_before_recovery": loss,
            "text": {"distinct_2": 0.5, "repetition_3": 0.1, "samples": [sample]},
        },
        "digests": {"tokens": tokens},
        "environment": environment,
    }  # fmt: skip


def two(losses_a, losses_b, **changes_of_b):
    a = [make_record("ada", x, y) for x, y in zip(LEVELS, losses_a, strict=True)]
    b = [make_record("bo", x, y, **changes_of_b) for x, y in zip(LEVELS, losses_b, strict=True)]
    return a + b


def figure(value, unit, spread=0.05, reason=None):
    interval = None if value is None else [value * (1 - spread), value * (1 + spread)]
    return {"value": value, "unit": unit, "items": 5, "protocol": "timed <in turn>",
            "seconds": 1.0, "ci95": interval, "reason": reason}  # fmt: skip


def full(record, layers=4):
    """The record with every measure that there is, and with what was cut where."""
    amount = record["amount"]
    slower = 10.0 - 4 * amount
    name = "batch1/prompt16/new40"
    speed = {
        f"{name}/time_to_first_token": figure(2 * slower, "ms"),
        f"{name}/time_per_token_p50": figure(slower, "ms"),
        f"{name}/time_per_token_p95": figure(1.3 * slower, "ms"),
        f"{name}/tokens_per_second": figure(1000 / slower, "tokens/s"),
        f"{name}/decode_tokens_per_second": figure(1100 / slower, "tokens/s"),
    }
    if amount > 0:
        speed[f"{name}/time_per_token_p50/ratio"] = figure(slower / 10, "ratio")
    metrics = {
        "lambada": {"perplexity": (30 * (1 + 3 * amount), False)},
        "piqa": {"acc": (0.7 - 0.2 * amount, True)},
        "ifeval": {"strict": (0.2 + 0.02 * amount, True)},
    }
    tasks = {
        task: {
            "headline": next(iter(own)),
            "metrics": {
                label: {"value": value, "ci95": [value * 0.9, value * 1.1], "higher_is_better": up}
                for label, (value, up) in own.items()
            },
        }
        for task, own in metrics.items()
    }
    record["measures"] |= {
        "tasks": {"tasks": tasks, "failed": {}},
        "speed": {"figures": speed},
        "energy": {"figures": {f"{name}/joules_per_token": figure(0.02 * slower, "J")}},
    }
    record["parameters"] |= {
        "non_embedding": record["parameters"]["surviving"] - 100_000,
        "effective_flops_per_token": 2e6 * (1 - amount / 2),
        "flops_context_tokens": 128,
    }
    record["cut_map"] = {
        "unit": "branch",
        "groups": [
            {"name": f"layer {i} neuron {j}", "units": 4, "cut": [amount] * 3 + [amount / 2]}
            for i in range(layers)
            for j in range(2)
        ],
        "matrices": [
            {"name": f"layer {i}", "matrices": {"qkv": [int(100 * amount), 100], "up": [0, 50]}}
            for i in range(layers)
        ],
    }
    if amount > 0.8:
        record["dead_units"] = ["layer 1 neuron 0"]
    again = "one two three four one two three four and a word"
    samples = [
        {"category": "code", "prompt": "def f", "text": f"{again} at {amount}",
         "verdict": "repetitive", "why": "37 % of its threes of words stood there before"},
        {"category": "prose", "prompt": "Once", "text": "upon a time",
         "verdict": "no visible degradation", "why": "below all thresholds"},
    ]  # fmt: skip
    record["measures"]["text"] |= {"samples": samples, "verdicts": {"all": "repetitive"}}
    return record


def with_agency(record, layers=2, heads=3):
    """The record with the states of its heads."""
    states = ["active", "overloaded", "withdrawn"]
    record["agency"] = {
        "step": 5,
        "layers": [
            {"layer": i, "heads": heads, "gates": [1.0, 0.5, 0.25][:heads],
             "states": states[:heads], "consent": [True] * heads,
             "utilisation": [0.5] * heads, "alignment": [0.9] * heads, "violations": [0] * heads}
            for i in range(layers)
        ],
    }  # fmt: skip
    return record


def rich_records(methods=("magnitude", "random"), protocols=("fair", "paper")):
    """Two subjects by each method under each protocol, with every measure."""
    records = []
    for method, protocol in product(methods, protocols):
        worse, more = 1.6 if method == "random" else 1.0, 0.2 if protocol == "paper" else 0.0
        for subject, own in (("ada", 0.0), ("bo", 0.4)):
            for amount in LEVELS:
                nats = 3 + own + (worse + own) * amount**2 + more * amount
                record = full(make_record(subject, amount, nats))
                record["id"] = f"{subject}-{method}-{protocol}-{amount}"
                record |= {"method": method, "protocol": protocol}
                records.append(with_agency(record) if subject == "bo" else record)
    return records


def write_run(folder, records, missing=(), protocol="fair", study="made"):
    """A run's folder with these records."""
    (folder / "points").mkdir(parents=True, exist_ok=True)
    for record in records:
        (folder / "points" / f"{record['id']}.json").write_text(json.dumps(record))
    options = {"steps": 2, "learning_rate": 1e-3}
    subjects = [{"name": n, "model": n, "learning_rate": 1e-3, "learning_rate_search": None}
                for n in dict.fromkeys(r["subject"] for r in records)]  # fmt: skip
    values = {
        "study": study, "question": "Who <wins>?", "protocol": protocol,
        "points": [r["id"] for r in records] + list(missing),
        "spec": {"data": {"source": "stdlib", "held_out": 0.02, "window": 16}, "seeds": [0],
                 "recovery": options, "training": options, "subjects": subjects},
    }  # fmt: skip
    (folder / "study.json").write_text(json.dumps(values))
    return folder
