"""Two runs on one folder at once: one does it, the other says in one line why not."""

import pytest
from harness import (
    TIMEOUT_SECONDS,
    Command,
    digests,
    figures,
    nothing_is_half,
    one_line,
    products,
    prune,
    same_weights,
    train,
)
from harness import prepare as prepare_command

pytestmark = [pytest.mark.slow, pytest.mark.faults]


def both(command):
    """(exit code, what it printed) of two runs of a command, begun together, the better first."""
    running = [command.start() for _ in range(2)]
    told = [process.communicate(timeout=TIMEOUT_SECONDS)[0] for process in running]
    return sorted(zip((p.returncode for p in running), told, strict=True))


def test_two_studies(home, whole_study):
    (first, told), (second, refused) = both(Command(["run", "s.yaml", "--out", "two"], home))
    assert (first, second) == (0, 2), (told, refused)
    one_line(refused, "'two'", "in use by another run")
    nothing_is_half(home / "two")
    assert figures(home / "two") == figures(whole_study)


def test_two_trainings(home, whole_train):
    (first, told), (second, refused) = both(train(home, "trained-twice"))
    assert (first, second) == (0, 2), (told, refused)
    one_line(refused, "'trained-twice'", "in use by another run")
    assert same_weights(
        *(run / "final" / "model.safetensors" for run in (home / "trained-twice", whole_train))
    )


def test_two_preparations(home, whole_data):
    (first, told), (second, other) = both(prepare_command(home, "data-twice"))
    assert first == 0, told
    if second == 0:  # it came when all was done
        assert "holds this already: nothing to do" in told + other
    else:
        assert second == 2
        one_line(other, "'data-twice'", "in use by another run")
    assert products(home / "data-twice") == products(whole_data)


def test_two_cuts(home, whole_cut):
    (first, told), (second, refused) = both(prune(home, "cut-twice"))
    assert (first, second) == (0, 2), (told, refused)
    one_line(refused, "cut-twice", "in use by another run")
    names = ["model.safetensors", "cut.safetensors"]
    assert digests(home / "cut-twice", names) == digests(whole_cut, names)
    assert not list(home.glob(".resprout-unfinished-*"))


def test_two_cuts_without_recovery(home, model):
    command = Command(
        ["prune", str(model), "--method", "magnitude", "--amount", "0.5", "-o", "plain"], home
    )
    (first, told), (second, refused) = both(command)
    assert first == 0, told
    assert second in (1, 2), refused
    one_line(refused, "plain")
    nothing_is_half(home / "plain")
    Command(["generate", "plain", "--prompt", "def", "--max-tokens", "2"], home).whole()
