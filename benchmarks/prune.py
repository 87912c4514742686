"""Cutting side by side with the peers: global magnitude, and GLU neurons.

    python benchmarks/prune.py [--parts magnitude maw] [--repeats 5] [--size biogpt-294m]

`magnitude`  45 % of the published prunable set of BioGPT 294M (254.8 M fp32 weights), in place, by
             `resprout.prune` and in the published program's way: all magnitudes joined, `kthvalue`,
             a mask per matrix.
`maw`        40 % of the GLU neurons of a Llama of 1.24 B parameters (the shape of Llama-3.2-1B) in
             bf16, taken out, by `resprout.prune` and by OptiPFair.

Both of a pair run in one process, in turn (A B A B ...), on the same weights, which are put back
in between (not timed). Prints medians with their range, the ratio of medians, and whether the
outcomes are the same. The memory that each takes above what the process held before is measured in
a process of its own, where nothing that was freed before can hide it.
"""

import argparse
import copy
import ctypes
import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

import arguments
import resprout
from resprout.measure.stage import stage
from resprout.models.device import synchronise
from resprout.models.sizes import build, configuration
from resprout.pruning.adapters import adapter_for
from resprout.pruning.protocols import PROTOCOLS
from resprout.pruning.scores import maw as maw_score

LLAMA_1B = {
    "vocab_size": 128_256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": 1,
}


def llama_1b() -> LlamaForCausalLM:
    """1.24 B parameters in bf16, random."""
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**LLAMA_1B))
    rotary = LlamaForCausalLM(
        LlamaConfig(**(LLAMA_1B | {"num_hidden_layers": 1, "vocab_size": 8, "hidden_size": 64,
                                   "num_attention_heads": 2, "num_key_value_heads": 2}))
    ).model.rotary_emb  # fmt: skip
    model = model.to(torch.bfloat16).to_empty(device="cpu")
    model.tie_weights()
    model.model.rotary_emb = rotary
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.02, generator=generator)
            else:
                parameter.fill_(1)
    return model.eval()


def joined(weights: list[Tensor], amount: float) -> list[Tensor]:
    """The published program's way: all magnitudes in one tensor, its k-th value as threshold."""
    magnitudes = torch.cat([weight.abs().flatten() for weight in weights])
    threshold = magnitudes.kthvalue(int(amount * magnitudes.numel())).values
    masks = []
    for weight in weights:
        mask = (weight.abs() > threshold).float()
        weight.mul_(mask)
        masks.append(mask)
    return masks


class Comparison:
    """Two ways of doing the same, in turn."""

    def __init__(self, part: str, ways: dict[str, Callable[[], object]], options: Any):
        self.part, self.ways, self.options = part, ways, options
        self.seconds: dict[str, list[float]] = {name: [] for name in ways}

    def run(self, restore: Callable[[], None], look: Callable[[str, object], None]) -> None:
        """One repeat to warm up, the others are counted; or one way once, for its memory."""
        if self.options.memory_of is not None:
            self._memory(list(self.ways)[self.options.memory_of])
        for repeat in range(self.options.repeats + 1):
            for name, way in self.ways.items():
                restore()
                synchronise(self.options.device)
                started = time.perf_counter()
                outcome = way()
                synchronise(self.options.device)
                seconds = time.perf_counter() - started
                if repeat:
                    self.seconds[name].append(seconds)
                look(name, outcome)
                del outcome

    def _memory(self, name: str) -> None:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        stages: dict[str, dict[str, int]] = {}
        on_gpu = self.options.device.type == "cuda"
        held = torch.cuda.memory_allocated() if on_gpu else psutil.Process().memory_info().rss
        with stage(stages, name, self.options.device):
            self.ways[name]()
        print(f"extra {stages[name]['peak_bytes'] - held}")
        raise SystemExit

    def report(self) -> None:
        """Medians, ratio, memory."""
        for number, (name, values) in enumerate(self.seconds.items()):
            command = [sys.executable, __file__, "--parts", self.part, "--size", self.options.size]
            command += ["--device", str(self.options.device)]
            done = subprocess.run(
                [*command, "--memory-of", str(number)], capture_output=True, text=True, check=True
            )
            extra = int(done.stdout.split("extra ")[1])
            print(
                f"{name:>20}: {statistics.median(values):7.2f} s [{min(values):.2f}, "
                f"{max(values):.2f}], {extra / 1e9:5.2f} GB more than before"
            )
        ours, theirs = (statistics.median(values) for values in self.seconds.values())
        print(f"ratio {theirs / ours:.1f}x", flush=True)


def magnitude(options: argparse.Namespace) -> None:
    """Global magnitude over the published prunable set."""
    model = build(configuration(options.size), seed=0).to(options.device)
    prunable = adapter_for(model).prunable(PROTOCOLS["paper"])
    weights = [parameter.detach() for parameter in prunable.values()]
    saved = [weight.clone() for weight in weights]
    total = sum(weight.numel() for weight in weights)

    def restore() -> None:
        for weight, before in zip(weights, saved, strict=True):
            weight.copy_(before)

    zeros = {}

    def look(name: str, outcome: object) -> None:
        zeros[name] = [weight == 0 for weight in weights]

    comparison = Comparison(
        "magnitude",
        {
            "resprout": lambda: resprout.prune(model, "magnitude", 0.45, protocol="paper"),
            "joined, kthvalue": lambda: joined(weights, 0.45),
        },
        options,
    )
    comparison.run(restore, look)
    print(f"\nglobal magnitude, {total / 1e6:.1f} M fp32 weights of {options.size}, 45 %")
    comparison.report()
    differ = sum(int((a ^ b).sum()) for a, b in zip(*zeros.values(), strict=True))
    print(f"the zeros differ in {differ} weights (kthvalue cuts all that tie at the threshold)")


def maw(options: argparse.Namespace) -> None:
    """MAW at 40 %, taken out."""
    import optipfair

    model = llama_1b().to(options.device)
    mlps = [copy.deepcopy(layer.mlp) for layer in model.model.layers]

    def restore() -> None:
        model.config.intermediate_size = LLAMA_1B["intermediate_size"]
        for layer, mlp in zip(model.model.layers, mlps, strict=True):
            layer.mlp = None  # lets the last one's memory go first
            layer.mlp = copy.deepcopy(mlp)

    first: dict[str, Tensor] = {}

    def look(name: str, outcome: object) -> None:
        if name not in first:
            mlp = model.model.layers[3].mlp
            first[name] = maw_score(mlp.gate_proj.weight, mlp.up_proj.weight).sort().values

    def peer() -> PreTrainedModel:
        return optipfair.prune_model(
            model, neuron_selection_method="MAW", pruning_percentage=40, show_progress=False
        )

    comparison = Comparison(
        "maw",
        {
            "resprout": lambda: resprout.prune(model, "glu-maw", 0.4, cut="remove"),
            f"optipfair {optipfair.__version__}": peer,
        },
        options,
    )
    comparison.run(restore, look)
    count = sum(p.numel() for p in model.parameters())
    print(f"\nMAW at 40 %, Llama of 1.24 B parameters in bf16 ({count / 1e9:.2f} B left)")
    comparison.report()
    same = torch.equal(*first.values())
    print(f"both leave neurons of the same scores (layer 3; in bf16 many tie): {same}")


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {"magnitude": magnitude, "maw": maw}


def main() -> None:
    parser = arguments.Parser(__doc__)
    parser.add_argument("--parts", nargs="+", type=arguments.one_of(PARTS), default=list(PARTS))
    parser.add_argument("--repeats", type=arguments.whole(), default=5)
    parser.add_argument("--size", type=arguments.size, default="biogpt-294m", help="of `magnitude`")
    parser.add_argument("--device", type=arguments.device, default="cpu")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.device = torch.device(options.device)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for part in options.parts:
        PARTS[part](options)


if __name__ == "__main__":
    main()
