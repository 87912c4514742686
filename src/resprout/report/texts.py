"""What the models wrote, level by level and side by side, with what repeats itself marked."""

import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from resprout.report.curves import Curve

_WORD = re.compile(r"\S+")
GRAM = 3  # words; as the page's repetition-3 counts tokens


def text_levels(found: Sequence[Curve]) -> list[dict[str, Any]]:
    """For the slider: each amount with every curve's texts there.

    Of several seeds the first is shown; all stand in the records.

    Returns:
        Per amount: `amount`, and `columns`, each with the number of its curve, its title, figures,
        verdict, and `samples` (name, prompt, pieces as (text, repeated), verdict, why).
    """
    amounts = sorted({float(amount) for curve in found for amount in curve.amounts})
    levels = []
    for amount in amounts:
        columns = []
        for number, curve in enumerate(found):
            at = [i for i, own in enumerate(curve.amounts) if own == amount]
            text = curve.records[at[0]][0]["measures"].get("text") or {} if at else {}
            if "samples" in text:
                columns.append(_column(number, curve, curve.records[at[0]][0]))
        if columns:
            levels.append({"amount": amount, "columns": columns})
    return levels


def _column(number: int, curve: Curve, record: dict[str, Any]) -> dict[str, Any]:
    text = record["measures"]["text"]
    seed = f", seed {record['seed']}" if curve.seeds > 1 else ""
    return {
        "curve": number,
        "title": curve.label + seed,
        "achieved": record["achieved"],
        "loss": record["measures"]["loss"]["nats_per_token"],
        "verdict": (text.get("verdicts") or {}).get("all"),
        "samples": [
            {
                "name": sample.get("name", sample["category"]),
                "prompt": sample["prompt"],
                "pieces": pieces(sample["text"]),
                "verdict": sample.get("verdict"),
                "why": sample.get("why"),
            }
            for sample in text["samples"]
        ],
    }


def pieces(text: str) -> list[tuple[str, bool]]:
    """A text in pieces, each with whether it repeats: part of three words that stood before."""
    words = list(_WORD.finditer(text))
    seen: set[tuple[str, ...]] = set()
    repeated = [False] * len(words)
    for first in range(len(words) - GRAM + 1):
        gram = tuple(word.group() for word in words[first : first + GRAM])
        if gram in seen:
            repeated[first : first + GRAM] = [True] * GRAM
        seen.add(gram)
    found: list[tuple[str, bool]] = []
    end = 0
    for again, run in groupby(zip(words, repeated, strict=True), key=lambda pair: pair[1]):
        if again:
            own = [word for word, _ in run]
            found += [
                (text[end : own[0].start()], False),
                (text[own[0].start() : own[-1].end()], True),
            ]
            end = own[-1].end()
    found.append((text[end:], False))
    return [piece for piece in found if piece[0]]
