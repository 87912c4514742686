"""A clock that jumps by days, between starts and during a run: nothing goes by it."""

import json
import os
import signal
import threading

import pytest
from harness import Command, figures, points, same_weights, train

pytestmark = [pytest.mark.slow, pytest.mark.faults]

SHIFTED = """
import os, time
def _shift():
    try:
        with open(os.environ["CLOCK_FILE"]) as file:
            return float(file.read() or 0)
    except (OSError, ValueError):
        return 0.0
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + _shift()
time.time_ns = lambda: _time_ns() + int(_shift() * 1e9)
"""
DAY = 86_400


@pytest.fixture
def clock(tmp_path):
    """(environment, set): processes with it are as many seconds late or early as was set."""
    (tmp_path / "sitecustomize.py").write_text(SHIFTED)
    file = tmp_path / "clock"
    file.write_text("0")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, "CLOCK_FILE": str(file)}, lambda shift: file.write_text(str(shift))


@pytest.fixture
def jumping(clock):
    """The environment of processes whose clock jumps to and fro all the time."""
    environment, set_to = clock
    over = threading.Event()

    def jump():
        shifts = [0, DAY, -DAY, 3600, -40 * 365 * DAY]
        while not over.wait(0.3):
            shifts.append(shifts.pop(0))
            set_to(shifts[0])

    thread = threading.Thread(target=jump)
    thread.start()
    yield environment
    over.set()
    thread.join()


def durations(value):
    """All seconds in a record, at whatever depth."""
    if isinstance(value, dict):
        for name, inner in value.items():
            # `extra` is what a first run took beyond the others, which may be less than nothing.
            if name.endswith("seconds") and "extra" not in name and isinstance(inner, int | float):
                yield inner
            yield from durations(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from durations(inner)


def test_training(home, whole_train, clock):
    environment, set_to = clock
    out = home / "trained-clock"
    marked = "checkpoints/*/complete.json"
    process = train(home, out.name).start(**environment)
    while process.poll() is None and len(list(out.glob(marked))) < 2:
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    older, newer = sorted(out.glob(marked), key=lambda p: int(p.parent.name.partition("-")[2]))
    for path in (older.parent, *older.parent.iterdir()):  # as if written tomorrow
        os.utime(path, (path.stat().st_atime + DAY, path.stat().st_mtime + DAY))
    set_to(-DAY)
    told = train(home, out.name).whole(**environment)
    done = int(newer.parent.name.partition("-")[2])
    assert f"step {done + 10}/80" in told and f"step {done}/80  loss" not in told
    assert same_weights(*(run / "final" / "model.safetensors" for run in (out, whole_train)))
    found = list(durations(json.loads((out / "training.json").read_text())))
    assert found and min(found) >= 0


def test_a_study_while_the_clock_jumps(home, whole_study, jumping):
    out = home / "study-clock"
    Command(["run", "s.yaml", "--out", out.name], home).whole(**jumping)
    assert figures(out) == figures(whole_study)
    found = [s for text in points(out).values() for s in durations(json.loads(text))]
    assert found and min(found) >= 0 and max(found) < 3600


def test_an_evaluation_while_the_clock_jumps(home, model, whole_data, jumping):
    Command(["eval", str(model), "--measures", "loss,speed", "--data", str(whole_data), "--device",
             "cpu", "-o", "eval-clock"], home).whole(**jumping)  # fmt: skip
    for path in (home / "eval-clock").rglob("*.json"):
        assert all(s >= 0 for s in durations(json.loads(path.read_text()))), path
