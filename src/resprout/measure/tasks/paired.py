"""Two models on the same items of a task: the difference and whether chance explains it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resprout.measure.significance import mcnemar, sign_flip_p
from resprout.measure.tasks.kept import item_counts, read_task
from resprout.measure.tasks.scores import is_perplexity, per


@dataclass(frozen=True)
class Paired:
    """The second model minus the first.

    Attributes:
        difference: of the mean score over items; of a perplexity in nats.
        p: two-sided p-value of no difference.
        unit: `share`, or `nats per item`, word or byte, of which fewer are better.
        items: how many.
        protocol: the test, in words.
        counts: how many items both, only one, and neither had right; None for other scores.
    """

    difference: float
    p: float
    unit: str
    items: int
    protocol: str
    counts: dict[str, int] | None = None

    def as_json(self) -> dict[str, Any]:
        """As results hold it."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def compare_items(first: Path, second: Path, task: str) -> Paired:
    """Compare a finished task of two models item by item.

    McNemar's exact test where items are right or wrong, else the sign-flip test of the items'
    differences.

    Args:
        first: folder of the first model's finished tasks.
        second: of the second's.
        task: finished in both.

    Raises:
        ValueError: not finished, not the same items, or a score that is no mean over items.
    """
    a, b = item_counts(first, task), item_counts(second, task)
    if not a or a.keys() != b.keys() or any(a[item][1] != b[item][1] for item in a):
        raise ValueError("they did not answer the same items")
    pairs = [(a[item], b[item]) for item in a if a[item][1]]
    if all(total in (0, 1) and size == 1 for pair in pairs for total, size in pair):
        test = mcnemar([one[0] for one, _ in pairs], [other[0] for _, other in pairs])
        counts = {name: value for name, value in asdict(test).items() if name != "p"}
        return Paired(
            0.0 - test.difference,
            test.p,
            "share",
            test.items,
            "McNemar's exact test over items",
            counts,
        )
    record = read_task(second, task)
    assert record is not None
    label = record["headline"]
    totals = np.array([other[0] - one[0] for one, other in pairs])
    sizes = np.array([one[1] for one, _ in pairs])
    return Paired(
        float(totals.sum() / sizes.sum()),
        sign_flip_p(totals),
        f"nats per {per(label)}" if is_perplexity(label) else "share",
        len(pairs),
        "two-sided sign-flip test over items",
    )
