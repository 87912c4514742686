"""What `resprout prune` shows at its end: figures before and after, facts, a bar per layer."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from resprout.pruning.amounts import plural

_BAR = 30


def console(columns: int = 80) -> Console:
    """Standard output, for text that is meant as it stands.

    Args:
        columns: of a file or a pipe, which has no width to keep to.
    """
    made = Console(markup=False, highlight=False)
    return made if made.is_terminal else Console(markup=False, highlight=False, width=columns)


def show(figures: dict[str, Any], out: Path, to: Console) -> None:
    """Print all of it.

    Args:
        figures: as in `prune.json`.
        out: the folder that was made.
        to: see `console`.
    """
    to.print(f"{figures['model']} -> {out}", soft_wrap=True)
    to.print()
    to.print(_before_and_after(figures))
    to.print()
    to.print(_facts(figures))
    to.print()
    to.print(_picture(figures, _blocks(to)))


def _before_and_after(figures: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("", no_wrap=True)
    for heading in ("before", "after", "change"):
        table.add_column(heading, justify="right", no_wrap=True)

    def row(label: str, before: float, after: float, text: Any) -> None:
        change = f"{after / before - 1:+.1%}" if before and after != before else "none"
        table.add_row(label, text(before), text(after), change)

    count, size = "{:,}".format, _bytes
    of = figures["parameters"]
    held_before, held = of["held_at_zero_before"], of["held_at_zero"]
    row("parameters", of["before"], of["after"], count)
    row("  non-embedding", of["non_embedding_before"], of["non_embedding_after"], count)
    if held or held_before:
        table.add_row("  held at zero", count(held_before), count(held), "")
        row("  surviving", of["before"] - held_before, of["after"] - held, count)
    stored = figures["bytes"]
    counted = " (counted)" if stored["weights_before_counted"] else ""
    row(f"weights on disk{counted}", stored["weights_before"], stored["weights_after"], size)
    if "not_counted" not in (work := figures["operations"]):
        label = f"FLOPs per token, T = {work['context_tokens']:,}"
        row(label, work["flops_per_token_before"], work["flops_per_token_after"], _flops)
    return table


def _units(figures: dict[str, Any]) -> str:
    """What was counted; heads that share keys and values are counted one way or the other."""
    of_heads = {"group": "key-value groups", "query": "query heads"}
    return of_heads.get(figures.get("head_unit") or "") or plural(figures["unit"])


def _facts(figures: dict[str, Any]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    table.add_column("", overflow="fold")
    for label, text in facts(figures):
        table.add_row(label, text)
    return table


def facts(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """What is not a figure before and after, as label and sentence."""
    units, of_units = _units(figures), figures["units"]
    gone = of_units["prunable"] - of_units["kept"]
    asked = f"{figures['requested']:.4g} of the {units}"
    if figures["expansion_rate"] is not None:
        asked = f"an expansion rate of {figures['expansion_rate']:g} %, {asked}"
    found = f"{figures['achieved']:.4g}: {gone:,} of {of_units['prunable']:,} {units}"
    if figures["unit"] != "weight":
        found += f", with {figures['prunable_parameters_cut']:.1%} of their parameters"
    how = f"{figures['method']}, {figures['scope'].replace('_', ' ')}"
    lines = [
        ("method", f"{how}, {_way(figures)}"),
        ("requested", asked),
        ("achieved", found),
    ]
    if dead := figures["dead_units"]:
        named = ", ".join(dead[:3]) + (", ..." if len(dead) > 3 else "")
        lines.append(("dead units", f"{len(dead):,} gone whole: {named}"))
    if earlier := figures["earlier_cuts"]:
        lines.append(("cut before", f"{earlier} time{'s'[: earlier > 1]}; see cut.json"))
    lines += _work(figures)
    stored = figures["bytes"]
    masks = f", {_bytes(stored['masks'])} of them masks" if stored["masks"] else ""
    lines.append(("folder", f"{_bytes(stored['folder'])} in all{masks}, {figures['dtype']}"))
    lines.append(("loads with", figures["loads_with"]))
    return lines


def _way(figures: dict[str, Any]) -> str:
    if figures["cut"] == "remove":
        return "removed: the tensors are smaller"
    return "masked: held at zero, computed as before"


def _work(figures: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [
        ("time", ", ".join(f"{name.replace('_', ' ')} {stage['seconds']:,.1f} s"
                           for name, stage in figures["stages"].items())),
    ]  # fmt: skip
    if (extra := figures["extra_peak_bytes"]) is not None:
        first = next(iter(figures["stages"])).replace("_", " ")
        lines.append(("memory", f"{_bytes(extra)} above the model at the peak of the {first}"))
    if "not_counted" in figures["operations"]:
        lines.append(("operations", f"not counted: {figures['operations']['not_counted']}"))
    if (work := figures["recovery"]) is not None:
        how = f"{work['schedule']}" + (f", {work['cycles']} cycles" if work["cycles"] > 1 else "")
        loss = ""
        if work["first_loss"] is not None:
            what = "loss and divergence" if work["distilled"] else "loss"
            loss = (
                f"; training {what} {work['first_loss']:.3f} -> {work['last_loss']:.3f} "
                "nats per token"
            )
        lines.append(("recovery", f"{work['steps']:,} steps, {how}{loss}"))
    return lines


def _picture(figures: dict[str, Any], blocks: tuple[str, str]) -> Table:
    """One line per layer (or cell): what stays of it."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("kept", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column(_units(figures), justify="right", no_wrap=True)
    full, empty = blocks
    for layer in figures["layers"]:
        kept, of = layer["kept"], layer["of"]
        share = kept / of if of else 0.0
        # A bar is full or empty only where all or nothing stays.
        length = min(max(round(share * _BAR), kept > 0), _BAR - (kept < of))
        bar = full * length + empty * (_BAR - length)
        table.add_row(layer["name"], bar, f"{share:.1%}", f"{kept:,} / {of:,}")
    return table


def _blocks(to: Console) -> tuple[str, str]:
    return ("█", "░") if to.encoding.lower().startswith("utf") else ("#", ".")


def _bytes(count: float) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:,.2f} {name}"
    return f"{count:.0f} B"


def _flops(count: float) -> str:
    return f"{count / 1e9:,.3f} G" if count >= 1e9 else f"{count / 1e6:,.3f} M"
