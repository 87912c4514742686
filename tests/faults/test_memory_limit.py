"""Too little memory in the midst of work: one line, exit code 1, nothing lost, and on it goes."""

import resource
import subprocess
import sys

import pytest
from harness import (
    TIMEOUT_SECONDS,
    Command,
    digests,
    figures,
    nothing_is_half,
    one_line,
    prune,
    same_weights,
    train,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.faults,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs prlimit and /proc"),
]


def starved(command, ready):
    """(exit code, what it said) of a run that from some moment on gets no more memory."""
    process = command.start()
    while process.poll() is None and not ready():
        pass
    assert process.poll() is None, process.communicate()[0]
    resource.prlimit(process.pid, resource.RLIMIT_AS, (1 << 20, 1 << 20))  # it keeps what it has
    told, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    # torch's own, at the very end: it imports something to log with, and there is no memory left.
    told, _, _ = told.partition("Exception ignored in atexit callback")
    return process.returncode, told


def test_training(home, whole_train):
    out = home / "trained-starved"
    code, told = starved(train(home, out.name), lambda: (out / "run.json").exists())
    assert code == 1, told
    one_line(told, "out of memory")
    nothing_is_half(out)
    train(home, out.name).whole()
    assert same_weights(*(run / "final" / "model.safetensors" for run in (out, whole_train)))


def test_a_cut(home, whole_cut):
    out, work = home / "cut-starved", home / ".cut-starved.work"
    code, told = starved(prune(home, out.name), lambda: (work / "cycles.json").exists())
    assert code == 1, told
    one_line(told, "out of memory")
    assert not out.exists()
    prune(home, out.name).whole()
    names = ["model.safetensors", "cut.safetensors"]
    assert digests(out, names) == digests(whole_cut, names)


def test_a_study(home, whole_study):
    out = home / "study-starved"
    command = Command(["run", "s.yaml", "--out", out.name], home)
    code, told = starved(command, lambda: any(out.glob("work/*")))
    assert code == 1, told
    assert "Traceback" not in told and "memory" in told.lower(), told
    nothing_is_half(out)
    command.whole()
    assert figures(out) == figures(whole_study)


def test_too_little_for_the_libraries(home, model):
    """150 MB: torch's libraries themselves do not fit."""
    command = [sys.executable, "-m", "resprout", "generate", str(model), "--prompt", "def"]
    # By a shell: a fork of this large process could not even begin under such a limit.
    process = subprocess.run(
        ["bash", "-c", 'ulimit -v 150000; exec "$@"', "bash", *command],
        cwd=home, capture_output=True, text=True, timeout=TIMEOUT_SECONDS,
    )  # fmt: skip
    assert process.returncode == 1, process.stderr
    one_line(process.stderr, "out of memory")
