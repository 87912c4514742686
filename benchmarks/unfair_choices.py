"""BioGPT's published advantage, one unfair choice taken away after another.

    resprout run experiments/nano/unfair.yaml
    resprout run experiments/nano/unfair_warming_up.yaml
    python benchmarks/unfair_choices.py runs/nano-unfair runs/nano-unfair-warming-up

Reads the records of both runs. Each row is the control's loss less BioGPT's, in nats per token
(above zero: BioGPT is lower), with its 95 % interval over training seeds and held-out documents,
in pairs; and each seed by itself.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

import arguments
from resprout.measure.interpolation import ascending, interpolate
from resprout.measure.statistics import Floats, estimate
from resprout.report.curves import Curve, curves
from resprout.report.records import read_run

BIOGPT, SMALL, SAME = "biogpt-nano", "gpt-neox-small", "gpt-neox-nano"
PUBLISHED_AMOUNT = 0.45
Loss = Callable[[Floats], Floats]  # resampling weights (R, S, W) -> nats per token (R,)


def level(curve: Curve, amount: float) -> Loss:
    """The loss at one amount, (R, S, W) -> (R,)."""
    [at] = np.flatnonzero(curve.amounts == amount)
    return lambda weights: curve.losses(weights)[:, at]


def at_size(curve: Curve, surviving: float) -> Loss:
    """The loss where so many parameters survive, read between the levels."""

    def loss(weights: Floats) -> Floats:
        x, y = ascending(curve.surviving, curve.losses(weights))
        return interpolate([surviving], x, y)[:, 0]

    return loss


def surviving(curve: Curve, amount: float) -> float:
    """Parameters at an amount."""
    return float(curve.surviving[curve.amounts == amount][0])


def rows(alike: dict[tuple[str, str], Curve], warming: dict[tuple[str, str], Curve]) -> list:
    """(what was taken away, the control's loss, BioGPT's loss), each on top of those before it."""
    bio = {protocol: alike[BIOGPT, protocol] for protocol in ("paper", "fair")}
    late = {protocol: warming[SMALL, protocol] for protocol in ("paper", "fair")}
    small, same = alike[SMALL, "fair"], alike[SAME, "fair"]
    size, own = surviving(small, 0), surviving(bio["fair"], PUBLISHED_AMOUNT)
    published, fair = (level(bio[name], PUBLISHED_AMOUNT) for name in ("paper", "fair"))
    smaller = at_size(bio["fair"], size)
    return [
        ("as published: cut by 45 % and recovered, against the control uncut",
         level(late["paper"], 0), published),
        ("+ the uncut control gets the same recovery", level(late["fair"], 0), published),
        ("+ BioGPT cut in the same kinds of weights (no head, no unused feedback)",
         level(late["fair"], 0), fair),
        ("+ the control trained by the same schedule, to its end", level(small, 0), fair),
        (f"+ BioGPT cut down to the control's size ({size / 1e6:.2f} M)", level(small, 0), smaller),
        (f"instead: a control of BioGPT's own size, both cut to {own / 1e6:.2f} M",
         at_size(same, own), fair),
        ("and both uncut, both recovered", level(same, 0), level(bio["fair"], 0)),
    ]  # fmt: skip


def named(folder: Path) -> dict[tuple[str, str], Curve]:
    """A run's curves by subject and protocol."""
    return {(c.subject, c.protocol): c for c in curves(read_run(folder).records)}


def main() -> int:
    """Print the table."""
    parser = arguments.Parser(__doc__)
    parser.add_argument("alike", type=arguments.there, help="the run of unfair.yaml")
    parser.add_argument(
        "warming_up", type=arguments.there, help="the run of unfair_warming_up.yaml"
    )
    given = parser.parse_args()
    try:
        alike, warming = named(given.alike), named(given.warming_up)
        if len({curve.seeds for curve in (*alike.values(), *warming.values())}) > 1:
            raise ValueError("runs: their subjects have not the same seeds; allowed are whole runs")
        table = rows(alike, warming)
    except (ValueError, KeyError) as error:
        print(f"unfair_choices: error: {error}", file=sys.stderr)
        return 2
    curve = alike[BIOGPT, "fair"]
    seeds, windows = curve.seeds, len(curve.sizes)
    weights = curve.weights()
    print("| choice taken away | control | BioGPT | advantage | 95 % interval | each seed |")
    print("| --- | --: | --: | --: | --: | --: |")
    for told, control, bio in table:

        def difference(w: Floats, control: Loss = control, bio: Loss = bio) -> Floats:
            return control(w) - bio(w)

        plain = np.ones((1, seeds, windows))
        found = estimate(difference, weights)
        alone = np.eye(seeds)[:, :, None] * np.ones(windows)  # one seed's windows in each row
        own = ", ".join(f"{value:+.3f}" for value in difference(alone))
        print(
            f"| {told} | {control(plain)[0]:.3f} | {bio(plain)[0]:.3f} | {found.value:+.3f} | "
            f"{found.low:+.3f} to {found.high:+.3f} | {own} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
