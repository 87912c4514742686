"""All figures that want a GPU, in one go: training, decoding, cutting, removal, 2:4, gates, eval.

    python benchmarks/gpu.py [--out results/gpu] [--parts train decode cut removal 2:4 eval agency]
        [--size biogpt-294m] [--device cuda] [--limit 540]

Each part is another benchmark of this folder, run as a process of its own with the options that a
GPU deserves; what it prints stands in OUT/PART.txt beside the command, and OUT/gpu.json says on
which device, with which versions, how each part ended and how long it took. A part that fails or
takes longer than --limit seconds loses nothing of the others; a part whose file says that it ended
well on the same device is not run again, so that one call can continue another.

train    tokens/s, MFU and memory of a step of 8 x 1024 tokens: the plain version, ours and the
         matched GPT-NeoX in bf16, each eager and compiled.
decode   greedy, batch 1, 256 tokens: the plain version without a cache, ours and the control with
         one, eager and with a static cache (compiled).
cut      45 % of the weights by magnitude against the published program's way, MAW against
         OptiPFair where it is installed.
removal  half of the GLU neurons, heads, branches, neurons: prefill and decoding, compiled too.
2:4      the same mask with dense and with semi-structured products.
eval     what scoring costs beside the forward passes.
agency   what gates cost.

MFU is against the maker's figure for the device (`resprout.train.throughput`), or against a matrix
product measured here.
"""

import argparse
import importlib.util
import json
import platform
import shlex
import subprocess
import sys
import time
from pathlib import Path

import torch
import transformers

import arguments
from resprout.files import read_json, write_json
from resprout.models.device import device_name, resolve_device
from resprout.train.throughput import peak_of

HERE = Path(__file__).parent
TRAIN_KINDS = [
    f"{who} {how}bf16" for who in ("plain", "ours", "control") for how in ("", "compiled ")
]
DECODE_KINDS = [
    "plain bf16",
    "ours bf16",
    "ours static bf16",
    "control bf16",
    "control static bf16",
]


def commands(options: argparse.Namespace, peak_tflops: float) -> dict[str, list[str]]:
    """Part -> script and options."""
    size = ["--size", options.size]
    on = ["--device", options.device]
    on_gpu = options.device.startswith("cuda")
    small = ["--rounds", "1", "--repeats", "15" if on_gpu else "1"]
    tokens = ["--batch", "8", "--tokens", "1024"] if on_gpu else ["--batch", "1", "--tokens", "64"]
    peak = ["--peak-tflops", f"{peak_tflops:.1f}"]
    new = ["--new-tokens", "256" if on_gpu else "8"]
    decode = DECODE_KINDS if on_gpu else [kind for kind in DECODE_KINDS if "static" not in kind]
    has_peer = importlib.util.find_spec("optipfair") is not None
    cut = ["--parts", "magnitude", *(["maw"] if has_peer and on_gpu else [])]
    few = [] if on_gpu else ["--repeats", "1", "--decode", "2", "--tokens", "32", "--cases",
                             "biogpt-branches"]  # fmt: skip
    return {
        "train": ["biogpt.py", "--parts", "train", "--kinds", *TRAIN_KINDS, *size, *on, *tokens,
                  *peak, *small],
        "decode": ["biogpt.py", "--parts", "generate", "--kinds", *decode, *size, *on, *new,
                   *small],
        "cut": ["prune.py", *cut, *size, *on, *([] if on_gpu else ["--repeats", "1"])],
        "removal": ["removal.py", *on, *(["--tokens", "2048", "--decode", "64", "--repeats", "15",
                                          "--compile"] if on_gpu else few)],
        "2:4": ["semi_structured.py"],
        "eval": ["eval.py", *on],
        "agency": ["agency.py", *on],
    }  # fmt: skip


def run(name: str, command: list[str], options: argparse.Namespace) -> dict[str, object]:
    """One part, its output kept as it comes; how it ended."""
    file = options.out / f"{name.replace(':', '-')}.txt"
    shown = shlex.join(["python", f"benchmarks/{command[0]}", *command[1:]])
    print(f"\n== {name}: {shown}", flush=True)
    started = time.perf_counter()
    with file.open("w", encoding="utf-8") as kept:
        kept.write(f"$ {shown}\n")
        kept.flush()
        try:
            done = subprocess.run(
                [sys.executable, str(HERE / command[0]), *command[1:]],
                stdout=kept, stderr=subprocess.STDOUT, timeout=options.limit, check=False,
            )  # fmt: skip
            ended = "well" if done.returncode == 0 else f"exit code {done.returncode}"
        except subprocess.TimeoutExpired:
            ended = f"stopped after {options.limit} s"
    seconds = round(time.perf_counter() - started, 1)
    print(file.read_text("utf-8").split("\n", 1)[1].rstrip())
    print(f"-- {name}: ended {ended}, {seconds} s", flush=True)
    return {"command": shown, "ended": ended, "seconds": seconds}


def main() -> None:
    parser = arguments.Parser(__doc__)
    names = ["train", "decode", "cut", "removal", "2:4", "eval", "agency"]
    parser.add_argument("--parts", nargs="+", type=arguments.one_of(names), default=names)
    parser.add_argument("--out", type=Path, default=Path("results/gpu"))
    parser.add_argument(
        "--size", type=arguments.size, default="biogpt-294m", help="a BioGPT; its control follows"
    )
    parser.add_argument(
        "--device",
        type=arguments.device,
        default="cuda",
        help="cpu runs all parts small, as a trial",
    )
    parser.add_argument("--limit", type=arguments.whole(), default=540, help="seconds of a part")
    options = parser.parse_args()
    device = resolve_device(options.device)
    peak = peak_of(device, "bf16")
    options.out.mkdir(parents=True, exist_ok=True)
    here = {
        "device": device_name(device),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        "peak_tflops": round(peak.flops_per_second / 1e12, 1),
        "peak_source": peak.source,
    }
    print(json.dumps(here, indent=1))
    summary = options.out / "gpu.json"
    before = read_json(summary) if summary.is_file() else {}
    same = before.get("here", {}).get("device") == here["device"]
    parts = before.get("parts", {}) if same else {}
    for name, command in commands(options, peak.flops_per_second / 1e12).items():
        if name not in options.parts or parts.get(name, {}).get("ended") == "well":
            continue
        parts[name] = run(name, command, options)
        write_json(summary, {"here": here, "parts": parts})
    if failed := [name for name, part in parts.items() if part["ended"] != "well"]:
        raise SystemExit(f"did not end well: {', '.join(failed)}")


if __name__ == "__main__":
    main()
