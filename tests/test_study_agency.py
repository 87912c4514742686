"""Studies of subjects whose heads carry agency: adapted once, cut, measured, resumed, refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

import resprout
from clocks import untimed
from resprout.models import agency
from resprout.models.device import PRECISIONS, check_precision
from resprout.models.sizes import build, configuration
from resprout.report.records import read_run
from resprout.seals import read_sealed, sealed
from resprout.study import measuring
from resprout.study.adaptation import calibration_windows
from resprout.study.kept_subjects import read_subject
from resprout.study.precision import copy_in_precision
from resprout.study.run import run_study
from resprout.study.spec import read_spec
from resprout.study.spec_measures import Precision
from resprout.study.spec_subjects import AgencySpec
from resprout.train import gates
from resprout.train.gates import GateLoss
from text_files import write_documents

CPU = torch.device("cpu")


def run(file, out):
    lines = []
    return run_study(read_spec(file), out, CPU, lines.append), lines


@pytest.fixture(scope="module")
def values(tmp_path_factory, documents):
    """A study of a plain GPT-2 and two forms of agency on the same base, as its file holds it."""
    folder = write_documents(tmp_path_factory.mktemp("agency"), documents)
    tiny = {"model": "gpt2-nano", "learning_rate": 4e-3, "config": {"n_layer": 2}}
    part = {"gate_penalty": 2.0, "gate_learning_rate": 1.0, "calibration_windows": 4}
    return {
        "study": "small",
        "data": {"source": str(folder), "held_out": 0.2, "train_tokenizer": 300, "window": 16},
        "subjects": [
            {"name": "plain"} | tiny,
            {"name": "agency"} | tiny | {"agency": part},
        ],
        "training": {"steps": 3, "batch_windows": 2},
        "adaptation": {"steps": 6, "batch_windows": 2, "learning_rate": 1e-3,
                       "checkpoint_every": 2},
        "cuts": [
            {"method": "heads-entropy", "amounts": [0, 0.5], "cut": "remove"},
            {"method": "heads-gate", "amounts": [0.5], "cut": "remove", "subjects": ["agency"]},
        ],
        "recovery": {"steps": 2, "batch_windows": 2, "learning_rate": 1e-3},
        "measures": ["loss", "text"],
        "text": {"new_tokens": 4, "also_temperatures": [1.0, 0],
                 "prompts": {"code": "def function", "prose": "return x"}},
    }  # fmt: skip


@pytest.fixture(scope="module")
def finished(values, tmp_path_factory):
    """That study, run once for all tests that only look at it."""
    import yaml

    folder = tmp_path_factory.mktemp("finished")
    (folder / "study.yaml").write_text(yaml.safe_dump(values))
    outcome, lines = run(folder / "study.yaml", folder / "run")
    assert outcome.failures == {}
    return folder / "study.yaml", folder / "run", outcome, lines


@pytest.fixture
def study(values):
    """A copy to change."""
    return json.loads(json.dumps(values))


def test_the_base_is_grown_once_and_each_subject_adapted_once(finished):
    _, out, outcome, lines = finished
    assert [line.split(",")[0] for line in lines if line.startswith(("growing", "adapting"))] == [
        "growing plain", "adapting plain", "adapting agency",
    ]  # fmt: skip
    assert len(list((out / "subjects").iterdir())) == 3
    assert not list((out / "work").iterdir())
    points = [(r["subject"], r["method"], r["amount"]) for r in outcome.records]
    assert points == [
        ("plain", "heads-entropy", 0), ("plain", "heads-entropy", 0.5),
        ("agency", "heads-entropy", 0), ("agency", "heads-entropy", 0.5),
        ("agency", "heads-gate", 0.5),
    ]  # fmt: skip
    for record in outcome.records:
        assert {"train", "adaptation", "cut", "recovery", "text_at"} <= set(record["stages"])
    for name in ("plain", "agency"):
        mine = [r for r in outcome.records if r["subject"] == name]
        assert len({r["digests"]["subject"] for r in mine}) == 1
    bases = {json.dumps(r["identity"]["subject"]["base"]) for r in outcome.records}
    assert len(bases) == 1  # it names the base once for both


def test_records_say_what_became_of_the_heads(finished):
    for record in finished[2].records:
        assert ("agency" in record) == (record["subject"] == "agency")
        assert "precision" not in record
        assert record["parameters"].get("flops_not_counted") is None
    uncut, entropy, gate = (r for r in finished[2].records if r["subject"] == "agency")
    assert [layer["heads"] for layer in uncut["agency"]["layers"]] == [6, 6]
    for record in (entropy, gate):
        assert sum(layer["heads"] for layer in record["agency"]["layers"]) == 6
        for layer in record["agency"]["layers"]:
            assert len(layer["gates"]) == len(layer["states"]) == layer["heads"]
    assert uncut["agency"]["step"] > gate["identity"]["recovery"]["steps"]


def test_the_adapted_subject_has_learned_its_gates(finished):
    _, out, outcome, _ = finished
    (record, *_) = (r for r in outcome.records if r["subject"] == "agency")
    for folder in (out / "subjects").iterdir():
        history = json.loads((folder / "training.json").read_text())
        model, tokenizer = resprout.load(folder)
        assert len(tokenizer) == 300
        assert agency.is_enabled(model) == ("agency" in history["recipe"])
        if agency.is_enabled(model):
            assert history["weights_sha256"] == record["digests"]["subject"]
            layers = agency.agency_report(model).layers
            found = [gate for layer in layers for gate in layer.gates]
            assert min(found) < 1 and all(0 <= gate <= 1 for gate in found)
            # What withdrew is what closed: the uncut point recovered further from here.
            withdrawn = [s == "withdrawn" for layer in layers for s in layer.states]
            assert withdrawn == [gate == 0 for gate in found]


def test_texts_at_each_temperature(finished):
    for record in finished[2].records:
        found = record["measures"]["text_at"]
        assert list(found) == ["1", "0"]
        assert record["measures"]["text"]["temperature"] == 0.7
        for name, text in found.items():
            assert text["temperature"] == float(name)
            assert len(text["samples"]) == 2 and text["distinct_2"] is not None
    table = (finished[1] / "results.csv").read_text()
    assert ",text at 1,distinct_2," in table and ",text at 0,repetition_3," in table


def test_the_report_reads_the_records(finished):
    found = read_run(finished[1])
    assert (len(found.records), found.missing, found.failures) == (5, 0, {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["agency"]["layers"][0]["gates"].pop(), "gates: 5 of 6 heads"),
        (lambda r: r["agency"]["layers"][0]["states"].__setitem__(0, "asleep"), "agency.layers.0"),
        (lambda r: r["agency"]["layers"].clear(), "agency.layers"),
        (lambda r: r["measures"]["text_at"].update({"hot": {"failed": "no"}}), "text_at.hot"),
        (lambda r: r["measures"]["text_at"]["1"].pop("samples"), "text_at.1"),
        (lambda r: r.update(precision="fp8"), "precision"),
    ],
)
def test_records_are_checked_when_read(finished, tmp_path, change, message):
    shutil.copytree(finished[1], tmp_path / "run")
    record = next(r for r in finished[2].records if r["subject"] == "agency")
    path = tmp_path / "run" / "points" / f"{record['id']}.json"
    broken = read_sealed(path)
    change(broken)
    path.write_text(json.dumps(sealed(broken)))
    found = read_run(tmp_path / "run")
    assert found.missing == 1
    assert message in "".join(found.failures.values())


def test_run_again_does_nothing_again(finished):
    again, lines = run(*finished[:2])
    assert (again.computed, lines) == (0, ["5 of 5 points are there already"])
    assert again.records == finished[2].records


@pytest.mark.slow
def test_a_broken_subject_is_set_aside_and_made_again(finished, tmp_path):
    file, out, outcome, _ = finished
    shutil.copytree(out, tmp_path / "run")
    records = [r for r in outcome.records if r["subject"] == "agency"]
    for record in records:
        (tmp_path / "run" / "points" / f"{record['id']}.json").unlink()
    for folder in (tmp_path / "run" / "subjects").iterdir():
        if "agency" in json.loads((folder / "training.json").read_text())["recipe"]:
            with (folder / "model.safetensors").open("r+b") as weights:
                weights.seek(-400, 2)
                weights.write(bytes(400))
    again, lines = run(file, tmp_path / "run")
    assert sum("is broken; set aside" in line for line in lines) == 1
    assert again.computed == len(records)
    assert [untimed(r) for r in again.records] == [untimed(r) for r in outcome.records]


@pytest.mark.slow
def test_stopped_in_adaptation_it_continues(finished, tmp_path, monkeypatch):
    """Stopped at its fifth step, after two checkpoints; then the same as undisturbed."""
    file, out, outcome, _ = finished
    shutil.copytree(out, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "points")
    for folder in (tmp_path / "run" / "subjects").iterdir():
        if "agency" in json.loads((folder / "training.json").read_text())["recipe"]:
            shutil.rmtree(folder)
    steps = []

    class Stopping(GateLoss):
        def __call__(self, *arguments):
            steps.append(1)
            if len(steps) == 5:
                raise KeyboardInterrupt
            return super().__call__(*arguments)

    monkeypatch.setattr(gates, "GateLoss", Stopping)
    with pytest.raises(KeyboardInterrupt):
        run(file, tmp_path / "run")
    monkeypatch.undo()
    again, lines = run(file, tmp_path / "run")
    assert any(line.startswith("adapting agency") and "continuing" in line for line in lines)
    assert again.computed == 3
    assert [untimed(r) for r in again.records] == [untimed(r) for r in outcome.records]


@pytest.mark.slow
def test_killed_in_adaptation_it_continues(finished, tmp_path):
    """SIGKILL as a real process once a checkpoint lies there; then the same as undisturbed."""
    file, _, outcome, _ = finished
    out = tmp_path / "run"
    command = [sys.executable, "-m", "resprout", "run", str(file), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    seen, end = False, time.monotonic() + 300  # a busy machine is no failure
    while not seen and process.poll() is None and time.monotonic() < end:
        # The third subject folder is the agency one; its work begins when two are there, and theirs
        # stays for a moment after they are, and then under a hidden name.
        written = {path.name for path in (out / "subjects").glob("[0-9a-f]*")}
        whole = (out / "work").glob("[0-9a-f]*/checkpoint-*/complete.json")
        working = {path.parents[1].name for path in whole}
        seen = len(written) == 2 and bool(working - written)
        time.sleep(0.005)
    assert seen
    os.kill(process.pid, signal.SIGKILL)
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    again, lines = run(file, out)
    assert any(line.startswith("adapting agency") and "continuing" in line for line in lines)
    assert [untimed(r) for r in again.records] == [untimed(r) for r in outcome.records]


def test_half_precision_while_measured(study, write_study, tmp_path):
    study["precision"] = "bfloat16"
    study["measures"] = ["loss", "text", "speed"]
    study["speed"] = {"batches": [1], "prompt_tokens": [4], "new_tokens": [3], "repeats": 1,
                      "warmup": 1}  # fmt: skip
    study["subjects"] = study["subjects"][1:]
    del study["cuts"][0]
    outcome, _ = run(write_study(study), tmp_path / "run")
    assert outcome.failures == {}
    (record,) = outcome.records
    assert record["precision"] == record["identity"]["precision"] == "bfloat16"
    measures = record["measures"]
    assert measures["speed"]["dtype"] == "bfloat16"
    assert measures["loss"]["precision"]["precision"] == "bfloat16"
    assert measures["loss_before_recovery"]["precision"]["precision"] == "fp32"
    assert read_run(tmp_path / "run").records == outcome.records


@pytest.mark.parametrize("size", ["gpt2-nano", "llama-nano", "gpt-neox-nano", "biogpt-nano"])
def test_a_model_in_half_precision_is_the_same_model(size):
    model = build(configuration(size, vocab_size=300), seed=0).eval()
    if size != "biogpt-nano":
        agency.enable(model)
    ids = torch.randint(0, 300, (2, 24))
    assert copy_in_precision(model, torch.float32) is model
    half = copy_in_precision(model, torch.bfloat16)
    assert half.dtype == torch.bfloat16 and model.dtype == torch.float32
    with torch.no_grad():
        exact, rough = model(input_ids=ids).logits, half(input_ids=ids).logits
    assert rough.dtype == torch.bfloat16
    assert (exact - rough).abs().max() < 0.05 * exact.abs().max()


def test_a_failing_temperature_leaves_the_others(study, write_study, tmp_path, monkeypatch):
    real = measuring.measure_text

    def breaks(model, tokenizer, options, *rest):
        if options.temperature == 0:
            raise RuntimeError("no ink")
        return real(model, tokenizer, options, *rest)

    monkeypatch.setattr(measuring, "measure_text", breaks)
    study["subjects"] = study["subjects"][:1]
    study["cuts"] = [{"method": "heads-random", "amounts": [0]}]
    outcome, _ = run(write_study(study), tmp_path / "run")
    assert outcome.failures == {"plain heads-random 0% seed 0, text_at 0": "RuntimeError: no ink"}
    found = outcome.records[0]["measures"]["text_at"]
    assert found["0"] == {"failed": "RuntimeError: no ink"} and "samples" in found["1"]
    monkeypatch.undo()
    outcome, _ = run(write_study(study), tmp_path / "run")  # it is tried again
    assert (outcome.computed, outcome.failures) == (1, {})


def test_agency_without_adaptation(shared, study, write_study, tmp_path):
    """A trained model is given gates and states, and nothing is trained before the cut."""
    del study["adaptation"], study["training"], study["data"]["train_tokenizer"], study["text"]
    model = str(shared / "models" / "stories260K")
    part = {"calibration_windows": 2, "states": False}
    study["subjects"] = [
        {"name": "plain", "model": model},
        {"name": "agency", "model": model, "agency": part},
    ]
    study["cuts"] = [{"method": "heads-magnitude", "amounts": [0.5], "cut": "remove"}]
    study["measures"] = ["loss"]
    study["recovery"]["steps"] = 0
    study["data"]["held_out"] = 0.05
    outcome, _ = run(write_study(study), tmp_path / "run")
    assert outcome.failures == {}
    plain, gated = outcome.records
    # Gates at 1 and all heads active: the same cut of the same model.
    assert untimed(plain["measures"]["loss"]) == untimed(gated["measures"]["loss"])
    assert gated["agency"]["step"] == 1 and "adaptation" in gated["stages"]
    assert "adaptation" not in plain["stages"]


def test_a_subject_of_an_older_run_is_read(finished, tmp_path):
    """Before subjects were adapted, their history had one stage."""
    (base,) = (
        folder
        for folder in (finished[1] / "subjects").iterdir()
        if "base" not in json.loads((folder / "training.json").read_text())["recipe"]
    )
    shutil.copytree(base, tmp_path / "base")
    history = json.loads((base / "training.json").read_text())
    history["stage"] = history.pop("stages")["train"]
    (tmp_path / "base" / "training.json").write_text(json.dumps(history))
    (tmp_path / "base" / "digests.json").unlink()  # it had none either
    assert read_subject(tmp_path / "base", CPU).stages == read_subject(base, CPU).stages


def test_calibration_windows_are_the_first():
    import numpy as np

    tokens = np.arange(50, dtype=np.uint16)
    found = calibration_windows(tokens, 8, 3)
    assert found.dtype == torch.long and found.tolist() == np.arange(24).reshape(3, 8).tolist()
    assert calibration_windows(tokens, 8, 6).shape == (6, 8)
    with pytest.raises(ValueError, match="got 7, allowed are up to the 6 windows of 8 tokens"):
        calibration_windows(tokens, 8, 7)


REFUSED_WHEN_READ = [
    (("subjects", 1, "agency", "gate_penalty"), -1, "subjects.1.agency.gate_penalty: got -1"),
    (("subjects", 1, "agency", "gate_learning_rate"), 0, "agency.gate_learning_rate: got 0"),
    (("subjects", 1, "agency", "gate_penalty"), ..., "got 1.0 without a gate_penalty"),
    (("subjects", 1, "agency", "states"), "often", "subjects.1.agency.states: got 'often'"),
    (("subjects", 1, "agency", "overloaded_above"), 1.5, "agency.overloaded_above: got 1.5"),
    (("subjects", 1, "agency", "misaligned_below"), -0.1, "agency.misaligned_below: got -0.1"),
    (("subjects", 1, "agency", "recovery_steps"), 0, "agency.recovery_steps: got 0"),
    (("subjects", 1, "agency", "calibration_windows"), 0, "agency.calibration_windows: got 0"),
    (("subjects", 1, "agency", "gate_penalt"), 1, "did you mean 'gate_penalty'"),
    (("subjects", 1, "agency"), True, "subjects.1.agency: got True"),
    (("adaptation",), ..., "subjects.1.agency.gate_penalty: got 2, allowed only with 'adaptation'"),
    (("adaptation", "steps"), 0, "allowed only with 'adaptation' of one step or more"),
    (("adaptation", "steps"), -1, "adaptation.steps: got -1"),
    (("adaptation", "learning_rate"), ..., "adaptation.learning_rate: missing"),
    (("precision",), "float8", "precision: got 'float8', allowed are 'float32', 'bfloat16' or"),
    (("cuts", 1, "subjects"), ["agencie"], "cuts.1.subjects: got 'agencie', allowed are plain, "
     "agency; did you mean 'agency'"),
    (("cuts", 1, "subjects"), [], "cuts.1.subjects: got []"),
    (("cuts", 1, "subjects"), ["agency", "agency"], "allowed is each name once"),
    (("cuts", 0, "subjects"), ["agency"], "subjects.0: no cut names the subject 'plain'"),
    (("cuts", 1, "method"), "heads-entropy", "the same method and amount stands there twice"),
    (("cuts", 0, "amounts"), [0, 1.0], "allowed is below 1: it would remove every head of a layer"),
    (("text", "also_temperatures"), [0.7], "also_temperatures: got [0.7] beside the temperature"),
    (("text", "also_temperatures"), [1.0, 1], "allowed is each once"),
    (("text", "also_temperatures"), [-1.0], "text.also_temperatures.0: got -1.0"),
    (("text", "also_temperatures"), "hot", "text.also_temperatures: got 'hot'"),
]  # fmt: skip


def changed(values, path, value):
    part = values
    for key in path[:-1]:
        part = part[key]
    if value is ...:
        del part[path[-1]]
    else:
        part[path[-1]] = value


@pytest.mark.parametrize(("path", "value", "message"), REFUSED_WHEN_READ)
def test_bad_fields(study, write_study, path, value, message):
    changed(study, path, value)
    with pytest.raises(ValueError) as caught:
        read_spec(write_study(study))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("precision",), "float16",
         "precision: got float16, allowed on cpu are float32, bfloat16"),
        (("cuts", 1, "subjects"), None,
         "cuts.1.method: got 'heads-gate' for the subject 'plain', which has no agency and so no "
         "gates; allowed with 'subjects', of those with agency: agency"),
        (("subjects", 1, "agency", "calibration_windows"), 9999,
         "subject 'agency': agency.calibration_windows: got 9999, allowed are up to the"),
    ],
)  # fmt: skip
def test_what_is_refused_before_training(study, write_study, tmp_path, path, value, message):
    changed(study, path, value)
    with pytest.raises(ValueError) as caught:
        run(write_study(study), tmp_path / "run")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "subjects").exists()


def test_a_model_that_cannot_carry_agency_is_refused(study, write_study, tmp_path):
    study["subjects"][1] |= {"model": "biogpt-nano", "config": {}}
    study["cuts"] = [{"method": "magnitude", "amounts": [0.5]}]  # it has no heads to cut
    with pytest.raises(ValueError, match=r"subjects\.1\.agency: subject 'agency': .*registry"):
        run(write_study(study), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_rules_default_to_those_of_agency_itself():
    part, rules = AgencySpec(), agency.AgencyOptions()
    for name in ("overloaded_above", "misaligned_below", "recovery_steps", "states"):
        assert getattr(part, name) == getattr(rules, name)


def test_precisions_by_device(monkeypatch):
    assert Precision.__args__ == PRECISIONS
    assert check_precision("bfloat16", "cpu") is torch.bfloat16
    with pytest.raises(ValueError, match=r"got float16, allowed on cpu are float32, bfloat16$"):
        check_precision("float16", "cpu")
    with pytest.raises(ValueError, match=r"did you mean 'float16'|did you mean 'bfloat16'"):
        check_precision("float61", "cuda")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    with pytest.raises(ValueError, match="bfloat16, allowed on cuda are float32, float16"):
        check_precision("bfloat16", "cuda")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert check_precision("bfloat16", "cuda") is torch.bfloat16
    assert check_precision("float16", "cuda") is torch.float16
