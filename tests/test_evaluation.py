"""`resprout eval`: every measure with its figures, kept, compared, refused; as a user meets it."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import resprout
from resprout.cli.app import main
from resprout.measure.drawn import by_document
from resprout.measure.figure import Measured
from resprout.measure.significance import paired_difference
from resprout.models.sizes import build, configuration
from resprout.study import evaluation

QUICK = ("--new-tokens", "4", "--batches", "1,2", "--prompt-tokens", "6", "--repeats", "5",
         "--warmup", "1", "--idle-seconds", "0.05", "--text-tokens", "6", "--prompts", "five",
         "--window", "32", "--device", "cpu")  # fmt: skip
SPEED = ("--new-tokens", "2", "--batches", "1", "--prompt-tokens", "3", "--repeats", "1",
         "--warmup", "1", "--device", "cpu")  # fmt: skip


@pytest.fixture(scope="module")
def whole(tokens, tmp_path_factory):
    """A small model in a folder, with its tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "whole"
    model = build(configuration("llama-nano", vocab_size=300), seed=0).eval()
    model.save_pretrained(folder)
    tokens.transformers_tokenizer(128).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def smaller(whole):
    """It without half of its GLU neurons."""
    model, tokenizer = resprout.load(whole)
    cut = resprout.prune(model, "glu-maw", 0.5, cut="remove")
    resprout.save(model, cut, whole.parent / "smaller", tokenizer=tokenizer)
    return whole.parent / "smaller"


@pytest.fixture(scope="module")
def piqa(tmp_path_factory):
    """Rows of one task, in the layout of the benchmarks folder."""
    folder = tmp_path_factory.mktemp("benchmarks")
    (folder / "piqa").mkdir()
    rows = [
        {"goal": f"return {i}", "sol1": f"x = {i}", "sol2": "def f(x)", "label": i % 2}
        for i in range(8)
    ]
    for split in ("train", "validation"):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "piqa" / f"{split}.jsonl").write_text(text)
    return folder


def run(capsys, *arguments):
    """(exit code, standard output, standard error) of the command."""
    with pytest.raises(SystemExit) as end:
        main(["eval", *map(str, arguments)])
    return (end.value.code, *capsys.readouterr())


def read(path):
    return json.loads(path.read_text())


def test_every_measure_of_a_model_and_its_cut(whole, smaller, piqa, text_folder, tmp_path, capsys):
    out = tmp_path / "out"
    command = (whole, smaller, "-o", out, "--measures", "loss,tasks,speed,text,energy",
               "--tasks", "piqa", "--task-data", piqa, "--data", text_folder, *QUICK)  # fmt: skip
    code, said, told = run(capsys, *command)
    assert code == 0, told
    results = read(out / "results.json")
    assert [m["name"] for m in results["models"]] == ["whole", "smaller"]
    assert [m["percentage"] for m in results["models"]] == [0, 50]
    assert results["models"][1]["method"] == "glu-maw" and results["failures"] == {}
    for model in results["models"]:
        assert list(model["measures"]) == ["loss", "tasks", "speed", "text", "energy"]
        for measure, found in model["measures"].items():
            assert found["figures"]
            for name, figure in found["figures"].items():
                where = f"{measure}/{name}"
                assert set(figure) == {
                    "value", "unit", "ci95", "items", "protocol", "seconds", "reason",
                }, where  # fmt: skip
                assert figure["unit"] and figure["protocol"] and figure["seconds"] >= 0, where
                assert figure["items"] > 0 or figure["value"] is None, where
                if figure["value"] is None or figure["ci95"] is None:
                    assert figure["reason"], where
                else:
                    low, high = figure["ci95"]
                    assert low <= figure["value"] <= high, where
                shown = where if figure["value"] is not None else f"none ({figure['reason']})"
                assert shown in said
    energy = results["models"][0]["measures"]["energy"]["figures"]
    if (joules := energy["batch1/prompt6/new4/joules_per_token"])["value"] is None:
        assert "counter" in joules["reason"]  # this machine has none: absent, never estimated
    ratio = results["models"][1]["measures"]["speed"]["figures"][
        "batch1/prompt6/new4/tokens_per_second/ratio"
    ]
    assert ratio["ci95"] is not None

    for name in ("whole", "smaller"):  # what is compared is exact
        kept = read(out / "models" / name / "loss.json")
        assert kept["measured"]["precision"]["precision"] == "fp32"
        assert kept["identity"]["options"]["precision"] == "fp32"
    compared = results["comparisons"]["smaller"]
    nats = [read(out / "models" / n / "loss.json")["measured"] for n in ("smaller", "whole")]
    sums = (nats[0]["window_nats"], nats[1]["window_nats"], nats[0]["window_tokens"])
    expected = paired_difference(*(by_document(s, nats[0]["window_documents"]) for s in sums))
    assert compared["loss"]["difference"] == pytest.approx(expected.value)
    assert compared["loss"]["ci95"] == pytest.approx([expected.low, expected.high])
    assert compared["tasks"]["piqa"]["items"] == 8
    assert compared["tasks"]["piqa"]["p_holm"] == compared["tasks"]["piqa"]["p"]
    assert "smaller against whole: loss" in said

    with (out / "whole_results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["pruning_percentage"] for row in rows} == {"0", "50"}
    assert read(out / "whole_metadata.json")["pruning_methods"] == ["glu-maw"]
    assert "| 50% |" in (out / "whole_summary.md").read_text()
    with (out / "figures.csv").open() as file:
        tidy = list(csv.DictReader(file))
    assert len(tidy) == sum(len(f["figures"]) for m in results["models"]
                            for f in m["measures"].values())  # fmt: skip

    def never(*_, **__):
        raise AssertionError("measured again")

    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and p.name != ".lock"}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("measure_loss", "run_tasks", "measure_speed", "measure_text",
                     "measure_energy", "load_model"):  # fmt: skip
            patch.setattr(evaluation, name, never)
        code, _, told = run(capsys, *command)
    assert code == 0 and "loss is there already" in told
    assert before == {p: p.read_bytes() for p in before}


def test_stopped_it_goes_on_and_a_failure_is_recorded(
    whole, text_folder, tmp_path, capsys, monkeypatch
):
    out = tmp_path / "out"
    command = (whole, "-o", out, "--measures", "loss,speed,text", "--data", text_folder, *SPEED,
               "--text-tokens", "4")  # fmt: skip
    real = evaluation.measure_speed

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation, "measure_speed", stopped)
    code, _, told = run(capsys, *command)
    assert code == 130 and "what was measured is kept" in told and not told.count("Traceback")
    first = (out / "models" / "whole" / "loss.json").read_bytes()

    def fails(*_, **__):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(evaluation, "measure_speed", fails)
    code, said, told = run(capsys, *command)
    assert code == 1 and "failed: whole, speed: RuntimeError: out of luck" in told
    assert (out / "models" / "whole" / "loss.json").read_bytes() == first
    results = read(out / "results.json")
    assert results["models"][0]["measures"]["speed"] == {"failed": "RuntimeError: out of luck"}
    assert "figures" in results["models"][0]["measures"]["text"]  # the others went on
    assert "out of luck" in said

    monkeypatch.setattr(evaluation, "measure_speed", real)
    kept = out / "models" / "whole" / "text.json"
    kept.write_text(kept.read_text()[:-200])  # broken: set aside, measured again
    code, _, told = run(capsys, *command)
    assert code == 0 and "whole: text\n" in told and "whole: loss is there already" in told
    assert len(list(kept.parent.glob("text.json.corrupt-1"))) == 1
    assert read(out / "results.json")["failures"] == {}


def test_other_weights_or_options_are_measured_again(whole, text_folder, tmp_path, capsys):
    out, model = tmp_path / "out", tmp_path / "model"
    import shutil

    shutil.copytree(whole, model)
    command = [model, "-o", out, "--measures", "loss", "--data", text_folder]
    assert run(capsys, *command)[0] == 0
    first = read(out / "results.json")["models"][0]["measures"]["loss"]["figures"]
    assert run(capsys, *command, "--window", "16")[0] == 0
    second = read(out / "results.json")["models"][0]["measures"]["loss"]["figures"]
    assert first["perplexity"]["items"] < second["perplexity"]["items"]
    weights = load_file(model / "model.safetensors")
    weights["lm_head.weight"] *= 0
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    assert run(capsys, *command)[0] == 0
    third = read(out / "results.json")["models"][0]["measures"]["loss"]["figures"]
    assert third["nats_per_token"]["value"] == pytest.approx(np.log(300))


def test_from_python_the_same_figures(whole, text_folder, tmp_path, capsys):
    assert run(capsys, whole, "-o", tmp_path / "out", "--measures", "loss,text", "--data",
               text_folder, "--prompts", "five")[0] == 0  # fmt: skip
    kept = read(tmp_path / "out" / "results.json")["models"][0]["measures"]
    model, tokenizer = resprout.load(whole)
    from resprout.measure.text import FIVE, TextOptions

    found = resprout.evaluate(
        model, tokenizer, "loss,text", data=text_folder, text=TextOptions(FIVE)
    )
    assert all(isinstance(one, Measured) for one in found.values())
    for name, one in found.items():
        for figure, value in one.figures.items():
            if figure != "tokens_per_second":
                assert value.value == kept[name]["figures"][figure]["value"], figure
    only = resprout.evaluate(model, measures="speed", speed=_quick_speed())
    assert only["speed"].figures["model_bytes"].value > 0
    with pytest.raises(ValueError, match="tokenizer: got none; loss needs"):
        resprout.evaluate(model, measures=["loss"])
    with pytest.raises(ValueError, match="did you mean 'speed'"):
        resprout.evaluate(model, tokenizer, "sped")


def _quick_speed():
    from resprout.measure.speed import SpeedOptions

    return SpeedOptions(batches=(1,), prompt_tokens=(3,), new_tokens=(2,), repeats=1, warmup=1)


def test_several_series_get_tables_of_their_own(whole, smaller, piqa, tmp_path, capsys):
    model, tokenizer = resprout.load(whole)
    cut = resprout.prune(model, "magnitude", 0.5)
    resprout.save(model, cut, tmp_path / "masked", tokenizer=tokenizer)
    code, _, told = run(capsys, whole, smaller, tmp_path / "masked", "-o", tmp_path / "out",
                        "--tasks", "piqa", "--task-data", piqa, "--name", "mine")  # fmt: skip
    assert code == 0, told
    names = sorted(p.name for p in (tmp_path / "out").glob("*_results.csv"))
    assert names == ["mine_glu_maw_results.csv", "mine_magnitude_results.csv"]


def refused(capsys, *arguments):
    """The one line that the command is refused with; nothing may be written."""
    code, said, told = run(capsys, *arguments)
    assert code == 2 and said == "" and told.count("\n") == 1, told
    assert told.startswith("resprout: error: ")
    return told


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--measures", "los"),
            "measures: got 'los', allowed are loss, tasks, speed, text, energy"
            "; did you mean 'loss'?",
        ),
        (("--measures", ","), "measures: got ','"),
        (("--measures", "loss", "--tasks", "piqa"), "tasks: got 'piqa', but the measures are loss"),
        (("--tasks", "piqua", "--task-data", "{piqa}"), "did you mean 'piqa'"),
        (("--tasks", "piqa,boolq", "--task-data", "{piqa}"), "boolq"),
        (("--tasks", "piqa", "--task-data", "nowhere"), "'nowhere' is not a folder"),
        (("--tasks", "piqa", "--task-data", "{piqa}", "--limit", "0"), "limit: got 0"),
        (("--tasks", "piqa", "--task-data", "{piqa}", "--batch-size", "0"), "got 0"),
        (("--measures", "loss", "--limit", "3"), "limit: got 3, but it belongs to tasks"),
        (("--measures", "text", "--repeats", "5"), "repeats: got 5, but it belongs to speed"),
        (("--measures", "speed", "--repeats", "0"), "repeats: got 0, allowed is 1 or more"),
        (("--measures", "speed", "--batches", "1,x"), "batches: got '1,x', allowed are whole"),
        (("--measures", "speed", "--batches", "0"), "batches: got 0"),
        (("--measures", "speed", "--new-tokens", "500"), "128 positions"),
        (("--measures", "speed", "--compile", "cuda-graphs", "--device", "cpu"), "cuda-graphs"),
        (("--measures", "loss", "--data", "nowhere"), "data: got 'nowhere'"),
        (("--measures", "loss", "--data", "{empty}"), "data: "),
        (
            ("--measures", "loss", "--window", "500"),
            "window: got 500, allowed are up to the 128 positions of",
        ),
        (("--measures", "loss", "--stride", "200"), "stride: got 200"),
        (("--measures", "loss", "--precision", "fp8"), "precision: got 'fp8'"),
        (("--measures", "text", "--prompts", "twelf"), "did you mean 'twelve'"),
        (("--measures", "text", "--prompts", "none.json"), "none.json"),
        (("--measures", "text", "--prompts", "{long}"), "positions"),
        (("--measures", "text", "--text-tokens", "500"), "positions"),
        (("--measures", "text", "--text-tokens", "0"), "new_tokens: got 0"),
        (("--measures", "text", "--seeds", "1,1"), "seeds"),
        (("--measures", "text", "--temperature", "-1"), "temperature: got -1"),
        (("--measures", "loss", "--tokenizer", "nowhere/at-all"), "tokenizer: 'nowhere/at-all'"),
        (("--device", "tpu"), "device: got 'tpu'"),
        (("--dtype", "int4"), "dtype: got 'int4'"),
        (("--against", "./nowhere"), "'./nowhere'"),
        (("--name", "a/b", "--measures", "speed"), "name: got 'a/b'"),
        (("--tolerance", "2"), "tolerance: got 2"),
    ],
)
def test_what_cannot_be_done_is_refused(whole, piqa, tmp_path, capsys, options, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "long.json").write_text(json.dumps({"a": "x = 1\n" * 500}))
    places = {"piqa": piqa, "empty": tmp_path / "empty", "long": tmp_path / "long.json"}
    filled = [option.format(**places) for option in options]
    assert said in refused(capsys, whole, "-o", tmp_path / "out", *filled)
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_of_another_model_is_refused(tmp_path, whole, capsys):
    few = build(configuration("gpt-neox-nano", vocab_size=100), seed=0)
    few.save_pretrained(tmp_path / "few")
    capsys.readouterr()
    told = refused(capsys, tmp_path / "few", "-o", tmp_path / "out", "--tokenizer", whole)
    assert "its ids go up to 299, the model knows those up to 99" in told
    told = refused(capsys, tmp_path / "few", "-o", tmp_path / "out")
    assert "holds none; give --tokenizer" in told
    code, _, told = run(capsys, tmp_path / "few", "-o", tmp_path / "out", "--measures", "speed",
                        *SPEED)  # fmt: skip
    assert code == 0, told  # speed needs none


def test_a_folder_of_something_else_is_left_alone(tmp_path, whole, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert "which is no evaluation" in refused(capsys, whole, "-o", tmp_path, "--measures", "speed")
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    assert "is a file" in refused(capsys, whole, "-o", tmp_path / "mine.txt", *SPEED,
                                  "--measures", "speed")  # fmt: skip


def test_a_study_takes_every_measure(small_study, write_study, piqa, tmp_path):
    from resprout.study.run import run_study
    from resprout.study.spec import read_spec

    small_study["subjects"] = small_study["subjects"][1:]
    small_study["cuts"][0]["amounts"] = [0, 0.5]
    small_study["measures"] = ["loss", "tasks", "speed", "text", "energy"]
    small_study["tasks"] = {"names": "piqa", "data": str(piqa), "limit": 4}
    small_study["speed"] = {"batches": [1], "prompt_tokens": [3], "new_tokens": [2], "repeats": 1,
                            "warmup": 1}  # fmt: skip
    small_study["energy"] = {"idle_seconds": 0.05}
    small_study["text"]["prompts"] = {"code": ["def function", "class A"], "prose": "return x"}
    import torch

    spec = read_spec(write_study(small_study))
    outcome = run_study(spec, tmp_path / "run", torch.device("cpu"), lambda line: None)
    assert outcome.failures == {}
    uncut, cut = outcome.records
    for record in (uncut, cut):
        figures = {name: record["measures"][name]["figures"] for name in spec.measures}
        assert figures["tasks"]["piqa/acc"]["items"] == 4
        assert figures["loss"]["word_perplexity"]["value"] > 1
        assert "batch1/prompt3/new2/tokens_per_second" in figures["speed"]
        assert record["stages"].keys() >= {"tasks", "speed", "text", "energy"}
        assert len(record["measures"]["text"]["samples"]) == 3
    assert "batch1/prompt3/new2/tokens_per_second/ratio" in cut["measures"]["speed"]["figures"]
    assert cut["measures"]["text"]["reference"]["name"] == "uncut"
    with (tmp_path / "run" / "results.csv").open() as file:
        rows = {(r["amount"], r["measure"], r["figure"]): r for r in csv.DictReader(file)}
    row = rows["0.5", "tasks", "piqa/acc"]
    assert float(row["low95"]) <= float(row["value"]) <= float(row["high95"])
    assert float(rows["0.0", "speed", "model_bytes"]["value"]) > 0
    items = sorted(Path(tmp_path / "run" / "items").rglob("piqa.samples.jsonl"))
    assert len(items) == 2
    small_study["tasks"]["names"] = "piqua"
    with pytest.raises(ValueError, match=r"^tasks\.names: .*did you mean 'piqa'"):
        run_study(
            read_spec(write_study(small_study)), tmp_path / "other", torch.device("cpu"), print
        )
