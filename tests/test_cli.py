"""The command line as a user meets it: real processes, one-line errors, exit codes."""

import os
import re
import subprocess
import sys

import pytest
import torch

from resprout.cli import main
from resprout.models.biogpt.layout import cortical_layout


def process(*arguments, module="resprout"):
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "200"},
    )


@pytest.fixture
def resprout(capsys, monkeypatch):
    """The command in this process: the same output and exit code, seconds sooner."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, end.value.code, out, err)

    return run


def assert_refused(done, message):
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_link_to_itself_is_no_run(resprout, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    assert_refused(resprout("curves", "loop"), "'loop' has no training.json")
    assert_refused(resprout("curves", "loop", "./loop"), "is given twice")


def test_help_imports_nothing_heavy():
    script = (
        "import sys; sys.argv = ['resprout', '--help']\n"
        "from resprout.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'transformers', 'numpy', 'matplotlib', 'scipy', 'pydantic', 'yaml'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in ("run", "report", "describe", "convert", "generate"):
        assert command in done.stdout


def test_reporting_needs_no_torch():
    script = (
        "import sys, resprout.report.page, resprout.study.spec\n"
        "assert 'transformers' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "Missing argument"),
        (["bogus"], "No such command 'bogus'"),
        (["run", "nowhere.yaml"], "'nowhere.yaml' is not a file"),
        (["run", "STUDY", "--bogus"], "No such option"),
        (["run", "STUDY", "--device", "warp"], "device: got 'warp', allowed are auto, cpu"),
        (["run", "STUDY", "--device", "cuda:99"], "device: got 'cuda:99'"),
        (["run", "STUDY", "--out", "STUDY/x"], "cannot be written"),
        (["report", "nowhere"], "'nowhere' is not a run's folder"),
        (["describe", "biogpt-nan"], "did you mean 'biogpt-nano'"),
        (["describe", "."], "neither a model folder (it has no config.json)"),
        (["describe", "x" * 300], "is neither a size"),
        (
            ["describe", "biogpt-nano", "--devices", "0"],
            "devices: got 0, allowed is a whole number from 1",
        ),
        (["describe", "biogpt-nano", "--block_size", "129"], "block_size: got 129, allowed are up"),
        (["convert", "nowhere.pt", "STUDY-new"], "nowhere.pt"),
        (["convert", "biogpt-nano", "STUDY"], "exists; allowed is a new file"),
        (["run", "x" * 300], "File name too long"),
    ],
)
def test_mistakes_are_one_line(resprout, arguments, message, small_study, write_study, tmp_path):
    file = write_study(small_study)
    before = sorted(tmp_path.rglob("*"))
    assert_refused(resprout(*(a.replace("STUDY", str(file)) for a in arguments)), message)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_bad_study_is_one_line(small_study, write_study):
    small_study["cuts"][0]["amounts"] = [0, 1.5]
    assert_refused(process("run", write_study(small_study)), "amount: got 1.5")


@pytest.mark.slow
def test_run_prints_a_table_and_the_report(small_study, write_study, tmp_path):
    done = process("run", write_study(small_study), "--out", tmp_path / "run", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[-1] == f"report: {tmp_path / 'run' / 'report.html'}"
    assert (tmp_path / "run" / "report.html").is_file()
    table = [line.split() for line in lines if line.startswith(("bio ", "neox "))]
    assert [row[1] for row in table] == ["0%", "50%", "90%"] * 2
    again = process("report", tmp_path / "run")
    assert (again.returncode, again.stderr) == (0, "")


def test_a_failed_point_shows_and_exits_1(resprout, small_study, write_study, tmp_path):
    small_study["subjects"][0]["learning_rate"] = 1e30  # its training cannot stay finite
    done = resprout("run", write_study(small_study), "--out", tmp_path / "run")
    assert done.returncode == 1
    assert done.stderr.count("failed: bio magnitude") == 3
    assert "FloatingPointError" in done.stderr
    assert "report:" in done.stdout


def test_describe_a_size_and_a_folder(resprout, shared):
    done = resprout("describe", "biogpt-294m")
    assert done.returncode == 0
    assert "294,532,636" in done.stdout
    assert "Total branches: 168" in done.stdout
    assert "prunable under paper: 254,803,968" in done.stdout
    zones = dict(
        re.findall(r"^  (EARLY|MID|LATE|feedback|embeddings|head) +([\d,]+)$", done.stdout, re.M)
    )
    assert set(zones) == {"EARLY", "MID", "LATE", "feedback", "embeddings", "head"}
    assert zones["embeddings"] == f"{(50304 + 1024) * 768:,}"
    for figure in ("operations per token", "inference, one sequence", "training, one sequence"):
        assert figure in done.stdout
    plan = done.stdout.partition("Training memory per device: 1 device")[2]
    assert plan.count("smallest card") == 2
    state = re.search(r"weights, gradients, moments \(fp32\) +([\d.]+) GB", plan)[1]
    assert float(state) == pytest.approx(16 * 0.294532636, abs=0.005)
    options = ("--devices", "4", "--batch-size", "2", "--block_size", "64")
    done = resprout("describe", shared / "models" / "stories260K", *options)
    assert "4 devices, 2 sequences of 64 tokens" in done.stdout
    assert "260,032" in done.stdout
    assert "operations per token" in done.stdout


def test_convert_to_a_folder_and_back(resprout, tmp_path):
    first, folder, second = tmp_path / "a.pt", tmp_path / "folder", tmp_path / "b.pt"
    for source, out in (("biogpt-nano", first), (first, folder), (folder, second)):
        done = resprout("convert", source, out)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert "1,563,566 parameters" in done.stdout
    assert (folder / "model.safetensors").is_file()
    before, after = (torch.load(file, weights_only=True) for file in (first, second))
    weights, again = before["model_state_dict"], after["model_state_dict"]
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[name], again[name]) for name in weights)


@pytest.mark.slow
def test_the_published_self_test():
    """`python -m biogpt.model`: 1.2 GB of weights and a forward pass."""
    done = process(module="biogpt.model")
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert "Layer  0 [EARLY]: 2 neurons | 16 branches | ['8x96', '8x96']" in lines
    assert "Layer  4 [  MID]: 3 neurons | 18 branches | ['8x96', '6x128', '4x192']" in lines
    assert "Layer 11 [ LATE]: 2 neurons |  8 branches | ['4x192', '4x192']" in lines
    assert "Total branches: 168" in lines
    for source, target in ((8, 0), (9, 1), (10, 2), (11, 3)):
        assert f"Layer {source} -> Layer {target}" in lines
    assert "BioGPT total: 294,532,636" in lines
    assert lines[-1].startswith("Forward pass: ok")
    assert sum(line.startswith("Layer ") and "|" in line for line in lines) == len(
        cortical_layout(768, 12)
    )
