"""What does scoring cost beside the forward passes, and are all tasks done in time?

    python benchmarks/eval.py [--models gpt-neox-nano biogpt-nano pythia biogpt-294m]
        [--windows 16] [--repeats 7] [--device cpu] [--threads N] [--clock cpu]
        [--tasks TASK_DATA --model FOLDER --limit 20]

loss   the same windows twice in turn, A B A B: the bare forward pass (logits made and dropped), and
       the measure's own `window_nats`, which takes the cross-entropy of every token besides. The
       overhead is the ratio of medians less one. --clock cpu takes this process's processor time
       instead of the wall's, for a machine on which other programs run.
tasks  with --tasks: the thirteen of glu13 on local rows, `resprout eval` as a user runs it.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedModel

import arguments
from resprout.measure.scoring import batch_size, window_nats
from resprout.measure.statistics import ratio_of_medians_interval
from resprout.models.sizes import build, configuration


def pythia() -> PreTrainedModel:
    """The shape of Pythia-160M, random weights."""
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=50304, hidden_size=768, num_hidden_layers=12, num_attention_heads=12,
            intermediate_size=3072, max_position_embeddings=2048,
        )
    )  # fmt: skip


def make(name: str) -> tuple[PreTrainedModel, int]:
    """A model and the length of its windows."""
    if name == "pythia":
        return pythia().eval(), 512
    model = build(configuration(name), seed=0).eval()
    return model, min(512, model.config.max_position_embeddings)


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def seconds(options: argparse.Namespace, work: Callable[[], object]) -> float:
    """Time of one call by the clock that was asked for."""
    clock = CLOCKS[options.clock]
    started = clock()
    work()
    if options.device.startswith("cuda"):
        torch.cuda.synchronize()
    return clock() - started


@torch.no_grad()
def overhead(name: str, options: argparse.Namespace) -> None:
    """Scoring against the bare forward passes of one model."""
    model, T = make(name)
    model.to(options.device)
    V = model.config.vocab_size
    tokens = np.random.default_rng(0).integers(0, V, options.windows * T + 1)
    windows = [(start, T, T) for start in range(0, options.windows * T, T)]
    B = batch_size(V, T, 16)

    def bare() -> None:
        for start in range(0, len(windows), B):
            rows = [tokens[s : s + T] for s, _, _ in windows[start : start + B]]
            model(input_ids=torch.from_numpy(np.stack(rows)).to(options.device), use_cache=False)

    def scored() -> None:
        window_nats(model, tokens, windows, 16)

    for _ in range(2):
        bare(), scored()
    pairs = [(seconds(options, bare), seconds(options, scored)) for _ in range(options.repeats)]
    plain, with_scores = ([pair[i] for pair in pairs] for i in (0, 1))
    low, high = ratio_of_medians_interval(with_scores, plain)
    ratio = statistics.median(with_scores) / statistics.median(plain)
    print(
        f"{name}: {options.windows} windows of {T}, {B} at once, vocabulary {V:,}: bare forward "
        f"{statistics.median(plain):.3f} s, scored {statistics.median(with_scores):.3f} s, "
        f"overhead {ratio - 1:+.1%} (95 % interval {low - 1:+.1%} to {high - 1:+.1%}, "
        f"{options.repeats} repeats in turn)",
        flush=True,
    )


def tasks(options: argparse.Namespace) -> None:
    """All thirteen, from the command line to the tables."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "resprout", "eval", options.model, "--tasks", "glu13",
            "--task-data", options.tasks, "--limit", str(options.limit), "-o", f"{folder}/out",
            "--device", options.device,
        ]  # fmt: skip
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(
            f"glu13, limit {options.limit}, {options.model}: "
            f"{time.perf_counter() - started:.0f} s from command to tables"
        )


def main() -> None:
    parser = arguments.Parser(__doc__)
    parser.add_argument(
        "--models", nargs="*", default=["gpt-neox-nano", "biogpt-nano", "pythia", "biogpt-294m"]
    )
    parser.add_argument("--windows", type=arguments.whole(), default=16)
    parser.add_argument("--repeats", type=arguments.whole(), default=7)
    parser.add_argument("--device", type=arguments.device, default="cpu")
    parser.add_argument("--threads", type=arguments.whole(), default=torch.get_num_threads())
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--tasks")
    parser.add_argument("--model")
    parser.add_argument("--limit", type=arguments.whole(), default=20)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    name = torch.cuda.get_device_name() if options.device.startswith("cuda") else "CPU"
    print(f"torch {torch.__version__}, {name}, {options.threads} threads, {options.clock} time")
    for model in options.models:
        overhead(model, options)
    if options.tasks:
        tasks(options)


if __name__ == "__main__":
    main()
