"""Work is kept until its result is on disk, then goes; what others put there is never lost."""

import errno
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import resprout
from clocks import untimed
from families import CONFIGURATIONS
from resprout import files
from resprout.cli import main
from resprout.files import TEMPORARY, only_one
from resprout.models import convert as convert_module
from resprout.models.biogpt.published import write_published
from resprout.models.convert import convert
from resprout.models.sizes import build, configuration
from resprout.study import subjects as subjects_module
from resprout.study.converted_checkpoint import model_folder
from resprout.study.run import run_study
from resprout.study.spec import read_spec
from resprout.study.store import Store
from resprout.train import cycles as cycles_module
from resprout.train.callbacks import LogWhenSaving
from resprout.train.checkpoints import KeepCheckpoints
from resprout.train.cycles import prune_and_recover

CPU = torch.device("cpu")
SMALL = {"window": 16, "batch_windows": 1, "learning_rate": 1e-3, "checkpoint_every": 2}


class KillError(BaseException):
    """Stands for a kill: nothing that is written may rest on being told of it."""


def tiny():
    configuration = CONFIGURATIONS["gpt_neox"]()
    configuration.vocab_size = 300
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(configuration)


@pytest.fixture(scope="session")
def model(tokens, tmp_path_factory):
    """A tiny model with the tokenizer of `tokens`."""
    folder = tmp_path_factory.mktemp("work") / "model"
    tiny().save_pretrained(folder)
    tokens.transformers_tokenizer(64).save_pretrained(folder)
    return folder


@pytest.fixture
def steps(monkeypatch):
    """The steps that are trained."""
    taken = []
    own = LogWhenSaving.on_step_end

    def count(self, args, state, control, **kwargs):
        taken.append(state.global_step)
        own(self, args, state, control, **kwargs)

    monkeypatch.setattr(LogWhenSaving, "on_step_end", count)
    return taken


@pytest.fixture
def prune(model, tokens, tmp_path, capsys):
    """`resprout prune` in this process: its exit code (or error), and what it said of errors."""

    def run(name, *more, recover=3):
        training = ["--tokens", tokens.path, "--recover-steps", recover, "--batch-windows", 1,
                    "--window", 16] if recover else []  # fmt: skip
        given = ["prune", model, "--method", "magnitude", "--amount", 0.5, "--device", "cpu"]
        capsys.readouterr()
        try:
            main([str(word) for word in (*given, *training, *more, "-o", tmp_path / name)])
        except SystemExit as end:
            return end.code, capsys.readouterr().err
        except KillError:
            return KillError, ""
        raise AssertionError("it has no exit code")

    return run


def full(*arguments, **options):
    raise OSError(errno.ENOSPC, "No space left on device")


def killed(*arguments, **options):
    raise KillError


def interrupted(*arguments, **options):
    raise KeyboardInterrupt


def figures(folder):
    """`prune.json` without what a cut took."""
    found = json.loads((folder / "prune.json").read_text())
    return untimed(found, ("stages", "extra_peak_bytes"))


def same_weights(*folders):
    first, second = (load_file(folder / "model.safetensors") for folder in folders)
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


# `resprout prune`


@pytest.mark.parametrize(
    ("more", "end"),
    [((), full), (("--cycles", 2), interrupted), (("--schedule", "linear"), full)],
)
def test_a_cut_that_could_not_be_saved_trains_nothing_again(
    prune, tmp_path, monkeypatch, steps, more, end
):
    assert prune("whole", *more)[0] == 0
    with monkeypatch.context() as patched:
        patched.setattr(files, "note_digests", end)
        code, said = prune("cut", *more)
    if end is full:
        assert code == 1
        assert said == (
            f"resprout: error: {tmp_path / 'cut'} cannot be written (No space left on device)\n"
        )
    else:
        assert code == 130
        assert "the last checkpoint is kept" in said
    assert not (tmp_path / "cut").exists()
    assert not list(tmp_path.rglob(f"{TEMPORARY}*"))
    (cost,) = (tmp_path / ".cut.work").glob("*/cost.json")
    took = json.loads(cost.read_text())
    steps.clear()
    assert prune("cut", *more)[0] == 0
    assert steps == []
    assert same_weights(tmp_path / "whole", tmp_path / "cut")
    assert figures(tmp_path / "whole") == figures(tmp_path / "cut")
    # What the training took, not what reading its last checkpoint did.
    assert took in json.loads((tmp_path / "cut" / "prune.json").read_text())["stages"].values()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut", "whole"]


@pytest.mark.parametrize("recover", [0, 3])
def test_what_a_killed_cut_was_writing_goes_with_the_next(prune, tmp_path, monkeypatch, recover):
    with monkeypatch.context() as patched:
        patched.setattr(files, "note_digests", killed)
        patched.setattr(shutil, "rmtree", lambda *arguments, **options: None)
        assert prune("cut", recover=recover)[0] is KillError
    assert list(tmp_path.rglob(f"{TEMPORARY}*/model.safetensors"))
    assert [path.name for path in tmp_path.iterdir()] == [".cut.work"]
    assert prune("cut", recover=recover)[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["cut"]


def test_what_another_process_is_writing_stays(prune, tmp_path):
    work = tmp_path / ".cut.work"
    with only_one(work, "out", ".out.lock"):
        (work / f"{TEMPORARY}of-another").mkdir()
        code, said = prune("cut", recover=0)
        assert code == 2
        assert "cut.work' is in use by another run" in said
        assert (work / f"{TEMPORARY}of-another").is_dir()
    assert not (tmp_path / "cut").exists()


@pytest.mark.parametrize("other", [{"recover": 0}, {"more": ("--cycles", 2)}])
def test_an_unfinished_recovery_is_not_gone_over(prune, tmp_path, monkeypatch, steps, other):
    own = KeepCheckpoints.on_save

    def stop(self, args, state, control, **kwargs):
        own(self, args, state, control, **kwargs)
        if state.global_step == 2:
            raise KillError

    with monkeypatch.context() as patched:
        patched.setattr(KeepCheckpoints, "on_save", stop)
        assert prune("cut")[0] is KillError
    code, said = prune("cut", *other.get("more", ()), recover=other.get("recover", 3))
    assert code == 2
    assert "has an unfinished recovery in" in said
    assert "recovery'; allowed is the command that began it" in said
    steps.clear()
    assert prune("cut")[0] == 0
    assert steps == [3]


def test_a_recovery_without_a_checkpoint_hinders_nothing(prune, tmp_path):
    work = tmp_path / ".cut.work"
    (work / "recovery").mkdir(parents=True)
    (work / "recovery.json").write_text("{}")
    assert prune("cut", recover=0)[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["cut"]


def test_killed_after_its_folder_was_there_nothing_of_it_counts(prune, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", lambda *arguments, **options: None)
        patched.setattr(Path, "unlink", lambda *arguments, **options: None)
        assert prune("cut")[0] == 0
    work = tmp_path / ".cut.work"
    assert list(work.glob("recovery/checkpoint-*/complete.json"))
    shutil.rmtree(tmp_path / "cut")
    assert prune("cut", "--learning-rate", 2e-4)[0] == 0  # another request
    assert not work.exists()


def test_what_came_to_out_meanwhile_stays(prune, tmp_path, monkeypatch, steps):
    own = files.note_digests

    def theirs(folder, name=files.DIGESTS):
        (tmp_path / "cut").mkdir()
        (tmp_path / "cut" / "thesis.tex").write_text("years of work")
        own(folder, name)

    with monkeypatch.context() as patched:
        patched.setattr(files, "note_digests", theirs)
        code, said = prune("cut")
    assert code == 1
    assert f"{tmp_path / 'cut'} cannot be written (Directory not empty)" in said
    assert [path.name for path in (tmp_path / "cut").iterdir()] == ["thesis.tex"]
    shutil.rmtree(tmp_path / "cut")
    steps.clear()
    assert prune("cut")[0] == 0
    assert steps == []


# From Python


def test_recover_keeps_its_work_for_who_asks(tokens, tmp_path, steps):
    def recovered(**options):
        net = tiny()
        cut = resprout.prune(net, "magnitude", 0.5)
        result = resprout.recover(net, cut, tokens, 4, work_folder=tmp_path, **options, **SMALL)
        return net.state_dict(), result.losses

    weights, losses = recovered(keep_work=True)
    assert (tmp_path / "recovery" / "checkpoint-4" / "complete.json").is_file()
    steps.clear()
    again, told = recovered()
    assert steps == []
    assert told == losses
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    net = tiny()
    with pytest.raises(ValueError, match="keep_work: needs a work_folder"):
        resprout.recover(net, None, tokens, 4, keep_work=True)
    with pytest.raises(ValueError, match="keep_work: got 'yes'"):
        resprout.recover(net, None, tokens, 4, keep_work="yes", work_folder=tmp_path)


@pytest.mark.parametrize(("moment", "after"), [("after", 1), ("before", 2), ("after", 2)])
def test_cycles_tell_what_a_killed_run_did(tokens, tmp_path, monkeypatch, steps, moment, after):
    def cycled(folder):
        told = []
        net = tiny()
        prune_and_recover(
            net, "magnitude", 0.5, tokens, 4, cycles=2, work_folder=folder, told=told.append,
            **SMALL,
        )  # fmt: skip
        return net.state_dict(), [(result.losses, result.tokens) for result in told]

    weights, told = cycled(tmp_path / "whole")
    assert len(told) == 2
    own = cycles_module._keep_cycle

    def stop(*arguments):
        if moment == "before" and arguments[-1] == after:
            raise KillError
        own(*arguments)
        if arguments[-1] == after:
            raise KillError

    with monkeypatch.context() as patched:
        patched.setattr(cycles_module, "_keep_cycle", stop)
        with pytest.raises(KillError):
            cycled(tmp_path / "cut")
    (tmp_path / "cut" / "cycles" / f"cycle-{after}" / "recovery").mkdir(parents=True, exist_ok=True)
    steps.clear()
    again, told_again = cycled(tmp_path / "cut")
    assert steps == [1, 2] * (2 - after)
    assert told_again == told
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_work_that_is_half_removed_is_no_work(tokens, tmp_path, monkeypatch):
    """Killed while the checkpoints of a cycle go; what the cycle came to is damaged after that."""

    def cycled(folder):
        net = tiny()
        prune_and_recover(
            net, "magnitude", 0.5, tokens, 4, cycles=2, work_folder=folder, **SMALL
        )  # fmt: skip
        return net.state_dict()

    whole = cycled(tmp_path / "whole")
    own = shutil.rmtree

    def half(path, *arguments, **options):
        if "cycle-1" in str(path) and (notes := list(Path(path).glob("recovery.json"))):
            notes[0].unlink()
            raise KillError
        own(path, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", half)
        with pytest.raises(KillError):
            cycled(tmp_path / "cut")
    (outcome,) = (tmp_path / "cut").glob("cycles/checkpoint-1")
    (outcome / "cut.json").write_text("{")
    again = cycled(tmp_path / "cut")
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert [path.name for path in (tmp_path / "cut").iterdir()] == [".lock"]


def test_cycles_go_on_from_what_an_earlier_version_kept(tokens, tmp_path, monkeypatch):
    def cycled(told):
        net = tiny()
        prune_and_recover(
            net, "magnitude", 0.5, tokens, 4, cycles=2, work_folder=tmp_path, told=told, **SMALL
        )

    own = cycles_module._keep_cycle

    def stop(model, cut, did, place, cycle):
        own(model, cut, [], place, cycle)
        raise KillError

    with monkeypatch.context() as patched:
        patched.setattr(cycles_module, "_keep_cycle", stop)
        patched.setattr(cycles_module, "write_json", lambda path, value: None)
        with pytest.raises(KillError):
            cycled(lambda result: None)
    assert not list(tmp_path.rglob("recoveries.json"))
    told = []
    cycled(told.append)
    assert len(told) == 1


# Studies


@pytest.fixture
def study(small_study, write_study):
    """One grown subject and one point that recovers, with checkpoints; some options change it."""

    def write(**changes):
        values = small_study | {
            "subjects": [{"name": "neox", "model": "gpt-neox-nano", "learning_rate": 4e-3,
                          "config": {"num_hidden_layers": 1}}],
            "training": {"steps": 4, "batch_windows": 1, "checkpoint_every": 3},
            "cuts": [{"method": "magnitude", "amounts": [0.5]}],
            "recovery": {"steps": 3, "batch_windows": 1, "learning_rate": 1e-3,
                         "checkpoint_every": 2},
            "measures": ["loss"],
        }  # fmt: skip
        del values["text"]
        return read_spec(write_study(values | changes))

    return write


def run(spec, out, notice=lambda line: None):
    return run_study(spec, out, CPU, notice)


ADAPTATION = {"steps": 2, "batch_windows": 1, "learning_rate": 1e-3, "checkpoint_every": 1}


def test_a_study_that_could_not_write_trains_nothing_again(study, tmp_path, monkeypatch, steps):
    spec, out = study(adaptation=ADAPTATION), tmp_path / "run"
    whole = run(spec, tmp_path / "whole").records
    expected = list(steps)

    def fails(where, name, at):
        """The run ends where it writes for the `at`-th time."""
        own, calls = getattr(where, name), []

        def once(*arguments):
            calls.append(1)
            return full() if len(calls) == at else own(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(where, name, once)
            with pytest.raises(OSError, match="No space left"):
                run(spec, out)

    steps.clear()
    fails(subjects_module, "write_subject", 1)  # as it was grown
    fails(subjects_module, "write_subject", 2)  # as it was adapted
    fails(Store, "write", 1)
    (work,) = (out / "work").iterdir()
    took = json.loads((work / "cost.json").read_text())
    outcome = run(spec, out)
    assert outcome.failures == {}
    assert steps == expected  # each once, in all these runs
    assert [untimed(record) for record in outcome.records] == [untimed(record) for record in whole]
    (record,) = outcome.records
    assert record["stages"]["recovery"] == took
    assert not list((out / "work").iterdir())


def test_the_work_of_what_is_written_goes_with_the_next_run(study, tmp_path):
    spec, out = study(), tmp_path / "run"
    (record,) = run(spec, out).records
    (subject,) = (out / "subjects").iterdir()
    for name in (subject.name, record["id"], "of-something-else"):
        (out / "work" / name / "checkpoint-3").mkdir(parents=True)
    (out / "items" / "0123").mkdir(parents=True)
    (out / "items" / "0123" / f"{TEMPORARY}x").write_text("half")
    with Store(out).locked():
        assert [path.name for path in (out / "work").iterdir()] == ["of-something-else"]
        assert not list((out / "items").glob("*/*"))
    # A point of which a measure failed is made again, and what is damaged too.
    path = out / "points" / f"{record['id']}.json"
    record["measures"]["loss"] = {"failed": "a cable came loose"}
    Store(out).write({k: v for k, v in record.items() if k != "content_sha256"})
    (subject / "model.safetensors").write_bytes(b"")
    for name in (subject.name, record["id"]):
        (out / "work" / name / "checkpoint-3").mkdir(parents=True)
    with Store(out).locked():
        assert len(list((out / "work").iterdir())) == 3
    path.write_text("{")
    with Store(out).locked():
        assert len(list((out / "work").iterdir())) == 3


@pytest.mark.parametrize("changes", [{}, {"adaptation": ADAPTATION}])
def test_a_subject_that_changed_after_planning_is_not_measured(
    study, model, tmp_path, steps, changes
):
    for name in ("a", "b"):
        shutil.copytree(model, tmp_path / name)
    subjects = [{"name": name, "model": str(tmp_path / name)} for name in ("a", "b")]
    recovery = {"steps": 0, "batch_windows": 1, "learning_rate": 1e-3}
    spec = study(subjects=subjects, recovery=recovery, **changes)
    path = tmp_path / "b" / "model.safetensors"
    before = path.read_bytes()

    def changes_b(line):
        if line.startswith("point 1 of 2"):
            save_file({n: t / 2 for n, t in load_file(path).items()}, path, {"format": "pt"})

    outcome = run(spec, tmp_path / "run", changes_b)
    assert [record["subject"] for record in outcome.records] == ["a"]
    (reason,) = outcome.failures.values()
    assert "subject 'b': its files here are not those that the run was started with" in reason
    path.write_bytes(before)
    again = run(spec, tmp_path / "run")
    assert again.failures == {}
    first, second = (record["measures"]["loss"]["nats_per_token"] for record in again.records)
    assert first == second


# Conversion


def test_convert_keeps_what_came_meanwhile(tmp_path, monkeypatch):
    out, own = tmp_path / "out", convert_module.load_model

    def meanwhile(*arguments, **options):
        out.mkdir()
        (out / "thesis.tex").write_text("years of work")
        return own(*arguments, **options)

    monkeypatch.setattr(convert_module, "load_model", meanwhile)
    with pytest.raises(OSError, match="Directory not empty"):
        convert("gpt-neox-nano", out)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "thesis.tex"]


def test_a_checkpoint_is_not_converted_under_a_run_that_reads_it(tokens, tmp_path):
    checkpoints = [tmp_path / "first.pt", tmp_path / "second.pt"]
    for seed, path in enumerate(checkpoints):
        write_published(build(configuration("biogpt-nano", vocab_size=320), seed=seed), path)
    out = tmp_path / "results"
    made = Path(model_folder(checkpoints[0], tokens, out, print))
    before = (made / "model.safetensors").read_bytes()
    with Store(out).locked():
        assert model_folder(checkpoints[0], tokens, out, print) == str(made)
        with pytest.raises(ValueError, match=r"output_dir: .* is in use by another run"):
            model_folder(checkpoints[1], tokens, out, print)
    assert (made / "model.safetensors").read_bytes() == before
    model_folder(checkpoints[1], tokens, out, print)
    assert (made / "model.safetensors").read_bytes() != before
