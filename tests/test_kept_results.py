"""Kept results that are hurt: named in one line, set aside, measured again; old ones are read."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch

import resprout
from report_records import make_record, write_run
from resprout.cli.app import main
from resprout.files import TEMPORARY
from resprout.measure.tasks import kept
from resprout.models.sizes import build, configuration
from resprout.report.records import read_run
from resprout.seals import SEAL, sealed
from resprout.study import measuring
from resprout.study.evaluation_folder import EvaluationFolder
from task_records import keep_task

FIGURE = {"value": 7.25, "unit": "nats per token", "items": 3, "protocol": "p", "seconds": 0.5,
          "ci95": [7.0, 7.5], "reason": None}  # fmt: skip
LOSS = {
    "measure": "loss",
    "identity": {"model": "m", "sizes": [1, 2]},
    "started": "2026-01-01T00:00:00+00:00",
    "finished": "2026-01-01T00:01:00+00:00",
    "stage": {"seconds": 0.5, "peak_bytes": 1},
    "environment": {"device": "cpu"},
    "measured": {
        "figures": {"nats_per_token": FIGURE},
        "data_digest": "d",
        "window_tokens": [4, 4, 2],
        "window_nats": [29.5, 28.0, 15.0],
    },
}


@pytest.fixture(scope="module")
def model_folder(tokens, tmp_path_factory):
    """A small model with its tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "whole"
    build(configuration("llama-nano", vocab_size=300), seed=0).save_pretrained(folder)
    tokens.transformers_tokenizer(128).save_pretrained(folder)
    return folder


def swap(old, new):
    """A wound: one place of a file's text is another."""

    def hurt(path):
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return hurt


def cut_short(path):
    path.write_text(path.read_text()[:-40])


def without_seal(path):
    """As earlier versions wrote it."""
    values = json.loads(path.read_text())
    del values[SEAL]
    path.write_text(json.dumps(values))


# A measure of an evaluation


def test_a_measure_is_read_as_it_was_written(tmp_path):
    told, folder = [], EvaluationFolder(tmp_path)
    document = LOSS | {"identity": {"model": "m", "sizes": (1, 2)}, "stage": {2: "a", 10: "b"}}
    folder.write("one", "loss", document)
    path = tmp_path / "models" / "one" / "loss.json"
    for sealed_too in (True, False):
        if not sealed_too:
            without_seal(path)
        found = folder.read("one", "loss", document["identity"], told.append)
        assert found == LOSS | {"stage": {"2": "a", "10": "b"}}
    assert folder.read("one", "loss", {"model": "another"}, told.append) is None
    assert told == []
    folder.write("one", "speed", {k: v for k, v in LOSS.items() if k != "measured"}
                 | {"failed": "RuntimeError: x"})  # fmt: skip
    assert folder.read("one", "speed", LOSS["identity"], told.append) is None and told == []


@pytest.mark.parametrize(
    "hurt",
    [
        swap('"value": 7.25', '"value": 3.25'),  # still JSON: a wrong figure
        swap('"figures"', '"figurer"'),
        swap('"environment"', '"environmenu"'),
        swap('"ci95"', '"ci94"'),
        swap('"model": "m"', '"model": "l"'),
        cut_short,
    ],
)
def test_a_measure_that_is_hurt_is_measured_again(tmp_path, hurt):
    told, folder = [], EvaluationFolder(tmp_path)
    folder.write("one", "loss", LOSS)
    path = tmp_path / "models" / "one" / "loss.json"
    hurt(path)
    assert folder.read("one", "loss", LOSS["identity"], told.append) is None
    (line,) = told
    assert str(path) in line and line.endswith("set aside as loss.json.corrupt-1, measured again")
    assert not path.exists() and path.with_name("loss.json.corrupt-1").exists()


@pytest.mark.parametrize("key", ["figures", "protocol", "window_nats", "finished", "identity"])
def test_older_measures_need_what_is_read_of_them(tmp_path, key):
    told, folder = [], EvaluationFolder(tmp_path)
    folder.write("one", "loss", LOSS)
    path = tmp_path / "models" / "one" / "loss.json"
    without_seal(path)
    swap(f'"{key}"', f'"{key}_"')(path)
    assert folder.read("one", "loss", LOSS["identity"], told.append) is None
    assert len(told) == 1 and key in told[0] and "loss.json.corrupt-1" in told[0]


def test_what_a_killed_run_left_is_cleared_under_the_lock(tmp_path):
    folder = EvaluationFolder(tmp_path / "out")
    own = [folder.path, folder.of_model("one"), folder.tasks_of_model("one")]
    for place in own:
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{TEMPORARY}abc").write_text("half")
        (place / "whole.json").write_text("{}")
    (folder.path / f"{TEMPORARY}folder").mkdir()
    elsewhere = folder.path / "mine" / f"{TEMPORARY}abc"
    elsewhere.parent.mkdir()
    elsewhere.write_text("somebody is writing this")
    with folder.locked():
        assert list(folder.path.rglob(f"{TEMPORARY}*")) == [elsewhere]
        assert all((place / "whole.json").exists() for place in own)


# A task


def keep(folder, **changes):
    return keep_task(folder, "t", "acc", [0, 1], **changes)


def test_a_task_is_read_as_it_was_kept(tmp_path):
    told = []
    record = keep(tmp_path)
    assert SEAL in json.loads((tmp_path / "t.json").read_text()) and SEAL not in record
    assert record["configs"] == {"t": {"2": "a", "10": "b"}}
    assert kept.read_task(tmp_path, "t", told.append) == record
    without_seal(tmp_path / "t.json")
    assert kept.read_if_same(tmp_path, "t", {"model": "m"}, told.append) == record
    assert kept.finished(tmp_path) == {"t": record}
    assert kept.item_scores(tmp_path, "t") == {"t/0/h0": 0.0, "t/1/h1": 1.0} and told == []


@pytest.mark.parametrize(
    ("name", "hurt"),
    [
        ("t.json", swap('"value": 0.5', '"value": 0.7')),  # still JSON: a wrong figure
        ("t.json", swap('"headline"', '"headlinf"')),
        ("t.json", swap('"task": "t"', '"task": "u"')),
        ("t.json", cut_short),
        ("t.samples.jsonl", swap('"acc": 0', '"acc": 1')),
    ],
)
def test_a_task_that_is_hurt_is_measured_again(tmp_path, name, hurt):
    told = []
    summaries = {"t": keep(tmp_path)}
    assert kept.all_there(tmp_path, summaries, told.append) and told == []
    hurt(tmp_path / name)
    assert not kept.all_there(tmp_path, summaries, told.append)
    (line,) = told
    assert str(tmp_path / name) in line
    assert line.endswith("set aside as t.json.corrupt-1, measured again")
    assert (tmp_path / "t.json.corrupt-1").exists()
    assert kept.read_if_same(tmp_path, "t", {"model": "m"}, told.append) is None
    assert len(told) == 1


@pytest.mark.parametrize("key", ["headline", "protocol", "configs", "interval", "metrics"])
def test_older_tasks_need_what_is_read_of_them(tmp_path, key):
    told = []
    keep(tmp_path)
    without_seal(tmp_path / "t.json")
    swap(f'"{key}"', f'"{key}_"')(tmp_path / "t.json")
    assert kept.read_task(tmp_path, "t", told.append) is None
    assert len(told) == 1 and "t.json: not a finished task 't'; set aside" in told[0]


@pytest.mark.parametrize("values", [[], None, {"format": 1, "task": "t", "metrics": {"acc": {}},
                                               "headline": ["acc"], "samples": []}])  # fmt: skip
def test_something_else_under_a_tasks_name(tmp_path, values):
    (tmp_path / "t.json").write_text(json.dumps(values))
    assert kept.read_task(tmp_path, "t") is None
    (tmp_path / "t.json").write_text(json.dumps(sealed(values) if values else values))
    assert kept.read_task(tmp_path, "t") is None


def test_items_of_other_options_are_not_taken_for_those_of_a_measure(tmp_path):
    """A run of other options, killed before its `tasks.json`, leaves its items in their place."""
    summaries = {"t": keep(tmp_path)}
    keep_task(tmp_path, "t", "acc", [], limit=1)
    assert not kept.all_there(tmp_path, summaries)
    assert not kept.all_there(tmp_path / "gone", summaries)


def test_an_evaluation_measures_a_hurt_task_again(model_folder, tmp_path, capsys):
    data, other = tmp_path / "data", tmp_path / "other"
    shutil.copytree(model_folder, other)
    (data / "piqa").mkdir(parents=True)
    rows = [{"goal": f"return {i}", "sol1": f"x = {i}", "sol2": "def f(x)", "label": i % 2}
            for i in range(4)]  # fmt: skip
    for split in ("train", "validation"):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (data / "piqa" / f"{split}.jsonl").write_text(text)
    out = tmp_path / "out"

    def run():
        with pytest.raises(SystemExit) as end:
            main(["eval", str(model_folder), str(other), "--tasks", "piqa", "--task-data",
                  str(data), "--device", "cpu", "-o", str(out)])  # fmt: skip
        told = capsys.readouterr().err
        assert end.value.code == 0, told
        results = json.loads((out / "results.json").read_text())
        assert results["comparisons"]["other"]["tasks"]["piqa"]["items"] == 4
        assert SEAL not in (out / "results.json").read_text()
        return told

    run()
    path = out / "models" / "other" / "tasks" / "piqa.samples.jsonl"
    whole = path.read_text()
    swap('"doc_id": 1', '"doc_id": 5')(path)
    told = run()
    assert f"{path}: not the items" in told and "measured again" in told
    assert "whole: tasks is there already" in told and "other: piqa (1 of 1): acc" in told
    assert path.read_text() == whole
    assert "other: tasks is there already" in run()


def test_a_study_says_which_of_its_tasks_is_hurt(tmp_path, monkeypatch):
    def run_tasks(model, tokenizer, tasks, folder, model_digest, aside):
        keep(folder)
        cut_short(folder / "t.json")
        assert kept.read_if_same(folder, "t", {}, aside) is None

    monkeypatch.setattr(measuring, "run_tasks", run_tasks)
    monkeypatch.setattr(measuring, "weights_digest", lambda model: "d" * 64)
    told = []
    subjects = SimpleNamespace(folder=tmp_path, notice=told.append)
    subject, spec = SimpleNamespace(tokenizer=None), SimpleNamespace(precision="float32")
    device = torch.device("cpu")
    measures = measuring.Measuring(spec, None, subject, subjects, device, {}, SimpleNamespace())
    measures._tasks(None)
    assert len(told) == 1 and "items" in told[0] and "t.json.corrupt-1" in told[0]


# A tokenizer that the user gives


@pytest.mark.parametrize("hurt", [swap('"BPE"', '"BPD"'), cut_short])
def test_a_hurt_tokenizer_is_named(model_folder, tokens, tmp_path, capsys, hurt):
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    hurt(folder / "tokenizer.json")
    with pytest.raises(ValueError, match=r"^tokenizer: that of .*model' is not to be had \("):
        resprout.load(folder)
    capsys.readouterr()
    for command in (
        ["prune", str(folder), "--method", "magnitude", "--amount", ".5"],
        ["train", f"--model={folder}", f"--data_dir={tokens.path}", "--target_tokens=64",
         "--block_size=16", "--batch_size=1", "--grad_accum=1"],
    ):  # fmt: skip
        out = "--out_dir" if command[0] == "train" else "-o"
        with pytest.raises(SystemExit) as end:
            main([*command, "--device", "cpu", out, str(tmp_path / "never")])
        told = capsys.readouterr().err
        assert end.value.code == 2 and told.count("\n") == 1, told
        assert str(folder) in told and not (tmp_path / "never").exists()


# A failure of a study's point


@pytest.mark.parametrize("content", ['{"point": "p", "fail', "[]", '{"point": "p"}', "\0"])
def test_a_hurt_failure_hides_nothing(tmp_path, content):
    folder = write_run(tmp_path, [make_record("ada", 0, 3.0)], missing=["x"])
    for identity in ("ada-0-0", "x"):
        (folder / "points" / f"{identity}.failed.json").write_text(content)
    run = read_run(folder)
    assert len(run.records) == 1 and run.missing == 1
    assert list(run.failures) == [f"{i}.failed.json, not used" for i in ("ada-0-0", "x")]
    assert all(i in why for i, why in zip(("ada-0-0", "x"), run.failures.values(), strict=True))
