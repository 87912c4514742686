"""Places that cannot be written: refused in one line before work; good enough to read from."""

import shutil

import pytest
from harness import Command, one_line, prune, train
from harness import prepare as prepare_command
from mounts import read_only

pytestmark = [pytest.mark.slow, pytest.mark.faults]


def test_nothing_is_begun(home, whole_data, model, tmp_path):
    place = tmp_path / "fixed"
    place.mkdir()
    out = str(place / "out")
    evaluation = ["eval", "model", "--measures", "loss", "--data", "data", "-o", out]
    with read_only(place):
        for command in (
            Command(["run", "s.yaml", "--out", out], home),
            train(home, out),
            prune(home, out),
            prepare_command(home, out),
            Command(evaluation, home),
            Command(["convert", "model", out], home),
        ):
            told = command.ends(2)
            one_line(told, str(place))
            assert "growing" not in told and "step" not in told  # no work was done first
    assert not list(place.iterdir())


def test_what_is_read_may_be_read_only(home, whole_data, whole_study, model, tmp_path):
    place = tmp_path / "fixed"
    place.mkdir()
    for folder in (whole_data, model, whole_study):
        shutil.copytree(folder, place / folder.name)
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    with read_only(place):
        prune(home, str(tmp_path / "cut"), str(place / "model"), str(place / "data")).whole()
        Command(
            ["eval", str(place / "model"), "--measures", "loss", "--data", str(place / "data"),
             "-o", str(tmp_path / "eval")], home,
        ).whole()  # fmt: skip
        Command(
            ["generate", str(place / "model"), "--prompt", "def", "--max-tokens", "2"], home
        ).whole()
        for again in (["run", "s.yaml", "--out"], ["report"]):  # whole, but its pages are written
            told = Command([*again, str(place / "study")], home).ends(2)
            one_line(told, str(place / "study"))
    assert before == {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
