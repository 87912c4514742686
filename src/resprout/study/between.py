"""Two evaluated models against each other: the same windows, the same items, in pairs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resprout.measure.drawn import DOCUMENTS, drawn, drawn_tokens, what_is_drawn
from resprout.measure.significance import holm, paired_difference, sign_flip_p
from resprout.measure.tasks.paired import compare_items

_COUNTS = {"only_first": "only_baseline", "only_second": "only_model"}


def compare_losses(model: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Loss of a model minus that of the baseline, document by document.

    Args:
        model: details of its measure `loss`.
        base: those of the baseline.

    Returns:
        `difference`, `ci95` (paired bootstrap), `p` (sign-flip test), `unit`; or `not_compared`
        with the reason where they did not read the same windows.
    """
    same = model["data_digest"] == base["data_digest"]
    if not same or model["window_tokens"] != base["window_tokens"]:
        return {"not_compared": "they did not predict the same tokens in the same windows"}
    sizes = drawn_tokens(model)
    if len(sizes) < 2:
        return {"not_compared": "one window has no interval"}
    ours, theirs = drawn(model), drawn(model, base)
    found = paired_difference(ours, theirs, sizes)
    differences = ours - theirs
    what = what_is_drawn(model.get(DOCUMENTS), len(model["window_tokens"]))
    return {
        "difference": found.value,
        "ci95": [found.low, found.high],
        "p": sign_flip_p(differences),
        "unit": "nats per token, model minus baseline",
        "items": len(sizes),
        "protocol": f"paired bootstrap and two-sided sign-flip test over {what}",
    }


def compare_tasks(folder: Path, base: Path, tasks: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Tasks of a model against the baseline's, item by item, with Holm's correction over tasks.

    Right-or-wrong items by McNemar's exact test; other scores by a sign-flip test, those of
    perplexities in nats per item, of which fewer are better.

    Args:
        folder: of the model's finished tasks.
        base: of the baseline's.
        tasks: names of those that both finished.
    """
    found: dict[str, dict[str, Any]] = {}
    for task in tasks:
        try:
            found[task] = compare_items(base, folder, task).as_json()
            if counts := found[task].get("counts"):
                found[task]["counts"] = {_COUNTS.get(key, key): n for key, n in counts.items()}
        except ValueError as error:
            found[task] = {"not_compared": str(error)}
    tested = [task for task, result in found.items() if "p" in result]
    for task, adjusted in zip(tested, holm([found[t]["p"] for t in tested]), strict=True):
        found[task]["p_holm"] = float(adjusted)
    return found
