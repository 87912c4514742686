"""Global magnitude cut: Resprout's exact selection against joining all magnitudes and `kthvalue`.

    python benchmarks/prune.py [--millions 60] [--amount 0.45] [--repeats 3]

Both run in one process, in turn (A B A B ...). Prints medians, their ratio, the memory that each
took above what the process held before, and in how many weights the masks differ: `kthvalue` cuts
all weights that tie at the threshold, Resprout exactly the number asked for. The peer is the
published BioGPT program's way.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import psutil
import torch
from torch import Tensor

from resprout.measure.stage import stage
from resprout.pruning.amounts import count_to_cut
from resprout.pruning.scores import magnitude
from resprout.pruning.selection import keep_highest


def joined(weights: list[Tensor], cut: int) -> list[Tensor]:
    """The peer: all magnitudes in one tensor, its k-th value as the threshold."""
    threshold = torch.cat([weight.abs().flatten() for weight in weights]).kthvalue(cut).values
    return [weight.abs() > threshold for weight in weights]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--millions", type=int, default=60, help="weights in all (BioGPT: 255)")
    parser.add_argument("--amount", type=float, default=0.45)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    side = 1024
    count = max(1, options.millions * 1_000_000 // (side * side))
    weights = [torch.randn(side, side, generator=generator) for _ in range(count)]
    total = sum(weight.numel() for weight in weights)
    cut = count_to_cut(total, options.amount)
    ways: dict[str, Callable[[], list[Tensor]]] = {
        "resprout": lambda: keep_highest(weights, magnitude, cut),
        "joined, kthvalue": lambda: joined(weights, cut),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    peaks: dict[str, int] = {}
    masks = {}
    for _ in range(options.repeats):
        for name, way in ways.items():
            stages: dict[str, dict[str, int]] = {}
            masks.pop(name, None)
            held = psutil.Process().memory_info().rss
            started = time.perf_counter()
            with stage(stages, name, torch.device("cpu")):
                masks[name] = way()
            seconds[name].append(time.perf_counter() - started)
            extra = stages[name]["peak_bytes"] - held
            peaks[name] = max(extra, peaks.get(name, 0))
    pairs = zip(masks["resprout"], masks["joined, kthvalue"], strict=True)
    differ = sum(int((ours != theirs).count_nonzero()) for ours, theirs in pairs)
    print(
        f"{total / 1e6:.1f} M fp32 weights, {options.amount:.0%}, {torch.get_num_threads()} threads"
    )
    for name, values in seconds.items():
        median, extra = statistics.median(values), peaks[name] / 1e9
        print(f"{name:>18}: {median:7.2f} s, {extra:5.2f} GB more than before")
    medians = [statistics.median(values) for values in seconds.values()]
    print(f"ratio {medians[1] / medians[0]:.1f}x, masks differ in {differ} weights")


if __name__ == "__main__":
    main()
