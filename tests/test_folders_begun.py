"""Folders that a kill left half-done: what is in them is used only where it is the same work's."""

import os
import shutil
import sys

import numpy as np
import pytest

from resprout.cli import main
from resprout.data import splitting
from resprout.data.writer import HEADER_BYTES, SPLITS, Counts, Writer
from resprout.files import note_digests, read_json, write_json
from resprout.seals import sealed
from resprout.train import pretraining
from resprout.train.checkpoints import COMPLETE, last_complete
from resprout.train.plan import make_plan
from resprout.train.request import read_request
from resprout.train.run_folder import CHECKPOINTS, FINAL, HISTORY, PUBLISHED, RECIPE, RunFolder
from resprout.train.trainer import TrainingResult


class Kill(BaseException):
    """As sudden as a signal: no handler of ours catches it."""


class Killer:
    """Stops the work before its n-th call of some functions; counts them."""

    def __init__(self, monkeypatch, place, *names):
        self.seen, self.at = 0, None
        for name in names:
            monkeypatch.setattr(place, name, self._counted(getattr(place, name)))

    def _counted(self, real):
        def call(*given, **more):
            self.seen += 1
            if self.seen == self.at:
                self.at = None
                raise Kill
            return real(*given, **more)

        return call

    def before(self, at, work):
        """Do the work; whether it was stopped."""
        self.seen, self.at = 0, at
        try:
            work()
        except Kill:
            return True
        finally:
            self.at = None
        return False


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


# --- a run of `train` ---------------------------------------------------------------------------


def recipe(max_lr):
    return {"tokenizer": "t", "data": "d", "model": "gpt-neox-nano", "max_lr": max_lr, "seed": 0}


FIRST, SECOND = recipe(1e-3), recipe(4e-3)


def finished_run(path, made_with=FIRST, noted=True):
    """A finished run's folder, as this version leaves it, or (`noted` false) an older one."""
    folder = RunFolder(path)
    with folder.opened(made_with, False):
        if noted:
            folder.hold_checkpoints(made_with, pytest.fail)
        checkpoint = folder.checkpoints / "checkpoint-5"
        for place in (checkpoint, folder.final):
            place.mkdir(parents=True)
            (place / "model.safetensors").write_text(f"weights of {made_with['max_lr']}")
        note_digests(checkpoint, COMPLETE)
        note_digests(folder.final)
        folder.published.write_text("the same, as published")
        write_json(path / HISTORY, sealed({"finished": True, "recipe": made_with}))
    return folder


def test_a_run_killed_while_it_starts_over_is_never_taken_for_the_new_one(tmp_path, monkeypatch):
    """At each removal, of a file or of what is in a folder; then without --start_over."""
    finished_run(tmp_path / "whole")
    killer = Killer(monkeypatch, os, "unlink", "rmdir", "rename")
    moments = 0
    while True:
        moments += 1
        path = tmp_path / f"run-{moments}"
        shutil.copytree(tmp_path / "whole", path)
        folder = RunFolder(path)

        def start_over(folder=folder):
            with folder.opened(SECOND, True):
                pass

        if not killer.before(moments, start_over):
            break
        if (path / RECIPE).exists():  # it is still the first run's folder, and says so
            with pytest.raises(ValueError, match=r"max_lr: got 0.004, but it is 0.001 in the run"):
                folder.check(SECOND, False)
            with folder.opened(FIRST, False):
                done = folder.history(FIRST, pytest.fail)
                assert done is None or folder.final.is_dir()
                assert not folder.published.exists() or done is not None
                last_complete(folder.checkpoints, pytest.fail)  # nothing half, nothing to tell
        else:
            with folder.opened(SECOND, False):
                assert folder.history(SECOND, pytest.fail) is None
            assert set(contents(path)) == {RECIPE}
        start_over()
        assert set(contents(path)) == {RECIPE}
        assert read_json(path / RECIPE)["max_lr"] == SECOND["max_lr"]
    assert moments > 8


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("noted", [True, False])
def test_what_another_recipe_gave_is_set_aside(tmp_path, noted, finished):
    """As a start over leaves it that an earlier version was killed in: a new `run.json` first."""
    folder = finished_run(tmp_path / "run", noted=noted)
    write_json(folder.path / RECIPE, sealed(SECOND))
    if not finished:
        write_json(folder.path / HISTORY, sealed({"finished": False, "recipe": FIRST}))
    told = []
    with folder.opened(SECOND, False):
        assert folder.history(SECOND, told.append) is None
        folder.hold_checkpoints(SECOND, told.append)
        assert last_complete(folder.checkpoints) is None
    assert "max_lr: got 0.004, but it is 0.001" in told[0]
    assert not any((folder.path / name).exists() for name in (HISTORY, FINAL, PUBLISHED))
    for name in (HISTORY, FINAL, PUBLISHED, CHECKPOINTS):
        assert (folder.path / f"{name}.corrupt-1").exists()
        assert any(f"{name}.corrupt-1" in line for line in told)
    with folder.opened(SECOND, False):  # said once
        assert folder.history(SECOND, pytest.fail) is None
        folder.hold_checkpoints(SECOND, pytest.fail)


@pytest.mark.parametrize("noted", [True, False])
def test_a_finished_run_is_its_own(tmp_path, noted):
    folder = finished_run(tmp_path / "run", noted=noted)
    before = contents(folder.path)
    with folder.opened(FIRST, False):
        assert folder.history(FIRST, pytest.fail)["finished"]
        assert contents(folder.path) == before
        folder.hold_checkpoints(FIRST, pytest.fail)
        assert last_complete(folder.checkpoints) == folder.checkpoints / "checkpoint-5"
    assert read_json(folder.checkpoints / RECIPE)["max_lr"] == FIRST["max_lr"]


def test_an_older_history_that_names_no_recipe_is_believed(tmp_path):
    folder = finished_run(tmp_path / "run", noted=False)
    write_json(folder.path / HISTORY, {"finished": True})
    assert folder.history(FIRST, pytest.fail) == {"finished": True}


@pytest.mark.parametrize("name", [CHECKPOINTS, FINAL, HISTORY, PUBLISHED])
def test_a_strangers_files_of_our_names_are_left_alone(tmp_path, name):
    theirs = tmp_path / "theirs"
    file = theirs / name / "checkpoint-500" / "x" if "." not in name else theirs / name
    file.parent.mkdir(parents=True)
    file.write_text("years of work")
    folder = RunFolder(theirs)
    for start_over in (False, True):
        with (
            pytest.raises(ValueError, match=f"holds what is no run's, such as '{name}'"),
            folder.opened(FIRST, start_over),
        ):
            pass
    assert file.read_text() == "years of work"


def test_what_a_kill_leaves_beside_no_run_is_in_nobodys_way(tmp_path):
    (tmp_path / "run" / ".resprout-unfinished-final").mkdir(parents=True)
    (tmp_path / "run" / "final.corrupt-1").mkdir()
    (tmp_path / "run" / ".lock").touch()
    with RunFolder(tmp_path / "run").opened(FIRST, False):
        pass
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        ".lock",
        "final.corrupt-1",
        RECIPE,
    ]


SMALL = {
    "model": "gpt-neox-nano",
    "target_tokens": 64,
    "block_size": 16,
    "batch_size": 1,
    "device": "cpu",
}


def test_an_earlier_models_published_form_does_not_outlive_it(tokens, tmp_path, monkeypatch):
    """It is gone before the new model is there: whoever is killed in between has neither."""
    plan = make_plan(read_request(SMALL | {"data_dir": tokens.path, "out_dir": tmp_path / "run"}))
    folder = finished_run(tmp_path / "run", plan.recipe)
    seen = []
    monkeypatch.setattr(pretraining, "_trained", lambda *a, **b: (TrainingResult([], 0, 0.0), {}))
    monkeypatch.setattr(
        pretraining, "_export", lambda *given: seen.append(folder.published.exists())
    )
    pretraining._train_into(plan, folder, seen.append, seen.append)
    assert seen[-1] is False


def test_a_process_beside_the_first_finds_no_old_end_when_it_starts_over(
    tokens, tmp_path, monkeypatch
):
    """The first may not have removed it yet; they have to train together."""
    values = SMALL | {"data_dir": tokens.path, "out_dir": tmp_path / "run", "start_over": True}
    request = read_request(values)
    finished_run(tmp_path / "run", make_plan(request).recipe)
    trained = []
    monkeypatch.setattr(pretraining, "_train_into", lambda *given: trained.append(1))
    monkeypatch.setenv("RANK", "1")
    pretraining.pretrain(request, pytest.fail, pytest.fail)
    assert trained


@pytest.mark.parametrize("processes", ["1", "2"])
def test_ctrl_c_in_training_never_advises_to_start_over(monkeypatch, capsys, processes):
    def interrupted(*given):
        raise KeyboardInterrupt

    given = ["train", "--out_dir", "a run", "--start_over", "--max_lr", "1e-3"]
    monkeypatch.setattr(sys.modules["resprout.cli.train"], "_train", interrupted)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/resprout", *given])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    monkeypatch.setenv("WORLD_SIZE", processes)
    with pytest.raises(SystemExit) as stop:
        main(given)
    assert stop.value.code == 130
    said = capsys.readouterr().err.strip()
    if processes == "1":
        assert said.endswith("To continue: resprout train --out_dir 'a run' --max_lr 1e-3")
    else:
        assert said.endswith("give the same command again, without --start_over")


# --- a tail that becomes validation -------------------------------------------------------------


class Letters:
    """An encoder whose tokens stand for two bytes each."""

    joint = "plain"

    def token_bytes(self):
        return np.full(100, 2)


def writer_of(folder, counts, cut):
    return Writer(folder, np.dtype("<u2"), counts, cut)


def unmoved(folder, moved_tokens):
    """Forty documents, all training; (counts, the planned move, digests) as they are committed."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    lengths = draw.integers(3, 9, 40)
    ids = draw.integers(1, 100, int(lengths.sum())).astype("<u2")
    rows = np.column_stack([np.cumsum(lengths), 2 * lengths]).astype("<u8")
    (folder / "train.bin").write_bytes(ids.tobytes())
    (folder / "train.index.npy").write_bytes(bytes(HEADER_BYTES) + rows.tobytes())
    counts = {"train": Counts(len(ids), 2 * len(ids), 40), "val": Counts()}
    writer = writer_of(folder, counts, True)
    move = splitting.plan_move(writer, Letters(), moved_tokens)
    writer.close()
    return counts, move, {name: found.hexdigest() for name, found in writer.hashes.items()}


def taken_up(folder, begun):
    """Go on with a move; the files then."""
    counts, move, digests = begun
    writer = writer_of(folder, counts, False)
    try:
        splitting.check_begun(writer, move, digests)
        splitting.move_tail(writer, move)
    finally:
        writer.close()
    return contents(folder)


def wounds(content):
    """Bits turned over, an end lost, something behind it."""
    for share in (0.6, 1.0):
        at = int(share * (len(content) - 1))
        if content:
            yield content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]
    for cut in (2, 16):
        yield content[: max(0, len(content) - cut)]
    yield content + bytes(16)


# With a document cut in two, with the last one cut in two, the last one whole.
@pytest.mark.parametrize("moved_tokens", [50, 2, None])
def test_a_move_killed_at_any_call_is_gone_on_with_or_refused(tmp_path, monkeypatch, moved_tokens):
    """Whatever is hurt then: the same files come out, or it is named and nothing is touched."""
    monkeypatch.setattr(splitting, "ROWS_AT_ONCE", 7)
    monkeypatch.setattr(splitting, "COPY_BYTES", 128)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # hundreds of them
    begun = unmoved(tmp_path / "before", moved_tokens)
    assert bool(begun[1]["halves"]) == (moved_tokens is not None)
    shutil.copytree(tmp_path / "before", tmp_path / "whole")
    expected = taken_up(tmp_path / "whole", begun)
    assert len(expected["val.bin"]) == 2 * (begun[1]["tokens"] - begun[1]["start"])
    with monkeypatch.context() as patch:
        killer = Killer(patch, os, "write", "pwrite", "ftruncate", "fsync")
        states = []
        while True:
            state = tmp_path / f"state-{len(states)}"
            shutil.copytree(tmp_path / "before", state)
            begin = lambda state=state: taken_up(state, begun)  # noqa: E731
            if not killer.before(len(states) + 1, begin):
                break
            states.append(contents(state))
    assert len(states) > 11
    refused = 0
    hurt = tmp_path / "hurt"
    hurt.mkdir()

    def after(files):
        for name, content in files.items():
            (hurt / name).write_bytes(content)
        try:
            return taken_up(hurt, begun)
        except ValueError as error:
            assert "--start_over" in str(error)
            assert contents(hurt) == files
            return None

    different = {}
    for state in states:
        assert after(state) == expected
        different[state["train.bin"], state["train.index.npy"]] = state
    for state in different.values():
        for name, content in state.items():
            for wound in wounds(content):
                found = after(state | {name: wound})
                refused += found is None
                differs = found is not None and [n for n in found if found[n] != expected[n]]
                # A header is written anew in the end, whatever it holds until then.
                assert not differs or (
                    name.endswith(".npy") and wound[HEADER_BYTES:] == content[HEADER_BYTES:]
                )
    assert refused > 20


def test_a_move_without_digests_is_compared_by_lengths(tmp_path):
    """Of unfinished work that an earlier version left."""
    counts, move, _ = unmoved(tmp_path / "a", 50)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    expected = taken_up(tmp_path / "a", (counts, move, None))
    assert [len(expected[f"{name}.bin"]) for name in SPLITS] == [
        2 * move["start"], 2 * (move["tokens"] - move["start"])
    ]  # fmt: skip
    file = tmp_path / "b" / "train.bin"
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"train\.bin' is not as it was written"):
        taken_up(tmp_path / "b", (counts, move, None))
    assert len(file.read_bytes()) == 40
