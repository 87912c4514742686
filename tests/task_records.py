"""Finished tasks as `resprout.measure.tasks.kept` writes them, without a model to measure."""

from resprout.measure.tasks import kept


def keep_task(folder, name, headline, values, **changes):
    """Write a finished task whose items have these values of its headline; gives its record.

    Args:
        folder: of finished tasks.
        name: of the task.
        headline: `METRIC,FILTER`, or a metric alone.
        values: of its items, in the order of their documents.
        changes: of the record.
    """
    metric, _, chosen = headline.partition(",")
    record = {
        "task": name, "headline": headline, "chance": 0.5, "protocol": "p", "lm_eval": "0.4.13",
        "metrics": {headline: {"value": 0.5, "stderr": 0.1, "items": len(values), "unit": "share",
                               "ci95": [0.1, 0.9], "interval": "Wilson", "reason": None,
                               "higher_is_better": True}},
        "shots": {name: 0}, "versions": {name: 1.0}, "configs": {name: {2: "a", 10: "b"}},
        "started": "2026", "ended": "2026", "seconds": 1.0, "limit": None, "batch_size": 1,
        "seeds": {}, "max_length": 64, "max_gen_toks": {}, "data": "Hub",
        "identity": {"model": "m"},
    }  # fmt: skip
    rows = [
        {"task": name, "doc_id": i, "doc_hash": f"h{i}", "filter": chosen or "none",
         "metrics": {metric: value}}
        for i, value in enumerate(values)
    ]  # fmt: skip
    return kept.keep(folder, record | changes, rows)
