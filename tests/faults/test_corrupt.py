"""Files cut short or with one bit turned over: named, set aside or refused, never used."""

import os
import shutil
import signal

import pytest
from harness import (
    Command,
    digests,
    figures,
    flip,
    one_line,
    products,
    prune,
    same_weights,
    train,
    truncate,
)

pytestmark = [pytest.mark.slow, pytest.mark.faults]


def test_points_subjects_and_tokens_of_a_study(home, whole_study):
    hurt = home / "study-hurt"
    shutil.copytree(whole_study, hurt)
    first, second, third = sorted((hurt / "points").glob("*.json"))
    truncate(first)
    text = second.read_text()
    at = text.index('"nats_per_token": ') + len('"nats_per_token": ') + 3
    second.write_text(f"{text[:at]}{(int(text[at]) + 1) % 10}{text[at + 1 :]}")  # still JSON
    (subject,) = (hurt / "subjects").iterdir()
    flip(subject / "model.safetensors", 0.7)
    (data,) = (hurt / "data").iterdir()
    flip(data / "train.bin")
    truncate(hurt / "study.json")
    kept = third.read_bytes()
    told = Command(["run", "s.yaml", "--out", hurt.name], home).whole()
    for broken in (first, second, subject, data, hurt / "study.json"):
        assert f"{broken.relative_to(home)} is broken; set aside as {broken.name}.corrupt-1" in told
        assert broken.with_name(f"{broken.name}.corrupt-1").exists()
    assert third.read_bytes() == kept  # a whole point is not touched
    assert figures(hurt) == figures(whole_study)
    assert products(hurt / "data" / data.name) == products(whole_study / "data" / data.name)


def test_each_file_of_a_studys_checkpoint(home, whole_study):
    """Killed while it grows its subject; of the last checkpoint each file is hurt in its turn."""
    stopped = home / "study-stopped"
    command = Command(["run", "s.yaml", "--out", stopped.name], home)
    command.hurt_when(
        lambda: len(list(stopped.glob("work/*/checkpoint-*/complete.json"))) > 1, signal.SIGKILL
    )
    *_, last = sorted(stopped.glob("work/*/checkpoint-*/complete.json"), key=os.path.getmtime)
    hurt = last.parent / "weights.safetensors"
    flip(hurt)
    told = command.whole()
    aside = f"{hurt.parent.name}.corrupt-1"
    assert f"{hurt.relative_to(home)} is damaged; set aside as {aside}" in told
    assert figures(stopped) == figures(whole_study)


def test_the_files_of_a_training(home, whole_train):
    from resprout.files import first_damage
    from resprout.train.checkpoints import last_complete

    stopped = home / "trained-stopped"
    train(home, stopped.name).hurt_when(
        lambda: len(list(stopped.glob("checkpoints/*/complete.json"))) > 1, signal.SIGKILL
    )
    good = last_complete(stopped / "checkpoints")
    assert good is not None
    for number, name in enumerate(sorted(path.name for path in good.iterdir())):
        for wound in (flip, truncate):  # every file of a checkpoint is seen to be hurt
            copy = home / f"copy-{number}" / good.name
            shutil.copytree(good, copy)
            wound(copy / name)
            assert first_damage(copy, "complete.json") is not None, name
            told = []
            assert last_complete(copy.parent, told.append) is None
            assert len(told) == 1 and (name in told[0] or name == "complete.json")
            shutil.rmtree(copy.parent)
    flip(good / "optimizer.pt")
    truncate(stopped / "training.json") if (stopped / "training.json").exists() else None
    told = train(home, stopped.name).whole()
    assert f"optimizer.pt is damaged; set aside as {good.name}.corrupt-1" in told
    assert same_weights(*(r / "final" / "model.safetensors" for r in (stopped, whole_train)))

    flip(stopped / "final" / "model.safetensors")  # the outcome itself: made again
    told = train(home, stopped.name).whole()
    assert "model.safetensors is damaged; set aside as final.corrupt-1" in told
    assert same_weights(*(r / "final" / "model.safetensors" for r in (stopped, whole_train)))

    flip(stopped / "run.json", 0.3)
    told = train(home, stopped.name).ends(2)
    one_line(told, "run.json", "damaged", "--start_over")


@pytest.mark.parametrize("name", ["train.bin", "val.bin", "train.index.npy", "tokenizer.json",
                                  "manifest.json"])  # fmt: skip
def test_tokens_that_the_user_gives(home, whole_data, model, name, capsys):
    from resprout.cli import main

    hurt = home / f"data-{name}"
    shutil.copytree(whole_data, hurt)
    flip(hurt / name, 0.35)
    commands = [
        train(home, "never", data=str(hurt)).arguments,
        prune(home, str(home / "never"), str(model), str(hurt)).arguments,
        ["eval", str(model), "--measures", "loss", "--data", str(hurt), "-o", str(home / "never")],
    ]
    for arguments in commands:
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        told = capsys.readouterr().err
        assert stop.value.code == 2, told
        one_line(told, f"{hurt.name}/{name}")
        assert not (home / "never").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "cut.safetensors", "cut.json",
                                  "config.json", "sparse.safetensors"])  # fmt: skip
@pytest.mark.parametrize("wound", [flip, truncate])
def test_a_cut_model(home, whole_cut, name, wound, capsys):
    import resprout
    from resprout.cli import main

    hurt = home / f"cut-{name}-{wound.__name__}"
    if name == "sparse.safetensors":
        loaded, tokenizer = resprout.load(whole_cut)
        resprout.save(loaded, resprout.Cut.load(whole_cut), hurt, tokenizer, sparse=True)
        resprout.load(hurt)
    else:
        shutil.copytree(whole_cut, hurt)
    wound(hurt / name)
    for arguments in (
        ["generate", str(hurt), "--prompt", "def", "--max-tokens", "2"],
        ["prune", str(hurt), "--method", "magnitude", "--amount", "0.7", "-o", str(home / "never")],
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        told = capsys.readouterr().err
        assert stop.value.code == 2, told
        one_line(told, hurt.name, name)
        assert not (home / "never").exists()


def test_a_cut_killed_between_its_cycles(home, whole_cut):
    """What a recovery keeps of its first cycle is hurt: set aside, and done again."""
    out = home / "cut-stopped"
    work = home / f".{out.name}.work"
    prune(home, out.name).hurt_when(
        lambda: any(work.glob("cycles/checkpoint-*/complete.json")), signal.SIGKILL
    )
    (kept,) = (path.parent for path in work.glob("cycles/checkpoint-*/complete.json"))
    flip(kept / "cut.json")
    told = prune(home, out.name).whole()
    assert f"{kept / 'cut.json'} is damaged; set aside as {kept.name}.corrupt-1" in told
    names = ["model.safetensors", "cut.safetensors"]
    assert digests(out, names) == digests(whole_cut, names)
