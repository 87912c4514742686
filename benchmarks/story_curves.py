"""Loss against amount for every method that a model's family has, without recovery.

    python benchmarks/story_curves.py MODEL STORIES -o OUT [--amounts 0.05 0.1 ...] [--part 1/2]

STORIES is a folder of `benchmarks/stories.py`: methods that need text are given the first 128 of
its `calibration` windows, losses are over all of its `held_out` windows (the second to last token
of each). Every method of `resprout methods` is cut in every scope that it has: weights also 2:4
and 4:8, Wanda also on what the blocks already cut put out ("in order"), heads as whole key-value
groups and as single query heads. Random controls have five seeds. Amounts that cut as many units
as a smaller one are left out: a layer of four heads can lose 25, 50 or 75 %.

Each point cuts a copy of the model and is kept in OUT/points; points that are there are not done
again. Several processes may share the work (`--part 1/2` and `--part 2/2`, into one OUT).

When all points are there:
- OUT/results.json: model and texts, every point (requested, achieved, parameters gone, loss),
  every curve (random: mean and range over seeds), and every difference between two curves of one
  kind of unit at one amount asked for. Intervals are 95 %, by a bootstrap over the windows (and
  the seeds of random controls), the same resamples for all, so differences are paired.
- OUT/story_curves.png and .svg: a panel per kind of unit, and the scopes of weights at 50 %.
"""

import copy
import time
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

import arguments
from resprout.data.calibration import SAMPLES, as_windows
from resprout.data.tokens import Split
from resprout.files import file_sha256, read_json, write_json
from resprout.measure.loss import window_losses
from resprout.measure.statistics import (
    RESAMPLES,
    percentile_interval,
    resampling_weights,
    weighted_mean,
)
from resprout.models.quiet import quiet_transformers
from resprout.models.subject import load
from resprout.pruning.adapters import adapter_for
from resprout.pruning.amounts import check_amount
from resprout.pruning.api import prune
from resprout.pruning.methods import METHODS, Method
from resprout.pruning.request import read_request
from resprout.report.charts import COLOURS, MARKERS, STYLE, save

AMOUNTS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
PATTERNS = ("2:4", "4:8")
FEW = (0.1, 0.2, 0.3, 0.5)  # for second ways, which differ little from the first
SEEDS = 5
MANY = ("weight", "glu_neuron", "mlp_neuron", "neuron")  # so many that chance has no scope


@dataclass(frozen=True)
class Curve:
    """A method in one of its ways, at an amount where it is given; `seed` None: all seeds."""

    unit: str
    method: str
    scope: str
    head_unit: str | None = None
    in_order: bool = False
    amount: float | None = None
    seed: int | None = None

    @property
    def name(self) -> str:
        """What tells it from others, also as a file's name."""
        parts = [self.method, self.scope.replace(":", "of"), self.head_unit or ""]
        parts += ["in_order" if self.in_order else "", f"{self.amount:g}"]
        parts += ["" if self.seed is None else f"seed{self.seed}"]
        return ",".join(filter(None, parts))


UNCUT = Curve("none", "magnitude", "global", amount=0.0)


def curves_of(model: PreTrainedModel) -> list[Curve]:
    """Every way of every method that the model has the units (and gates) for."""
    adapter = adapter_for(model)

    def ways(method: Method) -> list[Curve]:
        scopes = [s for s in method.scopes if s != "N:M"]
        scopes += PATTERNS if "N:M" in method.scopes else ()
        if chance(method.name) and method.unit in MANY:
            scopes = [s for s in scopes if s == method.scopes[0] or ":" in s]
        if method.score == "gate" and adapter.gates(adapter.groups("head")[0]) is None:
            return []
        own = "group" if method.unit == "head" else None
        found = [Curve(method.unit, method.name, scope, own) for scope in scopes]
        if own and any(g.strata > 1 for g in adapter.groups("head", "query")):
            found.append(Curve(method.unit, method.name, "per_layer", "query"))
        if method.score == "wanda":
            found.append(Curve(method.unit, method.name, "per_row", in_order=True))
        return found

    known = [m for m in METHODS.values() if m.unit == "weight" or m.unit in adapter.kinds]
    return [curve for method in known for curve in ways(method)]


def points_of(model: PreTrainedModel, curve: Curve, amounts: list[float]) -> list[Curve]:
    """A curve's points: an amount, and a seed where it is random."""
    if curve.in_order or (curve.unit == "glu_neuron" and curve.scope == "global"):
        amounts = [amount for amount in amounts if amount in FEW]
    if ":" in curve.scope:
        kept, of = map(int, curve.scope.split(":"))
        amounts = [1 - kept / of]
    elif curve.unit != "weight":
        head_unit = curve.head_unit or "group"
        request = read_request(model, curve.method, 0.5, scope=curve.scope, head_unit=head_unit)
        groups = request.groups(adapter_for(model))
        compete = [group.count // group.strata for group in groups]
        units = sum(compete) if curve.scope == "global" else min(compete)
        first = {int(a * units): a for a in sorted(amounts, reverse=True)}
        amounts = sorted(a for count, a in first.items() if count)
    seeds = range(SEEDS) if chance(curve.method) else [None]
    return [replace(curve, amount=a, seed=seed) for a in amounts for seed in seeds]


def measure(
    model: PreTrainedModel, point: Curve, calibration: Tensor, held_out: Tensor
) -> dict[str, Any]:
    """Cut a copy and take the loss of every window."""
    started = time.perf_counter()
    subject = copy.deepcopy(model)
    cut = prune(
        subject,
        point.method,
        None if ":" in point.scope else point.amount,
        cut="mask" if METHODS[point.method].unit == "weight" else "remove",
        scope=point.scope,
        head_unit=point.head_unit or "group",
        sequential=point.in_order,
        seed=point.seed or 0,
        calibration=calibration if METHODS[point.method].calibrated else None,
    )
    N, T = held_out.shape
    # Bits per byte are not asked for, so how many bytes the text has does not matter.
    split = Split(held_out.flatten().numpy().view(np.uint32), text_bytes=1, documents=1)
    spans = [(T * window, T - 1) for window in range(N)]
    losses = window_losses(subject, split, T - 1, windows=spans)
    return asdict(point) | {
        "achieved": cut.achieved,
        "prunable_units": cut.prunable,
        "parameters_gone": cut.removed,
        "prunable_parameters": cut.prunable_parameters,
        "parameters": model.num_parameters(),
        "nats_per_token": float(losses.nats.sum() / losses.tokens.sum()),
        "seconds": round(time.perf_counter() - started, 2),
        "window_tokens": T - 1,
        "window_nats": [round(float(nats), 4) for nats in losses.nats],
    }


def results(about: dict[str, Any], found: list[tuple[Curve, dict[str, Any]]]) -> dict[str, Any]:
    """Points, curves and differences, with their intervals."""
    together: dict[Curve, list[dict[str, Any]]] = {}
    for point, record in found:
        together.setdefault(replace(point, seed=None), []).append(record)
    windows = len(found[0][1]["window_nats"])
    sizes = np.full(windows, found[0][1]["window_tokens"])
    weights = {s: resampling_weights(s, windows, RESAMPLES, seed=0) for s in (1, SEEDS)}
    drawn, curves, differences = {}, [], []
    for curve, records in together.items():
        totals = np.array([record["window_nats"] for record in records])
        drawn[curve] = weighted_mean(totals, sizes, weights[len(records)])
        losses = [record["nats_per_token"] for record in records]
        means = ("achieved", "parameters_gone", "nats_per_token")
        own: dict[str, Any] = {"name": curve.name}
        own |= {key: float(np.mean([record[key] for record in records])) for key in means}
        own |= {"ci95": percentile_interval(drawn[curve]), "range": [min(losses), max(losses)]}
        curves.append(asdict(curve) | own)
    for (one, first), (other, second) in combinations(zip(drawn, curves, strict=True), 2):
        if (one.unit, one.amount) == (other.unit, other.amount):
            pair: dict[str, Any] = {"unit": one.unit, "amount": one.amount}
            pair |= {"first": one.name, "second": other.name}
            pair["first_minus_second"] = first["nats_per_token"] - second["nats_per_token"]
            differences.append(pair | {"ci95": percentile_interval(drawn[one] - drawn[other])})
    points = [{k: v for k, v in r.items() if k != "window_nats"} for _, r in found]
    return about | {"points": points, "curves": curves, "differences": differences}


WORDS = {"glu_neuron": "GLU neurons", "mlp_neuron": "MLP neurons", "branch": "branches",
         "per_layer": "per layer", "per_row": "per row"}  # fmt: skip
LINES = {"global": "-", "per_layer": "--", "per_row": ":"}
AT_HALF = ("global", "per_layer", "per_row", "4:8", "2:4")


def chart(curves: list[dict[str, Any]]) -> Figure:
    """Single weights above, a panel per kind of larger unit below."""
    uncut = curves[0]["nats_per_token"]
    units: dict[str, list[dict[str, Any]]] = {}
    for curve in curves[1:]:
        if not curve["in_order"]:
            units.setdefault(curve["unit"], []).append(curve)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13, 9.5), layout="constrained")
        rows: Any = figure.subfigures(2, 1)
        panels = list(rows[0].subplots(1, 2, width_ratios=(2, 1)))
        panels += list(rows[1].subplots(1, max(1, len(units) - 1), squeeze=False)[0])
        draw_half(panels.pop(1), units["weight"], uncut)
        for axes, own in zip(panels, units.values(), strict=True):
            draw_curves(axes, own, uncut)
    return figure


def draw_curves(axes: Axes, curves: list[dict[str, Any]], uncut: float) -> None:
    """Colour = method; its scopes are lines for weights, hollow marks for larger units."""
    unit, looks, hollow = curves[0]["unit"], looks_of(curves), {}
    top = 1.06 * max(c["nats_per_token"] for c in curves if not chance(c["method"]))
    ways: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for curve in (c for c in curves if ":" not in c["scope"]):
        ways.setdefault((curve["method"], curve["scope"], curve["head_unit"]), []).append(curve)
    # Chance first: in a legend's top row its long name is out of the lines' way.
    for way, own in sorted(ways.items(), key=lambda item: not chance(item[0][0])):
        method, scope, head_unit = way
        x = [0.0, *(100 * c["achieved"] for c in own)]
        y = [uncut, *(c["nats_per_token"] for c in own)]
        first = scope == METHODS[method].scopes[0] and head_unit != "query"
        where = "single query heads" if head_unit == "query" else WORDS.get(scope, scope)
        if chance(method) and first:
            low, high = ([uncut, *(c["range"][end] for c in own)] for end in (0, 1))
            axes.fill_between(x, low, high, color="0.5", alpha=0.25, linewidth=0)
            beyond = f", to {y[-1]:.1f}" if y[-1] > top else ""
            words = f"random: mean, range of {SEEDS} seeds{beyond}"
            axes.plot(x, y, "--", color="0.4", label=words)
        elif not chance(method) and unit == "weight":
            axes.plot(x, y, LINES[scope], label=f"{method}, {where}", **looks[method])
        elif not chance(method) and first:
            axes.plot(x, y, label=method, **looks[method])
        elif not chance(method):
            mark = "*" if head_unit == "query" else looks[method]["marker"]
            axes.plot(x[1:], y[1:], mark, color=looks[method]["color"], mfc="none", markersize=8)
            hollow[where] = "*" if mark == "*" else "o"
    for where, mark in hollow.items():
        axes.plot([], [], mark, color="black", mfc="none", label=f"hollow: {where}")
    finish(axes, uncut, WORDS.get(unit, f"{unit}s"), loc="upper left")
    axes.set_ylim(top=top if unit == "weight" else 1.1 * max(top, axes.get_ylim()[1] / 1.05))
    axes.set_xlabel("amount cut (% of these units, achieved)")


def draw_half(axes: Axes, curves: list[dict[str, Any]], uncut: float) -> None:
    """Single weights at 50 % by scope."""
    for method, look in looks_of(curves).items():
        own = [c for c in curves if c["method"] == method and c["amount"] == 0.5]
        x, y = [AT_HALF.index(c["scope"]) for c in own], [c["nats_per_token"] for c in own]
        axes.plot(x, y, label=method, **look | {"linestyle": "", "markersize": 8})
    axes.set_xticks(range(len(AT_HALF)), [WORDS.get(scope, scope) for scope in AT_HALF])
    axes.set_xlim(-0.5, len(AT_HALF) - 0.5)
    finish(axes, uncut, "weights at 50 %, by scope", loc="center", bbox_to_anchor=(0.5, 0.7))


def looks_of(curves: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Colour and mark of each method; chance is grey."""
    looks, places = {}, zip(COLOURS, MARKERS, strict=True)
    for method in dict.fromkeys(curve["method"] for curve in curves):
        colour, mark = ("0.4", "_") if chance(method) else next(places)
        looks[method] = {"color": colour, "marker": mark, "markersize": 5}
    return looks


def finish(axes: Axes, uncut: float, title: str, **legend: Any) -> None:
    axes.axhline(uncut, color="black", linewidth=0.8, label="uncut")
    axes.set_title(title)
    axes.set_ylabel("held-out loss (nats per token)")
    axes.legend(fontsize=8.5, handlelength=3, **legend)


def chance(method: str) -> bool:
    return METHODS[method].score == "random"


def run(folder: Path, stories: Path, out: Path, amounts: list[float], part: str) -> None:
    for amount in amounts:
        check_amount(amount)
    share, _, of = part.partition("/")
    if not (share.isdecimal() and of.isdecimal() and 1 <= int(share) <= int(of)):
        raise ValueError(f"part: got {part!r}, allowed is I/N with I from 1 to N")
    text = stories / "stories.safetensors"
    if not text.is_file():
        raise ValueError(f"stories: {str(stories)!r} holds no stories.safetensors")
    texts = load_file(text)
    calibration, held_out = texts["calibration"][:SAMPLES], texts["held_out"]
    with quiet_transformers():
        model, _ = load(folder)
    about = {
        "model": {file.name: file_sha256(file) for file in sorted(folder.glob("*.safetensors"))},
        "calibration": {"windows": len(calibration), "digest": as_windows(calibration).digest},
        "held_out": {"windows": len(held_out), "digest": as_windows(held_out).digest},
    }
    kept = out / "points" / "about.json"
    if kept.is_file() and read_json(kept) != about:
        raise ValueError(f"out: {str(out)!r} holds points of another model or text")
    write_json(kept, about)
    points = [UNCUT]
    for curve in curves_of(model):
        points += points_of(model, curve, sorted(set(amounts) - {0.0}))
    points.sort(key=lambda point: point.seed is not None)  # chance last
    files = {point: out / "points" / f"{point.name}.json" for point in points}
    mine = points[int(share) - 1 :: int(of)]
    for done, point in enumerate(mine, start=1):
        if files[point].is_file():
            continue
        record = measure(model, point, calibration, held_out)
        write_json(files[point], record)
        print(f"{done}/{len(mine)} {point.name}: achieved {record['achieved']:.4f}, "
              f"{record['nats_per_token']:.4f} nats per token", flush=True)  # fmt: skip
    missing = sum(not file.is_file() for file in files.values())
    if missing:
        print(f"{missing} points are still missing; other parts, or a further run, make them")
        return
    found = results(about, [(point, read_json(file)) for point, file in files.items()])
    write_json(out / "results.json", found)
    save(chart(found["curves"]), out / "story_curves")
    print(f"{len(points)} points: {out / 'results.json'}, {out / 'story_curves.png'}")


def main() -> None:
    parser = arguments.Parser(__doc__)
    parser.add_argument("model", type=arguments.there, help="a model folder")
    parser.add_argument("stories", type=arguments.there, help="a folder of benchmarks/stories.py")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--amounts", type=arguments.amount, nargs="+", default=AMOUNTS)
    parser.add_argument("--part", default="1/1", help="I/N: only every N-th point, from the I-th")
    options = parser.parse_args()
    try:
        run(options.model, options.stories, options.out, list(options.amounts), options.part)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
