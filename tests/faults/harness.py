"""Real processes that are hurt, and what has to hold after each wound."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

TIMEOUT_SECONDS = 600


@dataclass
class Command:
    """A command of `resprout`, run as a process in a folder of its own.

    Attributes:
        arguments: as they are typed; the same every time.
        folder: where it is run.
        seconds: what it took when nobody disturbed it.
    """

    arguments: list[str]
    folder: Path
    seconds: float = 0.0
    codes: list[int] = field(default_factory=list)

    def start(self, **environment: str) -> subprocess.Popen:
        """The process, in a group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "resprout", *self.arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | environment,
        )

    def whole(self, **environment: str) -> str:
        """Run it to its end; what it printed."""
        started = time.perf_counter()
        process = self.start(**environment)
        told, _ = process.communicate(timeout=TIMEOUT_SECONDS)
        self.seconds = time.perf_counter() - started
        assert process.returncode == 0, told
        return told

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
