"""Whole runs of `resprout run` with workers: a Ray cluster, Ctrl-C, a kill. Each takes long."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch

from resprout.study.run import run_study
from resprout.study.spec import read_spec
from resprout.study.store import Store
from test_engines import figures

pytestmark = pytest.mark.slow


@pytest.fixture
def started(tmp_path, small_study, write_study):
    """Start the command on a small study, once its points take long enough to be caught at."""
    small_study["resources"] = {"cpus": 1}
    small_study["recovery"]["steps"] = 100
    file = write_study(small_study)
    processes = []

    def start(*options):
        command = [sys.executable, "-m", "resprout", "run", str(file), "--out",
                   str(tmp_path / "run"), "--device", "cpu", *options]  # fmt: skip
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        return process

    yield start, read_spec(file), tmp_path / "run"
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def lines_until(process, words):
    """Its lines up to one that has these words."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return lines
    raise AssertionError("".join(lines) + process.stderr.read())


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray")
def test_a_ray_cluster_gives_the_same_figures_though_a_worker_is_killed(started, tmp_path):
    start, spec, out = started
    process = start("--engine", "ray", "--workers", "2")
    line = lines_until(process, "point 2 of 6")[-1]
    victim = int(line.split("]")[0].split()[-1])
    of_this_run = {child.pid for child in psutil.Process(process.pid).children(recursive=True)}
    assert victim in of_this_run
    os.kill(victim, signal.SIGKILL)
    rest, errors = process.communicate(timeout=900)
    assert process.returncode == 0, rest + errors
    assert "once more: point 2 of 6" in rest
    assert "6 of 6 points done" in rest
    run_study(spec, tmp_path / "one", torch.device("cpu"), lambda line: None)
    assert figures(out) == figures(tmp_path / "one")
    assert len(figures(out)) == 6


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(started):
    start, _, out = started
    process = start("--workers", "2")
    lines_until(process, "1 of 6 points done")
    workers = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: workers get it too
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; finished points are kept. To continue: resprout run" in errors
    assert "Traceback" not in errors
    assert 1 <= len(figures(out)) < 6
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    for path in out.rglob("*.json"):
        json.loads(path.read_text())
    with Store(out).locked():  # nobody holds it any more
        pass


def test_workers_end_with_a_run_that_is_killed(started):
    start, _, _ = started
    process = start("--workers", "2")
    lines_until(process, "point 1 of 6")
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    started_at = time.perf_counter()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive
    assert time.perf_counter() - started_at < 20
