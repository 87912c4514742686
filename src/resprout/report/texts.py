"""What the models wrote, level by level and side by side, with what repeats itself marked."""

import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from resprout.report.curves import Curve

_WORD = re.compile(r"\S+")
GRAM = 3  # words; as the page's repetition-3 counts tokens
MOST_BESIDE = 3
LONG = 1500  # characters, from which on a text has a box of its own that scrolls

# What would be unseen, or turn the text around it, is shown by its name.
_NAMES = {0x200E: "LRM", 0x200F: "RLM", 0x061C: "ALM", 0x202A: "LRE", 0x202B: "RLE", 0x202C: "PDF",
          0x202D: "LRO", 0x202E: "RLO", 0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI",
          0x7F: "DEL", 0x2028: "LS", 0x2029: "PS", 0xFEFF: "BOM"}  # fmt: skip
_VISIBLE = {code: f"\u27e8{code:02X}\u27e9" for code in range(32) if chr(code) not in "\t\n"}
_VISIBLE |= {code: f"\u27e8{name}\u27e9" for code, name in _NAMES.items()}


def text_levels(found: Sequence[Curve], most: int | None = None) -> list[dict[str, Any]]:
    """For the slider: each amount with every curve's texts there.

    Of several seeds the first is shown; all stand in the records.

    Args:
        found: the curves.
        most: characters of a text that are shown; None = all.

    Returns:
        Per amount: `amount`, and `columns`, each with the number of its curve, its title,
        figures in words, verdict, and `samples` (name, prompt, pieces as (text, repeated), whether
        it is `long`, `more` characters that are not shown, verdict, why).
    """
    per_token = len({curve.tokens for curve in found}) == 1
    amounts = sorted({float(amount) for curve in found for amount in curve.amounts})
    levels = []
    for amount in amounts:
        columns = []
        for number, curve in enumerate(found):
            at = [i for i, own in enumerate(curve.amounts) if own == amount]
            text = curve.records[at[0]][0]["measures"].get("text") or {} if at else {}
            if "samples" in text:
                columns.append(_column(number, curve, curve.records[at[0]][0], per_token, most))
        if columns:
            levels.append({"amount": amount, "columns": columns})
    return levels


def characters(found: Sequence[Curve], most: int | None) -> int:
    """How many characters of texts `text_levels` gives."""
    return sum(
        len(sample["text"][:most])
        for curve in found
        for records in curve.records
        for sample in (records[0]["measures"].get("text") or {}).get("samples", [])
    )


def side_by_side(found: Sequence[Curve]) -> list[int]:
    """Which curves stand side by side at first: of each subject its first, of three at most."""
    first: dict[tuple[str, str], int] = {}
    for number, curve in enumerate(found):
        first.setdefault((curve.run, curve.subject), number)
    chosen = list(first.values())[:MOST_BESIDE]
    return chosen if len(chosen) > 1 else list(range(min(2, len(found))))


def _column(
    number: int, curve: Curve, record: dict[str, Any], per_token: bool, most: int | None
) -> dict[str, Any]:
    text, loss = record["measures"]["text"], record["measures"]["loss"]
    told = f"{loss['nats_per_token']:.3f} nats per token"
    seed = f", seed {record['seed']}" if curve.seeds > 1 else ""
    return {
        "curve": number,
        "title": curve.label + seed,
        "achieved": record["achieved"],
        "loss": told if per_token else f"{loss['bits_per_byte']:.3f} bits per byte",
        "verdict": (text.get("verdicts") or {}).get("all"),
        "samples": [
            {
                "name": sample.get("name", sample["category"]),
                "prompt": visible(sample["prompt"]),
                "pieces": pieces(visible(sample["text"][:most])),
                "long": len(sample["prompt"]) + len(sample["text"][:most]) > LONG,
                "more": len(sample["text"][most:]) if most is not None else 0,
                "verdict": sample.get("verdict"),
                "why": sample.get("why"),
            }
            for sample in text["samples"]
        ],
    }


def visible(text: str) -> str:
    """The text with its control characters, and those that turn its direction, named."""
    return text.translate(_VISIBLE)


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
