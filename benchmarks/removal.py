"""Is a model with units taken out as much faster as it has fewer operations?

    python benchmarks/removal.py [--cases llama-glu llama-heads biogpt-branches biogpt-neurons]
        [--tokens 256] [--repeats 7] [--decode 16] [--compile] [--device cpu] [--dtype bfloat16]

A Llama of 1.24 B parameters (the shape of Llama-3.2-1B) and BioGPT 294M, random weights, with half
of a kind of unit taken out by `resprout.prune(..., cut="remove")`. The whole and the smaller model
stand in one process and run in turn (A B A B ...):

prefill  one sequence of --tokens through the model, logits of the last position; the time ratio
         beside the ratio of operations (counted on shapes by torch's counter, in this very pass).
decode   greedy, batch 1, --decode tokens after a prompt of 32, with a cache: eager, and with
         --compile by torch.compile and a static cache. Decoding is bound by reading weights, so the
         ratio of weight bytes stands beside it.

Medians of repeats, and the range of the ratio of neighbouring runs.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

import arguments
import resprout
from prune import llama_1b
from resprout.models.description import skeleton
from resprout.models.sizes import build, configuration
from resprout.pruning.amounts import plural


def biogpt() -> PreTrainedModel:
    """The published size, random, bf16."""
    return build(configuration("biogpt-294m"), seed=0).eval()


CASES: dict[str, tuple[Callable[[], PreTrainedModel], str, dict[str, str]]] = {
    "llama-glu": (llama_1b, "glu-random", {}),
    "llama-heads": (llama_1b, "heads-random", {"scope": "per_layer"}),
    "biogpt-branches": (biogpt, "branches-random", {"scope": "per_layer"}),
    "biogpt-neurons": (biogpt, "neurons-random", {"scope": "global"}),
}


def operations(model: PreTrainedModel, tokens: int) -> int:
    """Of one prefill, counted on shapes."""
    shapes = skeleton(model.config).to(torch.bfloat16).eval()
    ids = torch.zeros(1, tokens, dtype=torch.long, device="meta")
    mask = torch.ones(1, 1, tokens, tokens, dtype=torch.bool, device="meta")
    positions = torch.zeros(1, tokens, dtype=torch.long, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shapes(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False,
            logits_to_keep=1,
        )  # fmt: skip
    return counter.get_total_flops()


def seconds(device: str, work: Callable[[], object]) -> float:
    """Wall time of one call."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - started


def in_turn(
    device: str, whole: Callable[[], object], smaller: Callable[[], object], repeats: int
) -> tuple[float, float, list[float]]:
    """Medians of both, and the ratios of neighbours; two runs of each warm up."""
    for _ in range(2):
        whole(), smaller()
    pairs = [(seconds(device, whole), seconds(device, smaller)) for _ in range(repeats)]
    first, second = (statistics.median(times) for times in zip(*pairs, strict=True))
    return first, second, [b / a for a, b in pairs]


def line(what: str, first: float, second: float, ratios: list[float], beside: str) -> None:
    """One result."""
    print(
        f"  {what:<18} {first * 1e3:9.1f} ms -> {second * 1e3:9.1f} ms, ratio {second / first:.3f} "
        f"[{min(ratios):.3f}, {max(ratios):.3f}], {beside}",
        flush=True,
    )


@torch.no_grad()  # not inference mode: bf16 weights made in it are multiplied three times as slowly
def case(name: str, options: argparse.Namespace) -> None:
    """One model and one kind of unit."""
    make, method, more = CASES[name]
    dtype = getattr(torch, options.dtype)
    whole = make().to(dtype).to(options.device)
    smaller = copy.deepcopy(whole)
    cut = resprout.prune(smaller, method, 0.5, cut="remove", **more)
    models = (whole, smaller)
    operation_counts = [operations(model, options.tokens) for model in models]
    weights = [sum(p.numel() for p in model.parameters()) for model in models]
    expected = operation_counts[1] / operation_counts[0]
    print(
        f"{name}: {cut.achieved:.1%} of {cut.prunable:,} {plural(cut.unit)} gone, "
        f"{weights[0] / 1e6:.0f} -> {weights[1] / 1e6:.0f} M parameters, {options.dtype}"
    )
    ids = torch.randint(0, 1000, (1, options.tokens), device=options.device)

    def prefill(model: PreTrainedModel) -> Callable[[], object]:
        return lambda: model(input_ids=ids, use_cache=False, logits_to_keep=1)

    found = in_turn(options.device, prefill(whole), prefill(smaller), options.repeats)
    off = found[1] / found[0] / expected - 1
    line(f"prefill {options.tokens}", *found, f"operations {expected:.3f} ({off:+.0%})")
    if options.decode:
        prompt = ids[:, :32]
        ways: list[dict[str, object]] = [{}]
        if options.compile:
            ways.append({"cache_implementation": "static"})
        for way in ways:

            def decode(
                model: PreTrainedModel, new: int, way: dict[str, object] = way
            ) -> Callable[[], object]:
                return lambda: model.generate(
                    prompt, max_new_tokens=new, min_new_tokens=new, do_sample=False,
                    pad_token_id=0, **way,
                )  # fmt: skip

            if way:
                for model in models:
                    model.forward = torch.compile(model.forward)
            n = options.decode
            repeats = max(3, options.repeats // 2)
            whole_run, smaller_run = decode(whole, n), decode(smaller, n)
            found = in_turn(options.device, whole_run, smaller_run, repeats)
            label = f"decode {n}" + (", compiled" if way else "")
            line(label, *found, f"weights {weights[1] / weights[0]:.3f}")


def main() -> None:
    parser = arguments.Parser(__doc__)
    parser.add_argument("--cases", nargs="+", type=arguments.one_of(CASES), default=list(CASES))
    parser.add_argument("--tokens", type=arguments.whole(), default=256)
    parser.add_argument("--repeats", type=arguments.whole(), default=7)
    parser.add_argument(
        "--decode", type=arguments.whole(0), default=16, help="new tokens; 0 = not measured"
    )
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", type=arguments.device, default="cpu")
    parser.add_argument("--dtype", type=arguments.dtype, default="bfloat16")
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {options.device}")
    for name in options.cases:
        case(name, options)


if __name__ == "__main__":
    main()
