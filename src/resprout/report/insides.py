"""Inside the models: what was cut where, and the states of heads with agency, for the drawings."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from resprout.report.curves import Curve, Record

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_PLACE = re.compile(r"^layer (\d+)(?: neuron (\d+))?$")


def insides(found: Sequence[Curve]) -> list[dict[str, Any]]:
    """Each level of each curve as layers of units; of several seeds the first.

    Returns:
        Per level that has something to draw: `curve` and its `label`, `amount`, `achieved`, `unit`,
        its plural, `rows` (name, `boxes` of a name and the share cut of each unit, as `packed`),
        `matrices` (names, rows of shares), `feedback` (pairs of layers, whether they are used),
        `agency` (rows of heads, each state, gate, utilisation, alignment, violations, and `of` how
        many of the layer they are left), `dead`.
    """
    drawn = []
    for number, curve in enumerate(found):
        whole = _heads_by_layer(records[0] for records in curve.records)
        for records in curve.records:
            record = records[0]
            drawing = _drawing(record, whole)
            if drawing is not None:
                about = {"curve": number, "label": curve.label, "amount": record["amount"]}
                drawn.append(
                    about
                    | {"achieved": record["achieved"], "seed": record["seed"]}
                    | {"dead": record["dead_units"]}
                    | drawing
                )
    return drawn


def _heads_by_layer(records: Iterable[Record]) -> dict[int, int]:
    """Layer -> the most heads that any level has there: the uncut model's, if measured."""
    most: dict[int, int] = {}
    for record in records:
        for layer in (record.get("agency") or {"layers": []})["layers"]:
            most[layer["layer"]] = max(layer["heads"], most.get(layer["layer"], 0))
    return most


def _drawing(record: Record, heads: dict[int, int]) -> dict[str, Any] | None:
    cut_map, agency = record.get("cut_map"), record.get("agency")
    if not cut_map and not agency:
        return None
    cut_map = cut_map or {"unit": None, "groups": [], "matrices": []}
    unit = (cut_map["unit"] or "unit").replace("_", " ")
    names = list(dict.fromkeys(name for row in cut_map["matrices"] for name in row["matrices"]))
    return {
        "unit": unit,
        "units": unit + ("es" if unit.endswith("ch") else "s"),
        "rows": _rows(cut_map["groups"]),
        "matrices": {
            "names": names,
            "rows": [
                {"name": row["name"], "shares": [_share(row["matrices"].get(n)) for n in names]}
                for row in cut_map["matrices"]
            ],
        },
        "feedback": _feedback(record),
        "agency": [
            {
                "name": f"layer {layer['layer']}",
                "of": heads[layer["layer"]],
                "heads": [_head(layer, i) for i in range(layer["heads"])],
            }
            for layer in (agency or {"layers": []})["layers"]
        ],
    }


def _head(layer: dict[str, Any], i: int) -> dict[str, Any]:
    rounded = {
        name: None if layer[of][i] is None else round(layer[of][i], 3)
        for name, of in (("gate", "gates"), ("utilisation",) * 2, ("alignment",) * 2)
    }
    return {"state": layer["states"][i], "violations": layer["violations"][i], **rounded}


def _feedback(record: Record) -> dict[str, Any]:
    """A BioGPT's pairs of layers, where the record says from what configuration it was grown."""
    subject = (record.get("identity") or {}).get("subject")
    config = subject.get("config") if isinstance(subject, dict) else None
    pairs = (config or {}).get("feedback_pairs") or []
    return {"pairs": pairs, "used": (config or {}).get("n_passes", 1) > 1}


def _rows(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Groups by layer: BioGPT's cells of one layer stand beside one another."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for group in groups:
        place = _PLACE.match(group["name"])
        row = f"layer {place[1]}" if place else group["name"]
        name = f"neuron {place[2]}" if place and place[2] else ""
        box = {"name": name, "units": group["units"], "cut": packed(group["cut"])}
        rows.setdefault(row, []).append(box)
    return [{"name": name, "boxes": boxes} for name, boxes in rows.items()]


def packed(shares: Sequence[float]) -> str:
    """Shares as the page's data hold them: thousandths, two digits each to the base of 36."""
    return "".join(
        _DIGITS[thousandths // 36] + _DIGITS[thousandths % 36]
        for thousandths in (round(1000 * share) for share in shares)
    )


def _share(counts: list[int] | None) -> float | None:
    return None if not counts or not counts[1] else round(counts[0] / counts[1], 3)
