"""Real processes that are hurt, and what has to hold after each wound."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from clocks import untimed

TIMEOUT_SECONDS = 600


@dataclass
class Command:
    """A command of `resprout`, run as a process in a folder of its own.

    Attributes:
        arguments: as they are typed; the same every time.
        folder: where it is run.
        seconds: what it took when nobody disturbed it.
        codes: how it ended each time it was hurt.
        before: done in the process before the command begins, such as setting a limit.
    """

    arguments: list[str]
    folder: Path
    seconds: float = 0.0
    codes: list[int] = field(default_factory=list)
    before: Callable[[], None] | None = None

    def start(self, **environment: str) -> subprocess.Popen:
        """The process, in a group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "resprout", *self.arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=self.before,
            env=os.environ | environment,
        )

    def whole(self, **environment: str) -> str:
        """Run it to its end; what it printed."""
        started = time.perf_counter()
        process = self.start(**environment)
        told, _ = process.communicate(timeout=TIMEOUT_SECONDS)
        self.seconds = time.perf_counter() - started
        assert process.returncode == 0, told
        return told

    def ends(self, code: int, **environment: str) -> str:
        """Run it to its end, which has to have this exit code; what it printed."""
        process = self.start(**environment)
        told, _ = process.communicate(timeout=TIMEOUT_SECONDS)
        assert process.returncode == code, (process.returncode, told)
        return told

    def hurt_when(self, ready: Callable[[], bool], how: signal.Signals) -> tuple[int, str]:
        """Run it, and signal it as soon as something is so; its exit code, and what it printed."""
        process = self.start()
        while process.poll() is None and not ready():
            time.sleep(0.01)
        assert process.poll() is None, f"over too soon: {process.communicate()[0]}"
        os.killpg(process.pid, how)
        told, _ = process.communicate(timeout=TIMEOUT_SECONDS)
        return process.returncode, told

    def hurt(self, after_seconds: float, how: signal.Signals) -> str:
        """Run it, and signal it after so long; what it printed."""
        process = self.start()
        try:
            told, _ = process.communicate(timeout=after_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, how)
            told, _ = process.communicate(timeout=TIMEOUT_SECONDS)
        self.codes.append(process.returncode)
        return told


def moments(count: int, seconds: float, seed: int) -> list[tuple[float, signal.Signals]]:
    """So many random moments of a run, and by which signal it is hurt there."""
    drawn = random.Random(seed)
    signals = (signal.SIGKILL, signal.SIGTERM)
    return [(drawn.uniform(0, seconds), drawn.choice(signals)) for _ in range(count)]


def visible(folder: Path) -> list[Path]:
    """The files that a reader may open: no hidden one, and none in a hidden folder."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return [p for p in found if not any(x.startswith(".") for x in p.relative_to(folder).parts)]


def nothing_is_half(folder: Path) -> None:
    """Every visible JSON file is whole."""
    for path in visible(folder):
        if path.suffix == ".json":
            json.loads(path.read_text())


def hurt_often(command: Command, out: Path, whole_seconds: float, count: int, seed: int) -> None:
    """Hurt a run at so many random moments; no file that a reader may open is half after any."""
    for after, how in moments(count, whole_seconds, seed):
        command.hurt(after, how)
        if out.exists():
            nothing_is_half(out)


def prepare(folder: Path, out: str, *more: str) -> Command:
    """`resprout prepare` of the small text."""
    given = ["--source", "text", "--train_tokenizer", "300", "--val_fraction", "0.2"]
    return Command(["prepare", *given, "-o", out, *more], folder)


def train(folder: Path, out: str, data: str = "data") -> Command:
    """`resprout train` of 80 steps, with many checkpoints."""
    return Command(
        ["train", "--data_dir", data, "--out_dir", out, "--model", "gpt-neox-nano",
         "--target_tokens", "20480", "--block_size", "32", "--batch_size", "8",
         "--grad_accum", "1", "--max_lr", "4e-3", "--min_lr", "4e-4", "--warmup_steps", "5",
         "--eval_interval", "10", "--log_interval", "5", "--device", "cpu"],
        folder,
    )  # fmt: skip


def prune(folder: Path, out: str, model: str = "model", data: str = "data") -> Command:
    """`resprout prune` with a recovery in two cycles, so that it keeps what it has done."""
    return Command(
        ["prune", model, "--method", "magnitude", "--amount", "0.5", "--tokens", data,
         "--recover-steps", "60", "--cycles", "2", "--batch-windows", "2", "--window", "32",
         "--device", "cpu", "-o", out],
        folder,
    )  # fmt: skip


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """sha256 of files."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def points(folder: Path) -> dict[str, bytes]:
    """The files of a study's finished points."""
    found = (folder / "points").glob("*.json")
    return {p.name: p.read_bytes() for p in found if not p.name.endswith(".failed.json")}


def figures(folder: Path) -> dict[str, Any]:
    """A study's records, without what differs from run to run."""
    return {name: untimed(json.loads(text)) for name, text in points(folder).items()}


def same_weights(one: Path, other: Path) -> bool:
    """Whether two safetensors files hold the same numbers."""
    left, right = load_file(one), load_file(other)
    return left.keys() == right.keys() and all((left[n] == right[n]).all() for n in left)


def products(folder: Path) -> dict[str, str]:
    """sha256 of the files of a prepared folder."""
    return digests(folder, sorted(p.name for p in visible(folder)))


def flip(path: Path, at: float = 0.5) -> None:
    """One bit of a file turned over, at a share of its length."""
    data = bytearray(path.read_bytes())
    data[int(at * (len(data) - 1))] ^= 0x10
    path.write_bytes(data)


def truncate(path: Path, share: float = 0.6) -> None:
    """A file's end lost."""
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])


def one_line(told: str, *words: str) -> str:
    """The error in what a command printed: one line with these words, and no traceback."""
    assert "Traceback" not in told, told
    errors = [line for line in told.splitlines() if line.startswith("resprout: error:")]
    assert len(errors) == 1, told
    for word in words:
        assert word in errors[0], told
    return errors[0]
