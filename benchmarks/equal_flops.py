"""Which units are best to cut at equal FLOPs: the methods of a run, at the same shares of FLOPs.

    resprout run experiments/nano/units.yaml --workers 2
    python benchmarks/equal_flops.py runs/nano-units [--shares 0.9 0.8 0.7] [--against METHOD]

Reads the records of a run. Each row is a method of a subject and protocol: its loss where so large
a share of the uncut model's FLOPs per token is left, less that of --against (default: the random
control of the most units), in nats per token, with the 95 % interval over training seeds and
held-out documents, in pairs. Below zero is better than the control. FLOPs are those of the smaller
model, products with weights at zero left out; between the levels that were measured the loss is
read off a monotone curve. A share that a method does not reach is left out, and said so.
"""

import sys
from collections.abc import Callable

import numpy as np

import arguments
from resprout.measure.interpolation import ascending, interpolate
from resprout.measure.statistics import Floats, estimate
from resprout.report.curves import Curve, curves
from resprout.report.records import read_run

Loss = Callable[[Floats], Floats]  # resampling weights (R, S, W) -> nats per token (R,)
AGAINST = "branches-random"


def at_share(curve: Curve, share: float) -> Loss | None:
    """The loss at a share of the uncut FLOPs; None where the curve does not reach it."""
    flops = curve.flops
    if flops is None or curve.amounts[0] != 0:
        raise ValueError(f"{curve.method}: its records lack FLOPs, or the uncut model")
    wanted = share * flops[0]
    if not flops.min() <= wanted <= flops.max():
        return None

    def loss(weights: Floats) -> Floats:
        x, y = ascending(flops, curve.losses(weights))
        return interpolate([wanted], x, y)[:, 0]

    return loss


def row(curve: Curve, control: Curve, shares: list[float], weights: Floats) -> str:
    """A method's line of the table."""
    cells = [curve.method, f"{100 * float(min(curve.flops / curve.flops[0])):.0f} %"]
    for share in shares:
        own, other = at_share(curve, share), at_share(control, share)
        if own is None:
            cells.append("not reached")
            continue
        value = float(own(np.ones((1, *weights.shape[1:])))[0])
        if curve is control or other is None:
            cells.append(f"{value:.3f}")
            continue

        def difference(w: Floats, own: Loss = own, other: Loss = other) -> Floats:
            return own(w) - other(w)

        found = estimate(difference, weights)
        cells.append(f"{value:.3f} ({found.value:+.3f}, {found.low:+.3f} to {found.high:+.3f})")
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Print a table for each subject and protocol."""
    parser = arguments.Parser(__doc__)
    parser.add_argument("run", type=arguments.there)
    parser.add_argument(
        "--shares", type=arguments.number(0, 1), nargs="+", default=[0.95, 0.9, 0.85, 0.8]
    )
    parser.add_argument("--against", default=AGAINST)
    given = parser.parse_args()
    try:
        found = curves(read_run(given.run).records)
        for key in dict.fromkeys((curve.subject, curve.protocol) for curve in found):
            own = [curve for curve in found if (curve.subject, curve.protocol) == key]
            control = next((c for c in own if c.method == given.against), None)
            if control is None:
                methods = ", ".join(curve.method for curve in own)
                raise ValueError(f"against: got {given.against!r}, allowed are {methods}")
            for curve in own:
                if curve.seeds != control.seeds or curve.windows != control.windows:
                    raise ValueError(
                        f"run: {curve.method} has {curve.seeds} seeds or other windows, allowed "
                        f"are those of {control.method}, {control.seeds} seeds; finish the run"
                    )
            weights = control.weights()
            print(f"{key[0]}, {key[1]}, {control.seeds} seeds, against {given.against}\n")
            heads = [f"{100 * share:g} % of the FLOPs" for share in given.shares]
            print(f"| method | fewest FLOPs | {' | '.join(heads)} |")
            print(f"| --- | --: |{' --: |' * len(heads)}")
            for curve in own:
                print(row(curve, control, given.shares, weights))
            print()
    except ValueError as error:
        print(f"equal_flops: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
