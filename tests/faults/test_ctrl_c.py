"""Ctrl-C: exit code 130, one line that says how to go on, and going on gives the same."""

import signal
import time

import pytest
from harness import Command, digests, figures, products, prune, same_weights, train
from harness import prepare as prepare_command

pytestmark = [pytest.mark.slow, pytest.mark.faults]


def interrupted(command, ready):
    """What it printed when it was interrupted as soon as something was so."""
    code, told = command.hurt_when(ready, signal.SIGINT)
    assert code == 130, (code, told)
    assert "Traceback" not in told
    (said,) = [line for line in told.splitlines() if line.startswith("stopped")]
    return said


def test_a_study(home, whole_study):
    command = Command(["run", "s.yaml", "--out", "run-c"], home)
    out = home / "run-c"
    said = interrupted(command, lambda: any(out.glob("work/*/checkpoint-*/complete.json")))
    assert "resprout run s.yaml --out run-c" in said
    said = interrupted(command, lambda: any(out.glob("points/*.json")))
    done = {path: path.read_bytes() for path in out.glob("points/*.json")}
    command.whole()
    assert all(path.read_bytes() == content for path, content in done.items())
    assert figures(out) == figures(whole_study)


def test_training(home, whole_train):
    out = home / "trained-c"
    said = interrupted(train(home, out.name), lambda: any(out.glob("checkpoints/*/complete.json")))
    assert f"To continue: python -m resprout train --data_dir data --out_dir {out.name}" in said
    train(home, out.name).whole()
    assert same_weights(*(run / "final" / "model.safetensors" for run in (out, whole_train)))


def test_a_cut(home, whole_cut):
    out = home / "cut-c"
    work = home / ".cut-c.work"
    said = interrupted(
        prune(home, out.name), lambda: any(work.glob("cycles/checkpoint-*/complete.json"))
    )
    assert "same command" in said
    assert not out.exists()
    prune(home, out.name).whole()
    names = ["model.safetensors", "cut.safetensors"]
    assert digests(out, names) == digests(whole_cut, names)
    assert not work.exists()


def test_preparing(home, whole_data):
    out = home / "data-c"
    said = interrupted(
        prepare_command(home, out.name), lambda: (out / "unfinished" / "progress.json").exists()
    )
    assert "prepare --source text" in said
    prepare_command(home, out.name).whole()
    assert products(out) == products(whole_data)


def test_an_evaluation(home, model, whole_data):
    def command(out):
        return Command(["eval", str(model), "--measures", "loss,text", "--data", str(whole_data),
                        "--device", "cpu", "-o", out], home)  # fmt: skip

    said = interrupted(command("eval-c"), lambda: (home / "eval-c" / "evaluation.json").exists())
    assert "same command" in said or "resprout eval" in said
    command("eval-c").whole()
    command("eval-whole").whole()

    def figures_of(out):
        lines = (home / out / "figures.csv").read_text().splitlines()
        return [line.split(",")[:6] for line in lines if "nats" in line]

    assert figures_of("eval-c") == figures_of("eval-whole") != []


@pytest.mark.parametrize("name", ["run", "train", "prune", "prepare", "eval", "generate"])
def test_before_anything_has_begun(home, name, whole_data, model):
    """While the libraries are still being imported."""
    out = f"never-{name}"
    command = {
        "run": Command(["run", "s.yaml", "--out", out], home),
        "train": train(home, out),
        "prune": prune(home, out),
        "prepare": prepare_command(home, out),
        "eval": Command(["eval", "model", "--data", "data", "-o", out], home),
        "generate": Command(["generate", "model", "--prompt", "x"], home),
    }[name]
    begun = time.monotonic()
    code, told = command.hurt_when(lambda: time.monotonic() - begun > 0.5, signal.SIGINT)
    assert code == 130, told
    assert "Traceback" not in told
    assert "stopped" in told
