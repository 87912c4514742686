"""Tables of the comparison: figures by level, improvements, what heads do, and the tidy CSV."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from resprout.report.agency.contrasts import Effect
from resprout.report.agency.effects import improvement, level_estimate
from resprout.report.agency.pairs import Comparison
from resprout.report.agency.readings import MEASURES, MODEL_BYTES, PERPLEXITY, Record
from resprout.report.agency.verdicts import percent, signed

STATES = ("active", "overloaded", "misaligned", "withdrawn")
CSV_COLUMNS = ("subject", "method", "level", "achieved", "seed", "measure", "value", "unit",
               "low95", "high95")  # fmt: skip


def figures_table(comparison: Comparison, workload: str | None) -> list[list[str]]:
    """Headings and a row per subject, method and level; means over seeds with intervals."""
    headings = ["subject", "method", "level", "achieved", "seeds"]
    headings += [f"{m.label}, {_unit(m.unit)}" if m.unit else m.label for m in MEASURES]
    rows = [headings]
    for own in comparison.series:
        for level in own.levels:
            records = own.records(level, own.seeds_at(level))
            achieved = sum(r["achieved"] for r in records) / len(records)
            cells = [own.subject, own.label, percent(level), f"{achieved:.1%}", str(len(records))]
            for measure in MEASURES:
                found = level_estimate(own, measure, level, workload)
                scale = 1e-6 if measure is MODEL_BYTES else 1.0
                cells.append("-" if isinstance(found, str) else _with_interval(found, scale))
            rows.append(cells)
    return rows


def improvements_table(comparison: Comparison, workload: str | None) -> list[list[str]]:
    """Headings and a row per pair and level: agency over baseline in per cent, up = better."""
    rows = [["compared", "level", "seeds", *(m.label for m in MEASURES)]]
    for pair in comparison.pairs:
        for level in pair.levels:
            cells = [pair.label, percent(level), str(len(pair.seeds))]
            for measure in MEASURES:
                found = improvement(pair, measure, level, workload)
                if isinstance(found, str):
                    cells.append("-")
                    continue
                text = f"{signed(found.percent, 1)} %"
                if found.low is not None and found.high is not None:
                    text += f" ({signed(found.low, 1)} to {signed(found.high, 1)})"
                cells.append(text)
            rows.append(cells)
    return rows


def heads_table(comparison: Comparison) -> list[list[str]]:
    """Headings and a row per subject with agency, method and level: the heads that are left.

    Means over the seeds whose records hold an agency report; no row where none does.
    """
    rows = [["subject", "method", "level", "heads", *STATES, "mean gate", "utilisation",
             "alignment", "violations"]]  # fmt: skip
    for own in comparison.series:
        for level in own.levels:
            records = own.records(level, own.seeds_at(level))
            reports = [r["agency"] for r in records if (r.get("agency") or {}).get("layers")]
            if not reports:
                continue
            layers = [report["layers"] for report in reports]
            heads = sum(layer["heads"] for found in layers for layer in found)
            cells = [own.subject, own.label, percent(level), f"{heads / len(reports):g}"]
            states = [s for found in layers for layer in found for s in layer["states"]]
            cells += [f"{states.count(state) / len(reports):.3g}" for state in STATES]
            for name in ("gates", "utilisation", "alignment"):
                cells.append(_mean(x for found in layers for layer in found for x in layer[name]))
            violations = sum(sum(layer["violations"]) for found in layers for layer in found)
            cells.append(f"{violations / len(reports):.3g}")
            rows.append(cells)
    return rows if len(rows) > 1 else []


def tidy_csv(records: Sequence[Record], subjects: Sequence[str]) -> str:
    """A row per subject, method, level, seed and measure, of all text and speed figures too."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for record in records:
        if record["subject"] not in subjects:
            continue
        base = [record[name] for name in ("subject", "method", "amount", "achieved", "seed")]
        for name, value, unit, interval in _measured(record):
            low, high = interval or (None, None)
            writer.writerow([*base, name, value, unit, low, high])
    return out.getvalue()


def _measured(record: Record) -> Iterable[tuple[str, float, str, Any]]:
    """Name, value, unit, interval of all that the comparison draws on."""
    measures = record["measures"]
    loss = measures["loss"]
    yield "nats_per_token", loss["nats_per_token"], "nats per token", loss["ci95"]
    if loss["perplexity"] is not None:
        yield PERPLEXITY.key, loss["perplexity"], "", loss.get("perplexity_ci95")
    yield "surviving_parameters", record["parameters"]["surviving"], "parameters", None
    text = measures.get("text") or {}
    main = text.get("temperature")
    parts = [("text", main, text)]
    parts += [("text", t, own) for t, own in (measures.get("text_at") or {}).items()]
    parts.append(("speed", None, measures.get("speed") or {}))
    for _, temperature, part in parts:
        at = "" if temperature is None else f" at temperature {float(temperature):g}"
        figures = part.get("figures", {})
        for name, figure in figures.items():
            if figure["value"] is not None:
                yield f"{name}{at}", figure["value"], figure["unit"], figure["ci95"]
        for name in ("distinct_2", "repetition_3"):
            if name not in figures and part.get(name) is not None:
                yield f"{name}{at}", part[name], "share", None


def _with_interval(found: Effect, scale: float) -> str:
    text = _number(found.value * scale)
    if found.low is None or found.high is None:
        return text
    return f"{text} ({_number(found.low * scale)} to {_number(found.high * scale)})"


def _number(value: float) -> str:
    """Three digits or more, no exponent below a million."""
    if abs(value) >= 1e6:
        return f"{value:.2g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _mean(values: Iterable[float | None]) -> str:
    found = [value for value in values if value is not None]
    return f"{sum(found) / len(found):.3f}" if found else "-"


def _unit(unit: str) -> str:
    return "MB" if unit == "bytes" else unit
