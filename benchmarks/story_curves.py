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

import argparse
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
from resprout.pruning.adapters import HEAD_UNITS, adapter_for
from resprout.pruning.amounts import check_amount
from resprout.pruning.api import prune
from resprout.pruning.methods import METHODS, Method
from resprout.report.charts import COLOURS, MARKERS, STYLE, save

AMOUNTS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
PATTERNS = ("2:4", "4:8")
FEW = (0.1, 0.2, 0.3, 0.5)  # for second ways, which differ little from the first
SEEDS = 5
MANY = ("weight", "glu_neuron", "mlp_neuron", "neuron")  # so many that chance has no scope


@dataclass(frozen=True)
class Curve:
    """A method in one of its ways; `amount` None: all amounts, `seed` None: all seeds."""

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
        parts = [self.method, self.scope.replace(":", "of"), self.head_unit]
        parts += ["in_order" if self.in_order else None]
        parts += [None if self.amount is None else f"{self.amount:g}"]
        parts += [None if self.seed is None else f"seed{self.seed}"]
        return ",".join(part for part in parts if part is not None)

    @property
    def random(self) -> bool:
        return METHODS[self.method].score == "random"


UNCUT = Curve("none", "magnitude", "global", amount=0.0)


def curves_of(model: PreTrainedModel) -> list[Curve]:
    """Every way of every method that the model has the units (and gates) for."""
    adapter = adapter_for(model)

    def ways(method: Method) -> list[Curve]:
        scopes = [s for s in method.scopes if s != "N:M"]
        scopes += PATTERNS if "N:M" in method.scopes else ()
        if method.score == "random" and method.unit in MANY:
            scopes = [s for s in scopes if s == method.scopes[0] or ":" in s]
        if method.unit == "head":
            groups = {u: adapter.groups("head", u) for u in HEAD_UNITS}
            if method.score == "gate" and adapter.gates(groups["group"][0]) is None:
                return []
            grouped = any(g.strata > 1 for g in groups["query"])
            return [
                Curve(method.unit, method.name, scope, unit)
                for unit in HEAD_UNITS
                for scope in scopes
                if unit == "group" or (grouped and scope == "per_layer")
            ]
        found = [Curve(method.unit, method.name, scope) for scope in scopes]
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
        groups = adapter_for(model).groups(curve.unit, curve.head_unit or "group")
        compete = [g.count // g.strata for g in groups]
        units = sum(compete) if curve.scope == "global" else min(compete)
        first = {int(a * units): a for a in sorted(amounts, reverse=True)}
        amounts = sorted(a for count, a in first.items() if count)
    seeds = range(SEEDS) if curve.random else [None]
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
    drawn, curves = {}, []
    for curve, records in together.items():
        totals = np.array([record["window_nats"] for record in records])
        drawn[curve] = weighted_mean(totals, sizes, weights[len(records)])
        losses = [record["nats_per_token"] for record in records]
        curves.append(
            asdict(curve)
            | {
                "name": curve.name,
                "achieved": float(np.mean([record["achieved"] for record in records])),
                "parameters_gone": float(np.mean([r["parameters_gone"] for r in records])),
                "nats_per_token": float(np.mean(losses)),
                "ci95": percentile_interval(drawn[curve]),
                "range": [min(losses), max(losses)],
            }
        )
    means = {curve: record["nats_per_token"] for curve, record in zip(drawn, curves, strict=True)}
    differences = [
        {
            "unit": one.unit,
            "amount": one.amount,
            "first": one.name,
            "second": other.name,
            "first_minus_second": means[one] - means[other],
            "ci95": percentile_interval(drawn[one] - drawn[other]),
        }
        for one, other in combinations(drawn, 2)
        if (one.unit, one.amount) == (other.unit, other.amount)
    ]
    points = [{k: v for k, v in r.items() if k != "window_nats"} for _, r in found]
    return about | {"points": points, "curves": curves, "differences": differences}


TITLES = {"weight": "Single weights", "glu_neuron": "GLU neurons", "mlp_neuron": "MLP neurons",
          "head": "Attention heads", "branch": "Branches", "neuron": "Dendritic neurons",
          "layer": "Layers"}  # fmt: skip
WORDS = {"per_layer": "per layer", "per_row": "per row", "2:4": "2 : 4", "4:8": "4 : 8",
         "group": "key-value groups", "query": "query heads"}  # fmt: skip
LINES = {"global": "-", "per_layer": "--", "per_row": ":"}
HALF = ("global", "per_layer", "per_row", "4:8", "2:4")
LOSS = "held-out loss (nats per token)"


def chart(found: dict[str, Any]) -> Figure:
    """Single weights above, a panel per kind of larger unit below; grey = chance."""
    curves = found["curves"]
    uncut = next(curve["nats_per_token"] for curve in curves if curve["unit"] == "none")
    of = {u: [c for c in curves if c["unit"] == u and not c["in_order"]] for u in TITLES}
    larger = [unit for unit, own in of.items() if own and unit != "weight"]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12, 9 if larger else 4.5), layout="constrained")
        rows = figure.subfigures(2 if larger else 1, 1, squeeze=False)[:, 0]
        lines, half = rows[0].subplots(1, 2, width_ratios=(2, 1))
        draw_curves(lines, of["weight"], uncut)
        draw_half(half, of["weight"], uncut)
        if larger:
            panels = rows[1].subplots(1, len(larger), squeeze=False)[0]
            for axes, unit in zip(panels, larger, strict=True):
                draw_curves(axes, of[unit], uncut)
    return figure


def draw_curves(axes: Axes, curves: list[dict[str, Any]], uncut: float) -> None:
    """Colour = method; a method's further ways have other lines, or hollow marks for units."""
    unit = curves[0]["unit"]
    colours = dict.fromkeys(c["method"] for c in curves if not chance(c))
    colours = {method: i for i, method in enumerate(colours)}
    ways: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for curve in curves:
        if ":" not in curve["scope"]:
            ways.setdefault((curve["method"], curve["scope"], curve["head_unit"]), []).append(curve)
    hollow = {}
    for (method, scope, head_unit), own in ways.items():
        x = [0.0] + [100 * c["achieved"] for c in own]
        y = [uncut] + [c["nats_per_token"] for c in own]
        first = scope == METHODS[method].scopes[0] and head_unit != "query"
        if chance(own[0]) and first:
            low, high = ([uncut] + [c["range"][end] for c in own] for end in (0, 1))
            axes.fill_between(x, low, high, color="0.5", alpha=0.25, linewidth=0)
            axes.plot(x, y, "--", color="0.4", label=f"random, mean and range of {SEEDS}")
        elif not chance(own[0]) and (first or unit == "weight"):
            i, label = colours[method], method
            label += f", {WORDS.get(scope, scope)}" if unit == "weight" else ""
            axes.plot(x, y, LINES[scope] if unit == "weight" else "-", color=COLOURS[i],
                      marker=MARKERS[i], markersize=5, linewidth=1.4, label=label)  # fmt: skip
        elif not chance(own[0]):
            mark = "*" if head_unit == "query" else MARKERS[colours[method]]
            axes.plot(x[1:], y[1:], mark, color=COLOURS[colours[method]], mfc="none",
                      markersize=10 if mark == "*" else 7)  # fmt: skip
            name = WORDS.get(head_unit if mark == "*" else scope, scope)
            hollow["*" if mark == "*" else "o"] = f"hollow: {name}"
    for mark, name in hollow.items():
        axes.plot([], [], mark, color="black", mfc="none", label=name)
    axes.axhline(uncut, color="black", linewidth=0.8, label="uncut")
    axes.set_title(TITLES[unit])
    axes.set_xlabel("amount cut (% of these units, achieved)")
    axes.set_ylabel(LOSS)
    axes.legend(fontsize=8.5, loc="upper left")


def draw_half(axes: Axes, curves: list[dict[str, Any]], uncut: float) -> None:
    """The scopes side by side at 50 %."""
    methods = list(dict.fromkeys(c["method"] for c in curves if not chance(c)))
    for curve in (c for c in curves if c["amount"] == 0.5):
        x, y = HALF.index(curve["scope"]), curve["nats_per_token"]
        if chance(curve):
            axes.plot([x], [y], "_", color="0.4", markersize=18, markeredgewidth=2)
        else:
            i = methods.index(curve["method"])
            axes.plot([x], [y], MARKERS[i], color=COLOURS[i], markersize=7)
    for i, method in enumerate(methods):
        axes.plot([], [], MARKERS[i], color=COLOURS[i], label=method)
    axes.plot([], [], "_", color="0.4", markersize=12, markeredgewidth=2, label="random")
    axes.axhline(uncut, color="black", linewidth=0.8, label="uncut")
    axes.set_xticks(range(len(HALF)), [WORDS.get(scope, scope) for scope in HALF])
    axes.set_xlim(-0.5, len(HALF) - 0.5)
    axes.set_title("Single weights at 50 %, by scope")
    axes.set_ylabel(LOSS)
    axes.legend(fontsize=8.5)


def chance(curve: dict[str, Any]) -> bool:
    return METHODS[curve["method"]].score == "random"


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
    save(chart(found), out / "story_curves")
    print(f"{len(points)} points: {out / 'results.json'}, {out / 'story_curves.png'}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a model folder")
    parser.add_argument("stories", type=Path, help="a folder of benchmarks/stories.py")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--amounts", type=float, nargs="+", default=AMOUNTS)
    parser.add_argument("--part", default="1/1", help="I/N: only every N-th point, from the I-th")
    options = parser.parse_args()
    try:
        run(options.model, options.stories, options.out, list(options.amounts), options.part)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
