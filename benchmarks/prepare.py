"""Preparing text: Resprout end to end against the published program's loop and the peers' calls.

    python benchmarks/prepare.py [--megabytes 20] [--vocabulary 16384] [--repeats 5]

The text is this machine's installed packages, as JSON lines; the tokenizer a byte-level BPE trained
on it. All ways run in one process, in turn (A B C D A B C D ...), and their tokens are compared.

- resprout: `prepare_text`, all of it: JSON lines read, cut, hashed for the split, encoded, written
  with indexes, synced, digests and manifest made.
- one document at a time: what the published program does. JSON lines read one by one,
  `tokenizer.encode(text)` of transformers, ids and end of text into a list, the list into a numpy
  array, written.
- tokenizers, one at a time: `encode(text).ids` of the library below, over texts in memory; nothing
  is read or written.
- tokenizers, encode_batch: all texts in memory in one call; nothing is read or written, not even
  the ids are taken out.
"""

import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer

import arguments
from resprout.data import tokenizer as bpe
from resprout.data.prepare import prepare_text
from resprout.data.sources import find_source


def collect(limit_bytes: int) -> list[str]:
    """Documents of installed packages, in the order of the source, which is a fair sample."""
    texts, parts, total = [], [], 0
    for item in find_source("installed").pieces(None):
        if hasattr(item, "text"):
            parts.append(item.text)
            if item.last:
                text, parts = "".join(parts), []
                if "<|endoftext|>" in text:
                    continue  # the peers take it for a document's end, Resprout does not
                texts.append(text)
                total += len(text.encode())
                if total >= limit_bytes:
                    break
    return texts


def one_at_a_time(source: Path, out: Path, tokenizer: AutoTokenizer) -> int:
    """The published program's loop."""
    buffer: list[int] = []
    tokens = 0
    with source.open() as lines, out.open("wb") as file:
        for line in lines:
            text = json.loads(line)["text"]
            if len(text) < 50:
                continue
            buffer.extend(tokenizer.encode(text))
            buffer.append(tokenizer.eos_token_id)
            if len(buffer) >= 1_000_000:
                np.array(buffer, dtype=np.uint16).tofile(file)
                tokens, buffer = tokens + len(buffer), []
        np.array(buffer, dtype=np.uint16).tofile(file)
    return tokens + len(buffer)


def main() -> None:
    parser = arguments.Parser(__doc__)
    parser.add_argument("--megabytes", type=arguments.number(), default=20)
    parser.add_argument("--vocabulary", type=arguments.whole(), default=16_384)
    parser.add_argument("--repeats", type=arguments.whole(), default=5)
    options = parser.parse_args()
    texts = collect(int(options.megabytes * 1e6))
    size = sum(len(text.encode()) for text in texts)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source, words = folder / "text.jsonl", folder / "words"
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        bpe.for_transformers(bpe.train_bpe(texts, options.vocabulary)).save_pretrained(words)
        slow = AutoTokenizer.from_pretrained(words)
        peer = bpe.load(words / "tokenizer.json")
        runs = iter(range(10**6))

        def resprout() -> int:
            out = folder / f"out{next(runs)}"
            tokens = prepare_text(str(source), out, tokenizer=str(words), notice=lambda line: None)
            return len(tokens.train.tokens) + len(tokens.val.tokens)

        ways: dict[str, Callable[[], int]] = {
            "resprout": resprout,
            "one document at a time": lambda: one_at_a_time(source, folder / "loop.bin", slow),
            "tokenizers, one at a time": lambda: sum(len(peer.encode(t).ids) + 1 for t in texts),
            "tokenizers, encode_batch": lambda: sum(len(e) + 1 for e in peer.encode_batch(texts)),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        busy: dict[str, list[float]] = {name: [] for name in ways}
        found = {}
        for _ in range(options.repeats):
            for name, way in ways.items():
                used, started = time.process_time(), time.perf_counter()
                found[name] = way()
                seconds[name].append(time.perf_counter() - started)
                busy[name].append(time.process_time() - used)
    print(
        f"{len(texts):,} documents, {size / 1e6:.1f} MB, vocabulary {options.vocabulary:,}, ",
        end="",
    )
    print(
        f"{os.cpu_count()} cores, {options.repeats} repeats in turn; load {os.getloadavg()[0]:.1f}"
    )
    speeds = {
        name: sorted(size / 1e6 / value for value in values) for name, values in seconds.items()
    }
    for name, values in speeds.items():
        print(
            f"{name:>26}: {statistics.median(values):5.2f} MB/s (from {values[0]:.2f} to "
            f"{values[-1]:.2f}), {statistics.median(busy[name]):5.1f} s of processors, "
            f"{found[name]:,} tokens"
        )
    ours = speeds["resprout"]
    for name, values in list(speeds.items())[1:]:
        ratio = statistics.median(ours) / statistics.median(values)
        print(f"resprout / {name}: {ratio:.2f}x")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(f"peak memory of the whole process, texts and peers included: {peak:.2f} GB")
    if len(set(found.values())) > 1:
        raise SystemExit("the ways differ in their number of tokens")


if __name__ == "__main__":
    main()
