"""BioGPT against the published program's formulation, in one run.

    python benchmarks/biogpt.py [--size biogpt-294m] [--parts train generate flat] [--device cpu]

`train`     a training step (forward, loss, backward, clipping, AdamW) of 2 x 512 tokens: the plain
            version in fp32, ours in fp32, ours under bf16 autocast; median of the steps, run in
            turn.
`generate`  greedy, batch 1: the plain version without a cache, ours with one, in fp32 and in bf16.
`flat`      time per token at contexts of 100 and of 900 tokens, with the cache.
`memory`    peak memory of each of the above, each in a process of its own.

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

from reference_biogpt import plain_copy
from resprout.models.cost import count_cost
from resprout.models.description import parameter_total, skeleton
from resprout.models.loss import fused_loss
from resprout.models.sizes import build, configuration

Program = Callable[[], object]


def synchronised(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


def training_programs(options: argparse.Namespace) -> dict[str, Program]:
    """One training step of each kind."""
    device = options.device
    B, T = options.batch, options.tokens
    config = configuration(options.size)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(config.vocab_size, (B, T + 1), generator=generator).to(device)
    inputs, targets = ids[:, :-1], ids[:, 1:]
    model = build(config, seed=0).to(device).train()
    kinds = options.kinds or ["plain fp32", "ours fp32", "ours bf16"]
    plain = plain_copy(model).to(device) if any("plain" in kind for kind in kinds) else None
    compiled = torch.compile(model.base_model, fullgraph=True) if "ours compiled" in kinds else None

    def stepper(kind: str) -> Program:
        network = plain if kind.startswith("plain") else model
        assert network is not None
        ours = network is model
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=1e-5, betas=(0.9, 0.95), weight_decay=0.1,
            fused=True if ours else None,
        )  # fmt: skip

        def step() -> float:
            with torch.autocast(device.split(":")[0], torch.bfloat16, enabled="fp32" not in kind):
                if kind == "ours compiled":
                    assert compiled is not None
                    hidden = compiled(input_ids=inputs, use_cache=False).last_hidden_state
                    logits = model.lm_head(hidden)
                    loss = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
                elif ours:
                    loss = fused_loss(model, inputs, targets)
                else:
                    logits = network(inputs)
                    loss = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
            return loss.item()

        return step

    return {kind: stepper(kind) for kind in kinds}


def plain_generate(plain: nn.Module, ids: torch.Tensor, new_tokens: int) -> torch.Tensor:
    with torch.inference_mode():
        for _ in range(new_tokens):
            following = plain(ids)[:, -1:].argmax(-1)
            ids = torch.cat([ids, following], dim=1)
    return ids


def generation_programs(options: argparse.Namespace, new_tokens: int) -> dict[str, Program]:
    """Greedy generation of each kind, batch 1."""
    config = configuration(options.size, eos_token_id=None)
    kinds = options.kinds or ["plain fp32", "ours fp32", "ours bf16"]
    ids = torch.randint(config.vocab_size, (1, options.prompt)).to(options.device)
    model = build(config, seed=0).to(options.device).eval()
    programs: dict[str, Program] = {}
    for kind in kinds:
        if kind.startswith("plain"):
            plain = plain_copy(model).to(options.device)
            programs[kind] = lambda p=plain: plain_generate(p, ids, new_tokens)
            continue
        network = model
        if "bf16" in kind:
            network = build(config, seed=0).to(options.device, torch.bfloat16).eval()
        static = {"cache_implementation": "static"} if "static" in kind else {}
        programs[kind] = lambda m=network, s=static: m.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens,
            do_sample=False, pad_token_id=0, **s,
        )  # fmt: skip
    return programs


def in_turn(programs: dict[str, Program], repeats: int, device: str) -> dict[str, float]:
    """Median seconds of each, after one run to warm up."""
    seconds: dict[str, list[float]] = {kind: [] for kind in programs}
    for repeat in range(repeats + 1):
        for kind, program in programs.items():
            started = synchronised(device)
            program()
            if repeat:
                seconds[kind].append(synchronised(device) - started)
    return {kind: statistics.median(values) for kind, values in seconds.items()}


def train(options: argparse.Namespace) -> None:
    seconds = in_turn(training_programs(options), options.repeats, options.device)
    tokens = options.batch * options.tokens
    first = next(iter(seconds.values()))
    per_token = 3 * count_cost(skeleton(configuration(options.size))).flops_per_token
    print(f"training step of {options.size}, {options.batch} x {options.tokens} tokens")
    for kind, value in seconds.items():
        line = f"  {kind:>14}: {value:7.3f} s, {tokens / value:9,.1f} tokens/s, "
        line += f"{first / value:5.2f} x"
        if options.peak_tflops:
            line += f", MFU {per_token * tokens / value / options.peak_tflops / 1e12:.1%}"
        print(line, flush=True)


def generate(options: argparse.Namespace) -> None:
    new = options.new_tokens
    seconds = in_turn(generation_programs(options, new), max(1, options.repeats // 2),
                      options.device)  # fmt: skip
    first = next(iter(seconds.values()))
    print(f"greedy generation of {new} tokens after {options.prompt}, {options.size}, batch 1")
    model = skeleton(configuration(options.size)).model
    unread = model.token_emb.weight.numel() + parameter_total(model.feedback_connections)
    read = parameter_total(skeleton(configuration(options.size))) - unread
    for kind, value in seconds.items():
        line = f"  {kind:>14}: {new / value:7.2f} tokens/s, {first / value:6.2f} x"
        if options.peak_gbytes and not kind.startswith("plain"):
            share = read * (2 if "bf16" in kind else 4) * new / value / options.peak_gbytes / 1e9
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
            for _ in range(12):
                started = synchronised(options.device)
                token = torch.zeros(1, 1, dtype=torch.long, device=options.device)
                past = model(input_ids=token, past_key_values=past).past_key_values
                seconds.append(synchronised(options.device) - started)
        times[context] = statistics.median(seconds[2:])
        print(f"  {context:>4} tokens of context: {1e3 * times[context]:7.2f} ms", flush=True)
    print(f"  900 against 100: {times[900] / times[100]:.2f} x")


def memory(options: argparse.Namespace) -> None:
    print("peak memory, each in a process of its own (the process's, weights included)")
    for part, kinds in (
        ("train", ["plain fp32", "ours fp32", "ours bf16"]),
        ("generate", ["plain fp32", "ours fp32", "ours bf16"]),
    ):
        for kind in options.kinds or kinds:
            arguments = [sys.executable, __file__, "--one", part, "--kinds", kind]
            for name in ("size", "device", "batch", "tokens", "prompt", "new_tokens"):
                arguments += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
            done = subprocess.run(arguments, capture_output=True, text=True, check=True)
            peak = json.loads(done.stdout.splitlines()[-1])
            print(f"  {part:>8}, {kind:>12}: {peak / 1e9:6.2f} GB", flush=True)


def one(options: argparse.Namespace) -> None:
    """Run one program twice and print the peak memory in bytes."""
    if options.one == "train":
        programs = training_programs(options)
    else:
        programs = generation_programs(options, min(options.new_tokens, 32))
    for program in programs.values():
        program()
        program()
    if options.device.startswith("cuda"):
        print(torch.cuda.max_memory_allocated())
    else:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", default="biogpt-294m")
    parser.add_argument("--parts", nargs="+", default=["train", "generate", "flat", "memory"])
    parser.add_argument("--kinds", nargs="+", help="e.g. 'plain bf16' 'ours bf16' 'ours compiled'")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--prompt", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peak-tflops", type=float, help="of the device, in the kind's type")
    parser.add_argument("--peak-gbytes", type=float, help="memory bandwidth of the device, per s")
    parser.add_argument("--one", choices=["train", "generate"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options)
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.device}")
    for part in options.parts:
        {"train": train, "generate": generate, "flat": flat, "memory": memory}[part](options)


if __name__ == "__main__":
    main()
