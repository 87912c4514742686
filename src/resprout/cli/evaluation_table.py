"""What `resprout eval` shows at its end: each figure with its interval, and what was written."""

from typing import TYPE_CHECKING, Any

from rich.table import Table

from resprout.cli.prune_table import console

if TYPE_CHECKING:
    from resprout.study.evaluation_results import Results

_COLUMNS = 160
_WIDE = 120  # from here on a row holds all columns
_UNIT = 10  # wide enough for each word of a unit
_WHOLE, _WHOLE_NARROW = 1e9, 1e6  # numbers up to here are written out


def show(results: "Results") -> None:
    """Print the figures of all models, the comparisons, and the files."""
    to = console(columns=_COLUMNS)
    for model in results.models:
        cut = f", {model['percentage']:g} % by {model['method']}" if model["method"] else ""
        to.print(f"{model['name']} ({model['model']}{cut})", soft_wrap=True)
        to.print((_wide if to.width >= _WIDE else _narrow)(model["measures"]))
        for line in absent_lines(model["measures"]):
            to.print(line, soft_wrap=True)
        verdicts = model["measures"].get("text", {}).get("verdicts")
        if verdicts is not None:
            to.print(f"its texts: {verdict_words(verdicts)}", soft_wrap=True)
        to.print()
    for name, compared in results.comparisons.items():
        for line in compared_lines(name, compared):
            to.print(line, soft_wrap=True)
    if results.comparisons:
        to.print()
    for path in results.files:
        to.print(f"written: {path}", soft_wrap=True)


def _wide(measures: dict[str, Any]) -> Table:
    """A row per figure that is there, all that is known of it."""
    table = _empty("figure", "value", "95 % interval", "unit", "items")
    for measure, found in measures.items():
        for name, figure in _there(found).items():
            table.add_row(f"{measure}/{name}", *_cells(figure), f"{figure['items']:,}")
    return table


def _narrow(measures: dict[str, Any]) -> Table:
    """The same for a terminal of usual width: in groups, without items."""
    table = _empty("figure", "value", "95 % interval", "unit")
    table.columns[0].no_wrap, table.columns[0].overflow = False, "fold"
    table.columns[-1].min_width = _UNIT
    group = None
    for measure, found in measures.items():
        for name, figure in _there(found).items():
            *place, own = name.removesuffix("/ratio").split("/")
            own += "/ratio" if name.endswith("/ratio") else ""
            if len(place) < 2:  # a task and its metric stay together
                place, own = [], name
            if group != (group := [measure, *place]):
                table.add_row(f"{measure} {'/'.join(place)}")
            table.add_row(f"  {own}", *_cells(figure, _WHOLE_NARROW))
    return table


def _there(found: dict[str, Any]) -> dict[str, Any]:
    """The figures of a measure that have a value."""
    figures = found.get("figures", {})
    return {name: figure for name, figure in figures.items() if figure["value"] is not None}


def absent_lines(measures: dict[str, Any]) -> list[str]:
    """What has no value, a line per reason: `energy: none (REASON)`, or the figures by name."""
    lines = []
    for measure, found in measures.items():
        if "failed" in found:
            lines.append(f"{measure}: failed ({found['failed']})")
            continue
        reasons: dict[str, list[str]] = {}
        for name, figure in found["figures"].items():
            if figure["value"] is None:
                reasons.setdefault(figure["reason"], []).append(f"{measure}/{name}")
        for reason, names in reasons.items():
            all_of_it = len(names) == len(found["figures"])
            lines.append(f"{measure if all_of_it else ', '.join(names)}: none ({reason})")
    return lines


def _empty(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        right = heading in ("value", "items")
        table.add_column(heading, justify="right" if right else "left", no_wrap=heading != "unit")
    return table


def _cells(figure: dict[str, Any], whole: float = _WHOLE) -> tuple[str, str, str]:
    low_high = figure["ci95"]
    interval = "" if low_high is None else " to ".join(number(end, whole) for end in low_high)
    return number(figure["value"]), interval, figure["unit"]


def verdict_words(verdicts: dict[str, Any]) -> str:
    """The verdict on all texts, the categories that have another, and what it rests on."""
    others = [f"{name}: {own}" for name, own in verdicts["categories"].items()
              if own != verdicts["all"]]  # fmt: skip
    but = f" ({', '.join(others)})" if others else ""
    return f"{verdicts['all']}{but}; judged by {verdicts['basis']}"


def number(value: float, whole: float = _WHOLE) -> str:
    """Four digits that tell, without a power of ten where that can be read, below `whole`."""
    if value != 0 and not 1e-4 <= abs(value) < whole:
        return f"{value:.3e}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def compared_lines(name: str, compared: dict[str, Any]) -> list[str]:
    """A model against the baseline, in words."""
    base, lines = compared["baseline"], []
    loss = compared.get("loss")
    if loss is not None and "p" in loss:
        low, high = loss["ci95"]
        lines.append(
            f"{name} against {base}: loss {loss['difference']:+.4f} nats per token "
            f"({low:+.4f} to {high:+.4f}), sign-flip p = {loss['p']:.2g}"
        )
    elif loss is not None:
        lines.append(f"{name} against {base}: loss not compared, {loss['not_compared']}")
    for task, found in compared.get("tasks", {}).items():
        if "p" not in found:
            lines.append(f"{name} against {base}: {task} not compared, {found['not_compared']}")
            continue
        lines.append(
            f"{name} against {base}: {task} {found['difference']:+.4f} ({found['unit']}) over "
            f"{found['items']} items, p = {found['p']:.2g} "
            f"(Holm over the tasks: {found['p_holm']:.2g})"
        )
    return lines
