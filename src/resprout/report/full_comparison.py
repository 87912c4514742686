"""`full_comparison.json`: a comparison's records in the structure that the published program wrote.

Its keys are the program's own: `biogpt_base_val` and `pythia_base_val` (nats per token of the
uncut models), `biogpt_prune` and `pythia_prune` (a dict per level) and `generations` (both uncut
models' texts, prompt by prompt). What it did not have stands beside these under further keys.
"""

from typing import Any

Record = dict[str, Any]
ROLES = ("biogpt", "pythia")


def full_comparison(
    records: list[Record], subjects: dict[str, str], protocols: tuple[str, ...]
) -> dict[str, Any]:
    """The comparison, by the first protocol in the published keys and by others beside them.

    Args:
        records: of all points, one seed.
        subjects: the subject's name of each role.
        protocols: first the one that the published keys hold.
    """
    by_protocol = {
        protocol: _published_keys(
            {role: _levels(records, subjects[role], protocol) for role in ROLES}
        )
        for protocol in protocols
    }
    first, *others = protocols
    return {
        **by_protocol[first],
        "protocol": first,
        **{protocol: by_protocol[protocol] for protocol in others},
        "subjects": {role: _described(records, subjects[role]) for role in ROLES},
        "units": {
            "val_loss": "nats per token, over the whole validation split",
            "ci95": "95 % interval of val_loss, over validation windows",
            "perplexity": "exp of val_loss",
            "sparsity": "fraction of the prunable weights that was asked for",
        },
        "environment": records[0]["environment"] if records else None,
    }


def _levels(records: list[Record], subject: str, protocol: str) -> list[Record]:
    """A subject's measured points, rising."""
    own = [
        record
        for record in records
        if record["subject"] == subject
        and record["protocol"] == protocol
        and "nats_per_token" in record["measures"]["loss"]
    ]
    return sorted(own, key=lambda record: record["amount"])


def _published_keys(levels: dict[str, list[Record]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for role in ROLES:
        uncut = [record for record in levels[role] if record["amount"] == 0]
        loss = uncut[0]["measures"]["loss"]["nats_per_token"] if uncut else None
        found[f"{role}_base_val"] = loss
    for role in ROLES:
        found[f"{role}_prune"] = [_level(record) for record in levels[role]]
    texts = {role: [_texts(record) for record in levels[role]] for role in ROLES}
    found["generations"] = _side_by_side(
        {role: texts[role][0] if levels[role] and levels[role][0]["amount"] == 0 else {}
         for role in ROLES}
    )  # fmt: skip
    found["generations_by_level"] = {
        role: [
            {
                "sparsity": record["amount"],
                "texts": {name: sample["text"] for name, sample in own.items()},
            }
            for record, own in zip(levels[role], texts[role], strict=True)
        ]
        for role in ROLES
    }
    return found


def _level(record: Record) -> dict[str, Any]:
    loss = record["measures"]["loss"]
    return {
        "sparsity": record["amount"],
        "nonzero_params": record["parameters"]["nonzero"],
        "val_loss": loss["nats_per_token"],
        "perplexity": loss["perplexity"],
        "ci95": loss.get("ci95"),
        "bits_per_byte": loss["bits_per_byte"],
        "val_loss_before_recovery": record["measures"]["loss_before_recovery"].get(
            "nats_per_token"
        ),
        "achieved": record["achieved"],
        "surviving_params": record["parameters"]["surviving"],
        "dead_neurons": len(record["dead_units"]),
        "recovered": record["recovered"],
        "record": record["id"],
    }


def _texts(record: Record) -> dict[str, dict[str, str]]:
    """Name of the prompt -> sample, where texts were written."""
    samples = (record["measures"].get("text") or {}).get("samples", [])
    return {sample.get("name", sample["category"]): sample for sample in samples}


def _side_by_side(texts: dict[str, dict[str, dict[str, str]]]) -> list[dict[str, Any]]:
    """Prompt by prompt what each wrote; None where one wrote nothing."""
    prompts = {name: sample for role in ROLES for name, sample in texts[role].items()}
    return [
        {
            "id": name,
            "cat": sample["category"],
            "prompt": sample["prompt"],
            **{role: texts[role].get(name, {}).get("text") for role in ROLES},
        }
        for name, sample in prompts.items()
    ]


def _described(records: list[Record], subject: str) -> dict[str, Any]:
    own = next((record for record in records if record["subject"] == subject), None)
    if own is None:
        return {"name": subject}
    return {
        "name": subject,
        "model": own["model"],
        "digest": own["digests"]["subject"],
        "total_params": own["parameters"]["total"],
    }
