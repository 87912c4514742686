"""`python -m biogpt.compare` and `scripts/run_comparison.sh`: flags, plan, file, whole runs."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from resprout.cli import biogpt_comparison as command
from resprout.cli import comparison_steps
from resprout.files import write_json
from resprout.models.biogpt.published import write_published
from resprout.models.sizes import build, configuration
from resprout.report.full_comparison import full_comparison
from resprout.study.converted_checkpoint import model_folder
from resprout.study.published_comparison import control_name, plan_comparison
from resprout.study.published_request import Request

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def models(tmp_path_factory, tokens):
    """A checkpoint of the published form and a control, both untrained, on the tokens' ids."""
    folder = tmp_path_factory.mktemp("models")
    vocabulary = tokens.manifest["vocab_size"]
    longer = {"vocab_size": vocabulary, "max_position_embeddings": 192}
    bio = build(configuration("biogpt-nano", **longer), seed=0)
    write_published(bio, folder / "biogpt_final.pt")
    control = build(configuration("gpt-neox-nano", **longer), seed=0)
    control.save_pretrained(folder / "control" / "final")
    tokens.transformers_tokenizer(192).save_pretrained(folder / "control" / "final")
    return folder


@pytest.fixture
def request_of(models, tokens, tmp_path):
    def make(**changes):
        given = {
            "data_dir": tokens.path,
            "biogpt_ckpt": models / "biogpt_final.pt",
            "pythia": str(models / "control" / "final"),
            "device": "cpu",
            "output_dir": tmp_path / "out",
        }
        return Request(**(given | changes))

    return make


# Flags


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--data_dri", "x"], "did you mean '--data_dir'?"),
        (["--data_dir", "nowhere"], "data_dir: 'nowhere' holds no manifest.json"),
        (["--protocol", "fari"], "did you mean 'fair'?"),
        (["--finetune_steps", "1.5"], "finetune_steps: got '1.5'"),
        (["--seed", "-1"], "seed: got '-1'"),
        (["--pythia-step", "9" * 20], "pythia_step: got"),
    ],
)
def test_a_mistake_is_one_line(flags, said, capsys):
    try:
        code = command.main(flags)
    except SystemExit as end:
        code = end.code
    told = capsys.readouterr()
    assert code == 2 and not told.out
    assert told.err.count("\n") == 1 and said in told.err


def test_refusals_load_nothing_heavy():
    program = (
        "import sys; from resprout.cli.biogpt_comparison import main\n"
        "assert main(['--data_dir', 'nowhere']) == 2\n"
        "assert not {'torch', 'transformers', 'matplotlib'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"biogpt_ckpt": Path("nowhere.pt")}, "biogpt_ckpt: there is no 'nowhere.pt'"),
        ({"pythia_step": 1000}, "pythia_step: got 1000 with the folder"),
        ({"pythia": None, "pythia_step": 1001}, "pythia_step: got 1001, allowed are 0, 1, 2"),
        ({"pythia": "gpt-neox-nano"}, "the size 'gpt-neox-nano', which is not trained"),
        ({"pythia": "nobody/nothing"}, "pythia: 'nobody/nothing' at 'step1000' is not to be had"),
        ({"device": "abacus"}, "device: got 'abacus'"),
    ],
)
def test_what_cannot_be_had_is_refused(changes, said, request_of):
    with pytest.raises(ValueError) as refused:
        plan_comparison(request_of(**changes), pytest.fail)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_another_family_is_no_biogpt(request_of, models):
    with pytest.raises(ValueError, match=r"biogpt_ckpt: .*'gpt_neox', allowed is a BioGPT"):
        plan_comparison(request_of(biogpt_ckpt=models / "control" / "final"), pytest.fail)


def test_a_run_is_not_its_model(request_of, models):
    with pytest.raises(ValueError, match=r"pythia: .*is a run of training; allowed is its model"):
        plan_comparison(request_of(pythia=str(models / "control")), pytest.fail)


def test_a_model_of_fewer_tokens_is_refused(request_of, tmp_path):
    small = build(configuration("gpt-neox-nano", vocab_size=64), seed=0)
    small.save_pretrained(tmp_path / "small")
    with pytest.raises(ValueError, match=r"data_dir: .* the model of pythia knows only 64"):
        plan_comparison(request_of(pythia=str(tmp_path / "small")), pytest.fail)


# The plan


def test_the_plan_is_the_published_one(request_of, tokens):
    told = []
    planned = plan_comparison(request_of(finetune_steps=500), told.append)
    spec = planned.spec
    bio, control = spec.subjects
    assert (bio.name, control.name) == ("BioGPT", "control") and planned.control == "control"
    assert spec.protocols == ("paper", "fair") and spec.seeds == [0]
    assert [cut.amounts for cut in spec.cuts] == [
        [0, 0.25, 0.45, 0.7, 0.9],
        [0, 0.25, 0.5, 0.7, 0.9],
    ]
    assert {cut.dead_threshold for cut in spec.cuts} == {0.95}
    recovery = spec.recovery
    assert (recovery.steps, recovery.batch_windows, recovery.learning_rate) == (500, 4, 1e-4)
    assert recovery.weight_decay == 0.01 and recovery.min_learning_rate_ratio == 1
    assert spec.precision == "float32"  # the published Pythia was bf16 whole
    assert spec.data.window == 192 and any("windows of 192" in line for line in told)


def test_a_checkpoint_is_converted_once(request_of, models, tokens, tmp_path):
    told = []
    out = Path(model_folder(models / "biogpt_final.pt", tokens, tmp_path, told.append))
    before = (out / "model.safetensors").stat().st_mtime_ns
    assert model_folder(models / "biogpt_final.pt", tokens, tmp_path, told.append) == str(out)
    assert len(told) == 1 and (out / "model.safetensors").stat().st_mtime_ns == before
    assert (out / "tokenizer.json").is_file()
    other = build(configuration("biogpt-nano", vocab_size=320), seed=1)
    write_published(other, tmp_path / "other.pt")
    model_folder(tmp_path / "other.pt", tokens, tmp_path, told.append)
    assert len(told) == 2
    (tmp_path / "taken" / "biogpt").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"output_dir: .* is in the way"):
        model_folder(tmp_path / "other.pt", tokens, tmp_path / "taken", told.append)


@pytest.mark.parametrize(
    ("control", "name"),
    [
        ("EleutherAI/pythia-160m", "pythia-160m"),
        ("runs/control/final", "control"),
        ("final", "final"),
        ("my model!", "my-model"),
        ("BioGPT", "control"),
        ("...", "control"),
    ],
)
def test_names_of_controls(control, name):
    assert control_name(control) == name


def test_a_trained_control_is_called_by_what_was_trained(tmp_path):
    write_json(tmp_path / "run.json", {"model": "gpt-neox-nano"})
    assert control_name(str(tmp_path / "final")) == "gpt-neox-nano"


# The file


def record(subject, amount, protocol="paper", nats=3.0, texts=True):
    loss = {
        "nats_per_token": nats,
        "perplexity": math.exp(nats),
        "bits_per_byte": 1.0,
        "ci95": [nats - 0.1, nats + 0.1],
    }
    samples = [{"name": "code_2", "category": "code", "prompt": "def", "text": f"{subject} wrote"}]
    return {
        "id": f"{subject}{amount}{protocol}",
        "subject": subject,
        "model": "folder",
        "protocol": protocol,
        "amount": amount,
        "achieved": amount,
        "recovered": amount > 0,
        "dead_units": ["layer 0 neuron 1"] if amount > 0.5 else [],
        "parameters": {"total": 100, "nonzero": 90 - 50 * amount, "surviving": 100 - 50 * amount},
        "digests": {"subject": "d"},
        "measures": {
            "loss": loss,
            "loss_before_recovery": {"failed": "no"} if amount > 0.5 else loss,
            "text": {"samples": samples} if texts else {"failed": "no memory"},
        },
        "environment": {"python": "3"},
    }


NAMES = {"biogpt": "BioGPT", "pythia": "control"}


def test_the_file_has_the_published_structure():
    records = [
        record(subject, amount, protocol, nats=2 + amount + (protocol == "fair"))
        for subject in NAMES.values()
        for protocol in ("paper", "fair")
        for amount in (0.7, 0.0)
    ]
    found = full_comparison(records, NAMES, ("paper", "fair"))
    assert found["biogpt_base_val"] == found["pythia_base_val"] == 2
    assert found["fair"]["biogpt_base_val"] == 3
    uncut, cut = found["pythia_prune"]
    published = {"sparsity", "nonzero_params", "val_loss", "perplexity"}
    assert published <= set(uncut) and uncut["sparsity"] == 0 and uncut["nonzero_params"] == 90
    assert cut["perplexity"] == pytest.approx(math.exp(cut["val_loss"]))
    assert cut["dead_neurons"] == 1 and cut["val_loss_before_recovery"] is None
    assert found["generations"] == [
        {
            "id": "code_2",
            "cat": "code",
            "prompt": "def",
            "biogpt": "BioGPT wrote",
            "pythia": "control wrote",
        }
    ]
    assert [level["sparsity"] for level in found["generations_by_level"]["biogpt"]] == [0, 0.7]
    json.dumps(found, allow_nan=False)


def test_what_is_not_measured_is_absent():
    found = full_comparison([record("BioGPT", 0.25, texts=False)], NAMES, ("paper",))
    assert found["biogpt_base_val"] is None and found["pythia_base_val"] is None
    assert found["generations"] == [] and found["pythia_prune"] == []
    assert found["subjects"]["pythia"] == {"name": "control"} and "fair" not in found


# Whole runs, through the very commands


def comparison(folder, **settings):
    small = {
        "PYTHON": sys.executable,
        "SOURCE": str(folder / "text"),
        "TARGET_TOKENS": "20000",
        "MODEL": "biogpt-nano",
        "CONTROL": "gpt-neox-nano",
        "PREPARE_OPTIONS": "--train_tokenizer 512 --val_fraction 0.2",
        "TRAIN_OPTIONS": "--block_size 64 --batch_size 4 --grad_accum 1 --warmup_steps 2 "
        "--max_lr 4e-3 --min_lr 4e-4 --eval_tokens 1024 --device cpu",
        "COMPARE_OPTIONS": "--finetune_steps 2 --device cpu --protocol paper",
        "HF_HUB_OFFLINE": "1",
    }
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / "run_comparison.sh")],
        cwd=folder,
        env=os.environ | small | settings,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_one_command_from_text_to_the_file(tmp_path):
    (tmp_path / "text").mkdir()
    for i in range(60):
        lines = [f"The word {i} stands in line {j} of this small text." for j in range(12)]
        (tmp_path / "text" / f"{i}.txt").write_text("\n".join(lines))
    done = comparison(tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    found = json.loads((tmp_path / "results" / "full_comparison.json").read_text())
    assert [level["sparsity"] for level in found["biogpt_prune"]] == [0, 0.25, 0.45, 0.7, 0.9]
    assert [level["sparsity"] for level in found["pythia_prune"]] == [0, 0.25, 0.5, 0.7, 0.9]
    assert found["biogpt_base_val"] == found["biogpt_prune"][0]["val_loss"]
    assert len(found["generations"]) == 12 and not found["failures"]
    uncut, quarter = found["biogpt_prune"][:2]
    assert quarter["surviving_params"] < uncut["surviving_params"]
    assert quarter["recovered"] and not uncut["recovered"]  # as published

    # Again: nothing is done twice.
    records = sorted((tmp_path / "results" / "comparison" / "points").iterdir())
    stamps = [path.stat().st_mtime_ns for path in records]
    again = comparison(tmp_path)
    assert again.returncode == 0, again.stderr
    for line in ("data is prepared", "biogpt_final.pt is trained", "10 of 10 points are there"):
        assert line in again.stdout
    assert [path.stat().st_mtime_ns for path in records] == stamps

    charts = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "generate_charts.py"), "--results", "results"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert charts.returncode == 0, charts.stderr
    assert (tmp_path / "assets" / "pruning_curve.png").stat().st_size > 10_000


def test_the_script_stops_at_an_error(tmp_path):
    done = comparison(tmp_path, SOURCE="nowhere")
    assert done.returncode == 2
    assert "Step 1" in done.stdout and "Step 2" not in done.stdout


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"PYTHON": "false"}, "PYTHON: 'false' cannot import biogpt"),
        ({"SOURCE": "pile"}, "SOURCE: got pile, but data was made with another"),
        ({"TARGET_TOKENS": "2000"}, "TARGET_TOKENS: got 2000, but data was made with another"),
        ({"MODEL": "biogpt-30m"}, "MODEL: got biogpt-30m, but checkpoints was made with"),
        ({"CONTROL": "llama-nano"}, "CONTROL: got llama-nano, but checkpoints-control was made"),
    ],
)
def test_what_lies_there_has_to_be_what_was_asked_for(setting, said, tmp_path):
    """A step that is left out was done with the settings that are given."""
    runs = {"checkpoints": "biogpt-nano", "checkpoints-control": "gpt-neox-nano"}
    for run, model in runs.items():
        (tmp_path / run / "final").mkdir(parents=True)
        write_json(tmp_path / run / "run.json", {"model": model, "target_tokens": 20000, "seed": 0})
    (tmp_path / "checkpoints" / "biogpt_final.pt").touch()
    made = {"source": str(tmp_path / "text"), "target_tokens": 20000, "vocab_size": 512}
    (tmp_path / "data").mkdir()
    write_json(tmp_path / "data" / "manifest.json", made)
    done = comparison(tmp_path, **setting)
    assert done.returncode == 2 and "Step 3" not in done.stdout
    assert done.stderr.count("\n") == 1 and said in done.stderr


SETTINGS = {
    "DATA_DIR": "data", "CHECKPOINTS": "checkpoints", "CONTROL_DIR": "checkpoints-control",
    "RESULTS": "results", "TARGET_TOKENS": "20000", "MODEL": "biogpt-nano",
    "CONTROL": "gpt-neox-nano", "TRAIN_OPTIONS": "--block_size 64 --device cpu",
    "CONTROL_OPTIONS": "", "COMPARE_OPTIONS": "--protocol fair",
}  # fmt: skip


@pytest.fixture
def look_ahead(tmp_path, monkeypatch, capsys):
    """The look at all steps' settings, in this process: exit code and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def look(**settings):
        code = comparison_steps.main(SETTINGS | settings)
        out, err = capsys.readouterr()
        assert not out and not list(tmp_path.iterdir())
        return code, err

    return look


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"MODEL": "biogpt-nan"}, "MODEL, CHECKPOINTS, TRAIN_OPTIONS: model: 'biogpt-nan'"),
        ({"MODEL": "llama-nano"}, "export_pt: a published checkpoint holds a BioGPT"),
        ({"TRAIN_OPTIONS": "--block_siz 3"}, "No such option: --block_siz"),
        ({"TRAIN_OPTIONS": "--batch_size x"}, "batch_size: got 'x', allowed is a whole number"),
        ({"TRAIN_OPTIONS": "--block_size 129"}, "block_size: got 129, allowed are up to the 128"),
        ({"TARGET_TOKENS": "0"}, "target_tokens: got 0"),
        ({"CONTROL": "nope"}, "CONTROL, CONTROL_DIR, CONTROL_OPTIONS: model: 'nope' is neither"),
        ({"CONTROL_OPTIONS": "--n_passes 2"}, "n_passes: got 2, only a BioGPT has it"),
        ({"CONTROL_DIR": "./checkpoints"}, "CONTROL_DIR: got './checkpoints', which is CHECKPOI"),
        ({"CHECKPOINTS": "data"}, "CHECKPOINTS: got 'data', which is DATA_DIR too"),
        ({"COMPARE_OPTIONS": "--protocol far"}, "RESULTS, COMPARE_OPTIONS: protocol: got 'far'"),
        ({"COMPARE_OPTIONS": "--device tpu"}, "device: got 'tpu'"),
        ({"COMPARE_OPTIONS": "--pythia_step 1000"}, "pythia_step: got 1000 with the folder"),
        ({"CONTROL": "", "COMPARE_OPTIONS": "--pythia_step 3"}, "pythia_step: got 3, allowed are"),
        ({"CONTROL": ""}, "pythia: 'EleutherAI/pythia-160m' is neither"),
        ({"RESULTS": "/dev/null/x"}, "output_dir: '/dev/null' cannot be written"),
    ],
)
def test_what_a_later_step_would_refuse_is_told_before_the_first(look_ahead, settings, said):
    code, err = look_ahead(**settings)
    assert code == 2 and said in err
    assert err.startswith("run_comparison.sh: error: ") and err.count("\n") == 1


def test_settings_that_fit_are_not_refused(look_ahead):
    assert look_ahead() == (0, "")
    assert look_ahead(CONTROL_DIR="checkpoints", CONTROL="", COMPARE_OPTIONS="--pythia .")[0] == 2
    with pytest.raises(SystemExit) as end:  # argparse's own way
        look_ahead(COMPARE_OPTIONS="--protocl fair")
    assert end.value.code == 2


def test_steps_that_are_done_are_not_looked_at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "biogpt_final.pt").touch()
    (tmp_path / "checkpoints-control" / "final").mkdir(parents=True)
    done = {"MODEL": "gone", "CONTROL": "gone", "TRAIN_OPTIONS": "--bogus"}
    assert comparison_steps.main(SETTINGS | done) == 0


def test_the_script_looks_ahead(tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("word " * 100)
    done = comparison(tmp_path, CONTROL="nope")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "'nope' is neither a size" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_the_script_knows_no_flags(tmp_path):
    path = str(ROOT / "scripts" / "run_comparison.sh")
    wrong = subprocess.run(["bash", path, "--fast"], capture_output=True, text=True, cwd=tmp_path)
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1
    told = subprocess.run(["bash", path, "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert told.returncode == 0 and "CONTROL" in told.stdout and "set -euo" not in told.stdout
    assert not list(tmp_path.iterdir())
