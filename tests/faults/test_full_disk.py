"""A full disk: one line that names the place and the reason; with room, the same results."""

import resource

import pytest
from harness import (
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
from mounts import small_disk

pytestmark = [pytest.mark.slow, pytest.mark.faults]


def fills(command, place):
    """The command ends for want of room, and leaves nothing half."""
    process = command.start()
    told, _ = process.communicate()
    assert process.returncode in (1, 2), told
    one_line(told, str(place))
    assert "No space" in told or "full disk" in told, told
    nothing_is_half(place)


@pytest.mark.parametrize("kilobytes", [8, 2_000, 14_000])  # tokens, a checkpoint, the subject
def test_a_study(home, whole_study, tmp_path, kilobytes):
    disk = tmp_path / "disk"
    command = Command(["run", "s.yaml", "--out", str(disk / "run")], home)
    with small_disk(disk, kilobytes) as more:
        fills(command, disk)
        more()
        command.whole()
        assert figures(disk / "run") == figures(whole_study)


@pytest.mark.parametrize("kilobytes", [4, 5_000, 25_000])  # history, first and third checkpoint
def test_training(home, whole_train, tmp_path, kilobytes):
    disk = tmp_path / "disk"
    with small_disk(disk, kilobytes) as more:
        fills(train(home, str(disk / "run")), disk)
        more()
        train(home, str(disk / "run")).whole()
        left, right = (r / "final" / "model.safetensors" for r in (disk / "run", whole_train))
        assert same_weights(left, right)


@pytest.mark.parametrize("kilobytes", [8, 5_000, 14_000])
def test_a_cut(home, whole_cut, tmp_path, kilobytes):
    disk = tmp_path / "disk"
    with small_disk(disk, kilobytes) as more:
        fills(prune(home, str(disk / "cut")), disk)
        assert not (disk / "cut").exists()
        more()
        prune(home, str(disk / "cut")).whole()
        names = ["model.safetensors", "cut.safetensors"]
        assert digests(disk / "cut", names) == digests(whole_cut, names)


@pytest.mark.parametrize("kilobytes", [4, 8, 40])  # progress, the tokenizer, the tokens
def test_preparing(home, whole_data, tmp_path, kilobytes):
    disk = tmp_path / "disk"
    with small_disk(disk, kilobytes) as more:
        fills(prepare_command(home, str(disk / "data")), disk)
        assert not (disk / "data" / "manifest.json").exists()
        more()
        prepare_command(home, str(disk / "data")).whole()
        assert products(disk / "data") == products(whole_data)


def limited():
    """No file may be longer than a megabyte: where nothing can be mounted, the next best."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))


def test_files_that_may_not_grow(home, model, tmp_path, whole_train):
    for command, place in (
        (train(home, str(tmp_path / "run")), tmp_path / "run"),
        (prune(home, str(tmp_path / "cut")), tmp_path),
    ):
        command.before = limited
        process = command.start()
        told, _ = process.communicate()
        assert process.returncode in (1, 2), told
        one_line(told, str(place), "cannot be written")
        nothing_is_half(place)
    train(home, str(tmp_path / "run")).whole()
    left, right = (r / "final" / "model.safetensors" for r in (tmp_path / "run", whole_train))
    assert same_weights(left, right)
