"""BioGPT against the published program's formulation, in one run.

    python benchmarks/biogpt.py [--size biogpt-294m] [--parts train generate flat] [--device cpu]

`train`     a training step (forward, loss, backward, clipping, AdamW) of 2 x 512 tokens: the plain
            version in fp32, ours in fp32, ours under bf16 autocast.
`generate`  greedy, batch 1: the plain version without a cache, ours with one, in fp32 and in bf16.
`flat`      time per token at contexts of 100 to 900 tokens, with the cache.

`--kinds` chooses others: `plain`, `ours` or `control` (the GPT-NeoX of as many parameters, as
transformers has it), then `fp32` or `bf16`, then `compiled` (training, by torch.compile) or
`static` (generation, compiled with a static cache, on a GPU).

Each kind runs in a process of its own, one after the other, in as many rounds as asked for: so its
peak memory is its own, and so is how it asks the system for memory. Medians over all rounds.

The plain version (`reference_biogpt.py`) computes module by module what the publication says and
keeps no cache; it takes torch's default AdamW as published, ours the fused one that our trainer
uses. MFU counts three forward passes' operations per training token (`resprout describe`) against
--peak-tflops; bandwidth counts every weight that decoding reads, once per token, against
--peak-gbytes.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

import arguments
from reference_biogpt import plain_copy
from resprout.models.cost import count_cost
from resprout.models.cross_entropy import linear_cross_entropy
from resprout.models.description import parameter_total, skeleton
from resprout.models.loss import fused_loss
from resprout.models.sizes import build, configuration, control_of
from resprout.train.memory import keep_freed_memory

Program = Callable[[], object]


def synchronised(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


def size_of(options: argparse.Namespace, kind: str) -> str:
    """Which model a kind runs."""
    return control_of(options.size) if kind.startswith("control") else options.size


def training_program(options: argparse.Namespace, kind: str) -> Program:
    """One training step."""
    device, ours = options.device, not kind.startswith("plain")
    config = configuration(size_of(options, kind))
    generator = torch.Generator().manual_seed(0)
    shape = (options.batch, options.tokens + 1)
    ids = torch.randint(config.vocab_size, shape, generator=generator).to(device)
    inputs, targets = ids[:, :-1], ids[:, 1:]
    model = build(config, seed=0).train()
    network: nn.Module = (model if ours else plain_copy(model)).to(device)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=1e-5, betas=(0.9, 0.95), weight_decay=0.1,
        fused=True if ours else None,
    )  # fmt: skip
    forward = network
    if "compiled" in kind:
        forward = torch.compile(model.base_model if ours else network, fullgraph=True)

    def loss_of() -> torch.Tensor:
        if ours and forward is network:
            return fused_loss(model, inputs, targets)
        if ours:
            hidden = forward(input_ids=inputs, use_cache=False).last_hidden_state
            head = model.get_output_embeddings().weight
            return linear_cross_entropy(hidden.flatten(0, 1), head, targets.flatten())
        return F.cross_entropy(forward(inputs).float().flatten(0, 1), targets.flatten())

    def step() -> float:
        with torch.autocast(device.split(":")[0], torch.bfloat16, enabled="fp32" not in kind):
            loss = loss_of()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        return loss.item()

    return step


def plain_generate(plain: nn.Module, ids: torch.Tensor, new_tokens: int) -> torch.Tensor:
    with torch.inference_mode():
        for _ in range(new_tokens):
            following = plain(ids)[:, -1:].argmax(-1)
            ids = torch.cat([ids, following], dim=1)
    return ids


def generation_program(options: argparse.Namespace, kind: str) -> Callable[[int], object]:
    """Greedy generation, batch 1, of as many tokens as asked for."""
    config = configuration(size_of(options, kind), eos_token_id=None)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(config.vocab_size, (1, options.prompt), generator=generator)
    ids = ids.to(options.device)
    dtype = torch.bfloat16 if "bf16" in kind else torch.float32
    model = build(config, seed=0).to(dtype).eval()
    if kind.startswith("plain"):
        plain = plain_copy(model).to(options.device)
        return lambda new_tokens: plain_generate(plain, ids, new_tokens)
    model = model.to(options.device)
    settings = {"do_sample": False, "pad_token_id": 0}
    if "static" in kind:  # compiled by `generate` itself, on a GPU
        settings["cache_implementation"] = "static"
    mask = torch.ones_like(ids)
    return lambda new_tokens: model.generate(
        ids, attention_mask=mask, max_new_tokens=new_tokens, **settings
    )


def seconds_of(program: Program, repeats: int, warm_ups: int, device: str) -> list[float]:
    """Seconds of each run after the first ones."""
    seconds = []
    for _ in range(warm_ups + repeats):
        started = synchronised(device)
        program()
        seconds.append(synchronised(device) - started)
    return seconds[warm_ups:]


def peak_bytes(device: str) -> int:
    """Of this process, on the GPU where it works on one."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def work(options: argparse.Namespace) -> None:
    """In a process of its own: run one kind of one part, and print seconds and peak memory."""
    (kind,) = options.kinds
    device, repeats = options.device, options.repeats
    if options.work == "train":
        if device == "cpu" and not kind.startswith("plain"):
            keep_freed_memory()  # as our trainer does
        seconds = seconds_of(training_program(options, kind), repeats, 2, device)
    else:
        produce = generation_program(options, kind)
        if device == "cpu":  # no kernel to compile: a few tokens warm it up, once is enough
            produce(8)
            repeats = 1 if kind.startswith("plain") else repeats
        warm_ups = 0 if device == "cpu" else 2
        seconds = seconds_of(lambda: produce(options.new_tokens), repeats, warm_ups, device)
    print(json.dumps({"seconds": seconds, "peak": peak_bytes(device)}))


def by_kind(options: argparse.Namespace, part: str) -> dict[str, tuple[float, float]]:
    """Median seconds and peak bytes of each kind."""
    kinds = options.kinds or ["plain fp32", "ours fp32", "ours bf16"]
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    peaks = dict.fromkeys(kinds, 0.0)
    for number in range(options.rounds):
        for kind in kinds:
            command = [sys.executable, __file__, "--work", part, "--kinds", kind]
            for name in ("size", "device", "batch", "tokens", "prompt", "new_tokens", "repeats"):
                command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            seconds[kind] += found["seconds"]
            peaks[kind] = max(peaks[kind], found["peak"])
            value = statistics.median(found["seconds"])
            print(f"  ({part}, round {number + 1}, {kind}: {value:.4g} s)", flush=True)
    return {kind: (statistics.median(seconds[kind]), peaks[kind]) for kind in kinds}


def train(options: argparse.Namespace) -> None:
    found = by_kind(options, "train")
    tokens = options.batch * options.tokens
    first = next(iter(found.values()))[0]
    print(f"training step of {options.size}, {options.batch} x {options.tokens} tokens")
    for kind, (value, peak) in found.items():
        line = f"  {kind:>18}: {value:7.3f} s, {tokens / value:9,.1f} tokens/s, "
        line += f"{first / value:5.2f} x, peak memory {peak / 1e9:5.2f} GB"
        if options.peak_tflops:
            shapes = skeleton(configuration(size_of(options, kind)))
            per_token = 3 * count_cost(shapes).flops_per_token
            line += f", MFU {per_token * tokens / value / options.peak_tflops / 1e12:.1%}"
        print(line, flush=True)


def read_of(size: str) -> int:
    """Weights that decoding one token reads: all but embeddings and what one pass does not use."""
    model = skeleton(configuration(size))
    unread = model.get_input_embeddings().weight.numel()
    unread += parameter_total(getattr(model.base_model, "feedback_connections", nn.Module()))
    return parameter_total(model) - unread


def generate(options: argparse.Namespace) -> None:
    new = options.new_tokens
    found = by_kind(options, "generate")
    first = next(iter(found.values()))[0]
    print(f"greedy generation of {new} tokens after {options.prompt}, {options.size}, batch 1")
    for kind, (value, peak) in found.items():
        line = f"  {kind:>18}: {new / value:7.2f} tokens/s, {first / value:6.2f} x, "
        line += f"peak memory {peak / 1e9:5.2f} GB"
        if options.peak_gbytes and not kind.startswith("plain"):
            share = (
                read_of(size_of(options, kind))
                * (2 if "bf16" in kind else 4)
                * new
                / value
                / options.peak_gbytes
                / 1e9
            )
            line += f", {share:.0%} of the bandwidth"
        print(line, flush=True)


def flat(options: argparse.Namespace) -> None:
    config = configuration(options.size, eos_token_id=None)
    model = build(config, seed=0).to(options.device).eval()
    print(f"time per token of {options.size} with the cache, fp32, batch 1")
    times = {}
    for context in (100, 300, 500, 700, 900):
        ids = torch.randint(config.vocab_size, (1, context), device=options.device)
        with torch.inference_mode():
            past = model(input_ids=ids, logits_to_keep=1).past_key_values
            seconds = []
            for _ in range(22):
                started = synchronised(options.device)
                token = torch.zeros(1, 1, dtype=torch.long, device=options.device)
                past = model(input_ids=token, past_key_values=past).past_key_values
                seconds.append(synchronised(options.device) - started)
        times[context] = statistics.median(seconds[2:])
        print(f"  {context:>4} tokens of context: {1e3 * times[context]:7.2f} ms", flush=True)
    ratio, peak = times[900] / times[100], peak_bytes(options.device)
    print(f"  900 against 100: {ratio:.2f} x, peak memory {peak / 1e9:5.2f} GB")


PARTS = {"train": train, "generate": generate, "flat": flat}
# `control`: the size's matched GPT-NeoX. `compiled` is for training, `static` (cache) for decoding.
KINDS = [
    f"{whose} {how}"
    for whose in ("plain", "ours", "control")
    for how in ("fp32", "bf16", "compiled fp32", "compiled bf16", "static fp32", "static bf16")
]


def main() -> None:
    parser = arguments.Parser(__doc__)
    parser.add_argument("--size", type=arguments.size, default="biogpt-294m")
    parser.add_argument("--parts", nargs="+", type=arguments.one_of(PARTS), default=list(PARTS))
    parser.add_argument(
        "--kinds", nargs="+", type=arguments.one_of(KINDS), help=f"of {', '.join(map(repr, KINDS))}"
    )
    parser.add_argument("--device", type=arguments.device, default="cpu")
    parser.add_argument("--batch", type=arguments.whole(), default=2)
    parser.add_argument("--tokens", type=arguments.whole(), default=512)
    parser.add_argument("--prompt", type=arguments.whole(), default=16)
    parser.add_argument("--new-tokens", type=arguments.whole(), default=128)
    parser.add_argument(
        "--repeats", type=arguments.whole(), default=3, help="of each kind in each round"
    )
    parser.add_argument("--rounds", type=arguments.whole(), default=2)
    parser.add_argument(
        "--peak-tflops", type=arguments.number(), help="of the device, in the kind's type"
    )
    parser.add_argument(
        "--peak-gbytes", type=arguments.number(), help="memory bandwidth of the device, per s"
    )
    parser.add_argument("--work", choices=["train", "generate"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options)
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.device}")
    for part in options.parts:
        PARTS[part](options)


if __name__ == "__main__":
    main()
