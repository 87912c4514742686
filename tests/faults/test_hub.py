"""The Hub unreachable, slow, refusing or talking nonsense: one line in bounded time, no trace."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness import TIMEOUT_SECONDS
from hub import MODEL, commands, serving

pytestmark = [pytest.mark.slow, pytest.mark.faults]

TOKEN = "hf_secretsecret"
OUTPUTS = ("pruned", "measured", "ran", "prepared")
MOST_SECONDS = 150  # for a command; the machine may be busy


def asked(folder, address, lists):
    """What came of each command, in one process of its own that takes this for the Hub."""
    (folder / "lists.json").write_text(json.dumps(lists))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    environment |= {
        "HF_ENDPOINT": address, "HF_HOME": str(folder / "home"), "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
    }  # fmt: skip
    process = subprocess.run(
        [sys.executable, Path(__file__).with_name("hub.py"), "lists.json", "found.json"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=2 * TIMEOUT_SECONDS,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    (folder / "printed.txt").write_text(process.stdout + process.stderr)
    return json.loads((folder / "found.json").read_text())


def no_token(folder):
    """The token is in no file (what was printed is among them)."""
    for path in folder.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path


def clean(folder):
    """Nothing that a failed command should not have left."""
    for name in OUTPUTS:
        left = [p for p in (folder / name).rglob("*") if p.is_file() and p.name[0] != "."]
        assert not left, left


def test_it_works_at_all(tmp_path, model, home):
    lists = commands(tmp_path, home / "text")
    del lists["prepare"]  # the stand-in has no data sets
    with serving(model, "good") as (hub, address):
        found = asked(tmp_path, address, lists)
    for name, outcome in found.items():
        assert outcome["code"] == 0 and not outcome["trace"], (name, outcome)
    assert f"/api/models/{MODEL}" in hub.asked
    no_token(tmp_path)


@pytest.mark.parametrize("mood, words", [
    ("401", "HF_TOKEN"), ("404", "no such name"), ("429", "too many requests"),
    ("500", "out of order"), ("html", "login page"), ("slow", "10 s"), ("closed", "not answer"),
])  # fmt: skip
def test_a_bad_day(tmp_path, model, home, mood, words):
    lists = commands(tmp_path, home / "text")
    with serving(model, mood if mood != "closed" else "good") as (_, address):
        if mood == "closed":
            address = "http://127.0.0.1:9"  # nobody listens there
        found = asked(tmp_path, address, lists)
    for name, outcome in found.items():
        told = outcome["said"]
        assert outcome["code"] in (1, 2) and not outcome["trace"], (name, outcome)
        assert "Traceback" not in told
        (error,) = [line for line in told.splitlines() if line.startswith("resprout: error:")]
        assert ("texts" if name == "prepare" else "small") in error, error
        assert words in error and "<html" not in error
        assert outcome["seconds"] < MOST_SECONDS, (name, outcome)
    clean(tmp_path)
    no_token(tmp_path)


@pytest.mark.parametrize("mood", ["cut", "long"])
def test_weights_that_are_not_what_was_promised(tmp_path, model, home, mood):
    lists = commands(tmp_path, home / "text")
    wanted = {name: lists[name] for name in ("generate", "prune", "eval", "run")}
    with serving(model, mood) as (hub, address):
        found = asked(tmp_path, address, wanted)
        for name, outcome in found.items():
            told = outcome["said"]
            assert outcome["code"] in (1, 2) and not outcome["trace"], (name, outcome)
            assert "Traceback" not in told and "small" in told
            assert outcome["seconds"] < MOST_SECONDS, (name, outcome)
        assert not (tmp_path / "pruned").exists()
        hub.mood = "good"  # and when it is well again, the same commands do what they should
        found = asked(tmp_path, address, wanted)
    for name, outcome in found.items():
        assert outcome["code"] == 0 and not outcome["trace"], (name, outcome)
    no_token(tmp_path)
