"""Inside the models: what was cut where, and the states of heads with agency, for the drawings."""

import re
from collections.abc import Sequence
from typing import Any

from resprout.report.curves import Curve, Record

_PLACE = re.compile(r"^layer (\d+)(?: neuron (\d+))?$")


def insides(found: Sequence[Curve]) -> list[dict[str, Any]]:
    """Each level of each curve as layers of units; of several seeds the first.

    Returns:
        Per level that has something to draw: `curve` and its `label`, `amount`, `achieved`, `unit`,
        its plural, `rows` (name, `boxes` of a name and the share cut of each unit), `matrices`
        (names, rows of shares), `agency` (rows of heads, each state, gate and utilisation), `dead`.
    """
    drawn = []
    for number, curve in enumerate(found):
        for records in curve.records:
            record = records[0]
            drawing = _drawing(record)
            if drawing is not None:
                about = {"curve": number, "label": curve.label, "amount": record["amount"]}
                drawn.append(
                    about
                    | {"achieved": record["achieved"], "seed": record["seed"]}
                    | {"dead": record["dead_units"]}
                    | drawing
                )
    return drawn


def _drawing(record: Record) -> dict[str, Any] | None:
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
        "agency": [
            {
                "name": f"layer {layer['layer']}",
                "heads": [
                    {"state": state, "gate": round(gate, 3)}
                    for state, gate in zip(layer["states"], layer["gates"], strict=True)
                ],
            }
            for layer in (agency or {"layers": []})["layers"]
        ],
    }


def _rows(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Groups by layer: BioGPT's cells of one layer stand beside one another."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for group in groups:
        place = _PLACE.match(group["name"])
        row = f"layer {place[1]}" if place else group["name"]
        name = f"neuron {place[2]}" if place and place[2] else ""
        box = {"name": name, "units": group["units"], "cut": group["cut"]}
        rows.setdefault(row, []).append(box)
    return [{"name": name, "boxes": boxes} for name, boxes in rows.items()]


def _share(counts: list[int] | None) -> float | None:
    return None if not counts or not counts[1] else round(counts[0] / counts[1], 3)
