"""Whole studies, small: every clause of a record, nothing lost, nothing done twice."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import resprout
from clocks import CLOCKS, untimed
from resprout.files import TEMPORARY
from resprout.models.sizes import build, configuration
from resprout.study import measuring
from resprout.study.engines import workplace
from resprout.study.run import run_study
from resprout.study.spec import read_spec
from text_files import write_documents

CPU = torch.device("cpu")


def run(file, out):
    lines = []
    return run_study(read_spec(file), out, CPU, lines.append), lines


def put(values, path, value):
    """One value of a nested study file."""
    for key in path[:-1]:
        values = values[key]
    values[path[-1]] = value


def without_clocks(record):
    """A record's figures, without what differs from run to run."""
    kept = {k: v for k, v in record.items() if k not in ("stages", "environment")}
    return json.dumps(untimed(kept, CLOCKS), sort_keys=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, documents):
    """One small study, run once for all tests that only look at it."""
    import yaml

    folder = tmp_path_factory.mktemp("finished")
    write_documents(folder, documents)
    values = {
        "study": "small",
        "data": {"source": str(folder / "text"), "held_out": 0.2, "train_tokenizer": 300,
                 "window": 16},
        "subjects": [
            {"name": "bio", "model": "biogpt-nano", "learning_rate": 4e-3},
            {"name": "neox", "model": "gpt-neox-nano", "learning_rate": 4e-3},
        ],
        "training": {"steps": 4, "batch_windows": 2},
        "cuts": [{"method": "magnitude", "amounts": [0, 0.5, 0.97], "dead_threshold": 0.95}],
        "recovery": {"steps": 2, "batch_windows": 2, "learning_rate": 1e-3},
        "measures": ["loss", "text"],
        "text": {"new_tokens": 4, "prompts": {"code": "def function", "prose": "return x"}},
    }  # fmt: skip
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(values))
    outcome, lines = run(file, folder / "run")
    assert outcome.failures == {}
    return file, folder / "run", outcome, lines


def test_a_record_has_all_that_it_promises(finished):
    _, out, outcome, _ = finished
    assert len(outcome.records) == 6
    for path in (out / "points").glob("*.json"):
        record = json.loads(path.read_text())
        assert record["id"] == path.stem
        assert record["study"] == "small"
        assert record["subject"] in ("bio", "neox")
        assert (record["method"], record["unit"], record["protocol"]) == (
            "magnitude", "weight", "fair",
        )  # fmt: skip
        assert record["seed"] == 0
        parameters = record["parameters"]
        assert parameters["total"] >= parameters["surviving"] >= parameters["nonzero"]
        if not record["dead_units"]:
            gone = parameters["total"] - parameters["surviving"]
            assert record["achieved"] == pytest.approx(gone / parameters["prunable"])
            assert record["achieved"] == pytest.approx(record["amount"], abs=1e-5)
        measures = record["measures"]
        for name in ("loss", "loss_before_recovery"):
            assert 3 < measures[name]["unigram_nats_per_token"] < 6
            wanted = {"nats_per_token", "perplexity", "bits_per_byte", "ci95", "tokens", "windows"}
            assert wanted <= set(measures[name])
            low, high = measures[name]["ci95"]
            assert low <= measures[name]["nats_per_token"] <= high
        assert len(measures["text"]["samples"]) == 2
        assert {"distinct_2", "repetition_3"} <= set(measures["text"])
        wanted = {"train", "cut", "loss_before_recovery", "recovery", "loss", "text"}
        assert set(record["stages"]) == wanted
        for cost in record["stages"].values():
            assert cost["seconds"] >= 0
            assert cost["peak_bytes"] > 1e7
        assert {"subject", "tokens", "tokenizer"} == set(record["digests"])
        assert record["environment"]["libraries"]["torch"] == torch.__version__
        assert str(Path.home()) not in path.read_text()


def test_neurons_die_at_high_amounts(finished):
    deepest = [r for r in finished[2].records if r["amount"] == 0.97 and r["subject"] == "bio"]
    assert deepest[0]["dead_units"]
    assert deepest[0]["achieved"] > 0.97


def test_every_level_starts_from_one_subject_and_recovers_alike(finished):
    for subject in ("bio", "neox"):
        mine = [r for r in finished[2].records if r["subject"] == subject]
        assert len({r["digests"]["subject"] for r in mine}) == 1
        assert len({json.dumps(r["identity"]["recovery"]) for r in mine}) == 1
        assert all(r["recovered"] for r in mine)  # the uncut one too
        assert mine[0]["amount"] == 0
        before = mine[0]["measures"]["loss_before_recovery"]["nats_per_token"]
        assert before != mine[0]["measures"]["loss"]["nats_per_token"]


def test_both_subjects_see_the_same_tokens(finished):
    records = finished[2].records
    assert len({r["digests"]["tokens"] for r in records}) == 1
    keys = ("batch_windows", "beta1", "beta2", "gradient_clip", "steps", "warmup_steps",
            "weight_decay")  # fmt: skip
    recipes = [r["identity"]["subject"]["training"] for r in records]
    assert len({json.dumps([recipe[k] for k in keys]) for recipe in recipes}) == 1


def test_a_grown_subject_loads_and_cuts(finished):
    for folder in (finished[1] / "subjects").iterdir():
        model, tokenizer = resprout.load(folder)
        assert len(tokenizer) == 300
        assert resprout.prune(model, "magnitude", 0.3).achieved == pytest.approx(0.3, abs=1e-4)


def test_tables_are_derived_from_the_points(finished):
    _, out, outcome, _ = finished
    with (out / "results.csv").open() as file:
        table = list(csv.DictReader(file))
    by_id = {r["id"]: r for r in outcome.records}
    losses = [r for r in table if (r["measure"], r["figure"]) == ("loss", "nats_per_token")]
    assert len(losses) == 6
    for row in losses:
        loss = by_id[row["id"]]["measures"]["loss"]
        assert float(row["value"]) == loss["nats_per_token"]
        assert [float(row["low95"]), float(row["high95"])] == loss["ci95"]
    metadata = json.loads((out / "metadata.json").read_text())
    assert metadata["points"] == [r["id"] for r in outcome.records]
    assert len(metadata["environments"]) == 1


def test_run_again_does_nothing_again(finished):
    file, out, outcome, _ = finished
    stamps = {p: p.stat().st_mtime_ns for p in (out / "points").iterdir()}
    again, lines = run(file, out)
    assert again.computed == 0
    assert lines == ["6 of 6 points are there already"]
    assert stamps == {p: p.stat().st_mtime_ns for p in (out / "points").iterdir()}
    assert again.records == outcome.records


@pytest.mark.slow
def test_run_elsewhere_gives_the_same_figures(finished, tmp_path):
    file, _, outcome, _ = finished
    again, _ = run(file, tmp_path / "elsewhere")
    assert [without_clocks(r) for r in again.records] == [
        without_clocks(r) for r in outcome.records
    ]


def test_a_lost_and_a_broken_point_are_done_again(finished, tmp_path):
    import shutil

    file, out, outcome, _ = finished
    copy = tmp_path / "run"
    shutil.copytree(out, copy)
    lost, broken, other, *_ = [copy / "points" / f"{r['id']}.json" for r in outcome.records]
    lost.unlink()
    broken.write_text(broken.read_text()[:-100])
    other.write_text(json.dumps({"id": "somebody else's"}))
    (copy / "points" / f"{TEMPORARY}xyz").write_text("half written")
    (copy / ".env.local").write_text("the user's own")
    (copy / "points" / ".notes.txt").write_text("the user's own")
    again, _ = run(file, copy)
    assert again.computed == 3
    assert [without_clocks(r) for r in again.records] == [
        without_clocks(r) for r in outcome.records
    ]
    assert broken.with_name(f"{broken.name}.corrupt-1").is_file()  # set aside, not lost
    assert [path.name for path in (copy / "points").glob(".*")] == [".notes.txt"]
    assert (copy / ".env.local").is_file()


def test_only_what_changed_is_done_again(finished, small_study, write_study, tmp_path):
    import shutil

    import yaml

    file, out, _, _ = finished
    shutil.copytree(out, tmp_path / "run")
    values = yaml.safe_load(file.read_text())
    values["cuts"][0]["amounts"] = [0, 0.25, 0.5]
    again, lines = run(write_study(values), tmp_path / "run")
    assert again.computed == 2  # 25 % of both subjects
    assert not [line for line in lines if line.startswith(("growing", "tokenising"))]
    assert [r["amount"] for r in again.records] == [0, 0.25, 0.5] * 2


def test_paper_leaves_the_uncut_model_alone(small_study, write_study, tmp_path):
    small_study["protocol"] = "paper"
    small_study["subjects"] = small_study["subjects"][:1]
    small_study["cuts"][0]["amounts"] = [0, 0.5]
    small_study["measures"] = ["loss"]
    outcome, _ = run(write_study(small_study), tmp_path / "run")
    uncut, cut = outcome.records
    assert (uncut["recovered"], cut["recovered"]) == (False, True)
    measured = uncut["measures"]
    assert untimed(measured["loss"], CLOCKS) == untimed(measured["loss_before_recovery"], CLOCKS)
    assert cut["parameters"]["prunable"] > 300 * 72  # the head is among them
    assert "text" not in cut["measures"]


@pytest.mark.slow
def test_several_seeds(small_study, write_study, tmp_path):
    small_study["seeds"] = [0, 1]
    small_study["subjects"] = small_study["subjects"][1:]
    small_study["cuts"][0]["amounts"] = [0, 0.5]
    outcome, _ = run(write_study(small_study), tmp_path / "run")
    assert [(r["seed"], r["amount"]) for r in outcome.records] == [
        (0, 0),
        (0, 0.5),
        (1, 0),
        (1, 0.5),
    ]
    losses = {r["measures"]["loss"]["nats_per_token"] for r in outcome.records}
    assert len(losses) == 4


def test_a_trained_subject_needs_no_growing(shared, small_study, write_study, tmp_path):
    del small_study["training"], small_study["data"]["train_tokenizer"]
    small_study["subjects"] = [{"name": "stories", "model": str(shared / "models" / "stories260K")}]
    outcome, _ = run(write_study(small_study), tmp_path / "run")
    assert outcome.failures == {}
    assert [r["amount"] for r in outcome.records] == [0, 0.5, 0.9]


def test_a_failing_measure_is_recorded_as_failed(small_study, write_study, tmp_path, monkeypatch):
    def breaks(*arguments):
        raise RuntimeError("no ink")

    monkeypatch.setattr(measuring, "measure_text", breaks)
    small_study["subjects"] = small_study["subjects"][1:]
    file = write_study(small_study)
    outcome, _ = run(file, tmp_path / "run")
    assert list(outcome.failures.values()) == ["RuntimeError: no ink"] * 3
    assert len(outcome.records) == 3
    for path in (tmp_path / "run" / "points").glob("*.json"):
        text = json.loads(path.read_text())["measures"]["text"]
        assert list(text) == ["failed"]
    monkeypatch.undo()
    outcome, _ = run(file, tmp_path / "run")  # a failed measure is tried again
    assert (outcome.computed, outcome.failures) == (3, {})


def test_a_subject_that_cannot_be_grown_is_tried_once(
    small_study, write_study, tmp_path, monkeypatch
):
    from resprout.study.subjects import Subjects

    tried = []

    def breaks(self, subject, seed):
        tried.append(subject.name)
        if subject.name == "bio":
            raise FloatingPointError("training loss is nan at step 3")
        return real(self, subject, seed)

    real = Subjects.get
    monkeypatch.setattr(Subjects, "get", breaks)
    outcome, _ = run(write_study(small_study), tmp_path / "run")
    assert tried == ["bio", "neox"]
    assert len(outcome.failures) == len(outcome.records) == 3


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("text", "prompts", "long"), "x = 1\n" * 200, r"text\.prompts\.long: needs \d+ positions"),
        (("text", "prompts", "empty"), "", r"text\.prompts: 'empty': got ''"),
        (("text", "new_tokens"), 127, r"new tokens, allowed are the 128 of 'bio'"),
    ],
)
def test_what_only_the_tokens_tell_is_refused_before_training(
    small_study, write_study, tmp_path, path, value, message
):
    put(small_study, path, value)
    with pytest.raises(ValueError, match=message):
        run(write_study(small_study), tmp_path / "run")
    assert not (tmp_path / "run" / "subjects").exists()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("data", "held_out"), 0.999999, r"data\.held_out: .* leaves the train split empty"),
        (("data", "source"), "latin", r"data\.source: b\.txt .*UTF-8"),
        (("text", "new_tokens"), 128, r"text\.new_tokens: got 128, .*'bio' has 128 positions"),
        (("subjects", 1), "bare", r"subjects\.1\.model: '.*bare' has no tokenizer"),
        (("data", "source"), ".", r"out: '.*run' lies in the text of data\.source"),
    ],
)
def test_text_that_cannot_be_used_leaves_nothing(
    small_study, write_study, tmp_path, path, value, message
):
    """By whatever way a study is run: a look that comes before is the command's alone."""
    (tmp_path / "latin").mkdir()
    (tmp_path / "latin" / "b.txt").write_bytes(b"caf\xe9 " * 100)
    if value == "bare":
        build(configuration("gpt2-nano", vocab_size=300), seed=0).save_pretrained(tmp_path / value)
        value = {"name": value, "model": str(tmp_path / value)}
    elif path[-1] == "source":
        value = str(tmp_path / value)
    put(small_study, path, value)
    with pytest.raises(ValueError, match=message):
        run(write_study(small_study), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_failing_point_leaves_the_others(small_study, write_study, tmp_path, monkeypatch):
    small_study["subjects"] = small_study["subjects"][1:]
    file = write_study(small_study)
    real = workplace.run_point

    def fails_once(spec, point, *rest):
        if point.amount == 0.5:
            raise RuntimeError("a cable came loose")
        return real(spec, point, *rest)

    monkeypatch.setattr(workplace, "run_point", fails_once)
    outcome, _ = run(file, tmp_path / "run")
    assert [r["amount"] for r in outcome.records] == [0, 0.9]
    assert list(outcome.failures.values()) == ["RuntimeError: a cable came loose"]
    assert len(list((tmp_path / "run" / "points").glob("*.failed.json"))) == 1
    monkeypatch.undo()
    outcome, _ = run(file, tmp_path / "run")
    assert outcome.computed == 1
    assert outcome.failures == {}
    assert not list((tmp_path / "run" / "points").glob("*.failed.json"))


def test_a_folder_of_another_study_is_refused(finished, small_study, write_study):
    small_study["study"] = "another"
    with pytest.raises(ValueError, match="holds the study 'small', not 'another'"):
        run(write_study(small_study), finished[1])


def test_a_folder_that_cannot_be_written_is_refused(small_study, write_study, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"out: .* cannot be written"):
        run(write_study(small_study), tmp_path / "file" / "run")


def test_one_run_at_a_time(finished):
    from resprout.study.store import Store

    file, out, _, _ = finished
    with Store(out).locked(), pytest.raises(ValueError, match="in use by another run"):
        run(file, out)


@pytest.mark.slow  # as tests/faults; what a kill leaves is looked at by the fast ones below
@pytest.mark.parametrize("moment", ["growing neox", "point 2 of 6"])
def test_killed_anywhere_it_continues(finished, tmp_path, moment):
    """SIGKILL as a real process, at a line that it prints; then the same figures as undisturbed."""
    file, _, outcome, _ = finished
    out = tmp_path / "run"
    command = [sys.executable, "-m", "resprout", "run", str(file), "--out", str(out)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    for line in process.stdout:
        if line.startswith(moment):
            time.sleep(0.2)
            os.kill(process.pid, signal.SIGKILL)
            break
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    done = len(list((out / "points").glob("[0-9a-f]*.json")))
    assert done < 6
    again, _ = run(file, out)
    assert again.computed == 6 - done
    assert [without_clocks(r) for r in again.records] == [
        without_clocks(r) for r in outcome.records
    ]


@pytest.mark.slow
def test_broken_kept_files_are_set_aside_and_made_again(finished, tmp_path):
    import shutil

    file, out, outcome, _ = finished
    copy = tmp_path / "run"
    shutil.copytree(out, copy)
    shutil.rmtree(copy / "points")
    (copy / "points").mkdir()
    data = next((copy / "data").iterdir()) / "train.bin"
    data.write_bytes(b"\0" * data.stat().st_size)
    for subject in list((copy / "subjects").iterdir()):
        weights = bytearray((subject / "model.safetensors").read_bytes())
        weights[-4000:] = bytes(4000)
        (subject / "model.safetensors").write_bytes(weights)
    again, lines = run(file, copy)
    assert sum("is broken; set aside" in line for line in lines) == 3
    assert [without_clocks(r) for r in again.records] == [
        without_clocks(r) for r in outcome.records
    ]


def test_other_tokens_are_other_points(shared, small_study, write_study, tmp_path):
    """The tokenizer of a local model changes: its points are done again, on its new tokens."""
    import shutil

    model = tmp_path / "model"
    model.mkdir()
    for part in (shared / "models" / "stories260K").iterdir():
        shutil.copyfile(part, model / part.name)
    del small_study["training"], small_study["data"]["train_tokenizer"]
    small_study["subjects"] = [{"name": "stories", "model": str(model)}]
    small_study["measures"] = ["loss"]
    small_study["cuts"][0]["amounts"] = [0]
    first, _ = run(write_study(small_study), tmp_path / "run")
    words = json.loads((model / "tokenizer.json").read_text())
    words["model"]["merges"] = words["model"]["merges"][:-50]
    (model / "tokenizer.json").write_text(json.dumps(words))
    second, _ = run(write_study(small_study), tmp_path / "run")
    assert second.computed == 1
    assert first.records[0]["digests"]["tokens"] != second.records[0]["digests"]["tokens"]


def test_a_model_with_missing_weights_is_refused(shared, tmp_path):
    import shutil

    for part in (shared / "models" / "stories260K").iterdir():
        shutil.copyfile(part, tmp_path / part.name)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 9}))
    with pytest.raises(ValueError, match="36 missing keys"):
        resprout.load(tmp_path)
