"""The published comparison scripts: flags, refusals, a whole small run, updates, Colab."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from resprout.cli import agency_comparison as command
from resprout.cli.comparison_parser import DEFAULTS, parse, parser
from resprout.data.sources import Document, is_held_out
from resprout.study.agency_comparison import plan_comparison
from resprout.study.comparison_effort import Effort, held_out_share
from resprout.study.comparison_flags import read_flags

SCRIPTS = Path(__file__).parents[1] / "scripts" / "pruning_comparison"
TINY = Effort(2, 300, 2, 1, 1000, 1000, 1, 1, 2, 2)


def flags(**changes):
    return read_flags(DEFAULTS | changes)


def plan(tmp_path, text_folder, **changes):
    told = []
    given = {"model_name": "gpt2-nano", "data": str(text_folder), "output_dir": str(tmp_path / "o")}
    planned = plan_comparison(flags(**(given | changes)), told.append, TINY)
    return planned.spec, told


def script(name, *arguments, **more):
    return subprocess.run(
        [sys.executable, str(SCRIPTS / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"HF_HUB_OFFLINE": "1"} | more.pop("env", {}),
        **more,
    )


# Flags


def test_help_imports_nothing_heavy():
    path = str(SCRIPTS / "pruning_agency_comparison.py")
    program = (
        "import sys, runpy; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_path({path!r}, run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'transformers', 'numpy', 'matplotlib', 'scipy', 'pydantic', 'yaml'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for flag in (*DEFAULTS, "save_outputs", "memory_logging", "visualize_only", "quiet", "update"):
        assert f"--{flag}" in done.stdout


@pytest.mark.parametrize("words", [["--pruning_levels", "0,50"], ["--pruning_levels=0,50"],
                                   ["--pruning-levels=0,50"]])  # fmt: skip
def test_flags_in_every_spelling(words):
    assert parse(parser("x", "y", {}), words).pruning_levels == "0,50"


def test_the_published_defaults():
    found = flags()
    assert (found.model_name, found.device, found.precision) == ("gpt2", "auto", "float32")
    assert found.pruning_levels == (0, 20, 40, 60, 80)
    assert (found.pruning_method, found.num_tokens) == ("entropy", None)
    assert (found.temperatures, found.iterations, found.batch_size) == ((0.7, 1.0), 3, 1)
    assert sum(map(len, found.prompts.values())) == 5
    assert found.output_dir == Path("validation_results/pruning_agency")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pruning_method": "entropi"}, "pruning_method: got 'entropi', .* mean 'entropy'"),
        ({"pruning_levels": "0,ten"}, "pruning_levels: got 'ten', allowed are numbers"),
        ({"pruning_levels": ""}, "pruning_levels: got ''"),
        ({"pruning_levels": "nan"}, "pruning_levels: got nan"),
        ({"pruning_levels": "-5"}, "pruning_levels: got -5, allowed is 0 to below 100"),
        ({"pruning_levels": "0,100"}, "would remove every head of a layer"),
        ({"pruning_levels": "20,20.0"}, "pruning_levels: got 20 twice"),
        ({"temperatures": "-0.5"}, "temperatures: got -0.5, allowed is 0"),
        ({"temperatures": "hot"}, "temperatures: got 'hot'"),
        ({"temperatures": "1,1.0"}, "temperatures: got 1 twice"),
        ({"iterations": "0"}, "iterations: got 0, allowed is 1"),
        ({"batch_size": "0"}, "batch_size: got 0"),
        ({"batch_size": "1.5"}, "batch_size: got '1.5', allowed is a whole number"),
        ({"num_tokens": "0"}, "num_tokens: got 0"),
        ({"max_prompts": "0"}, "max_prompts: got 0"),
        ({"recover_steps": "-1"}, "recover_steps: got -1"),
        ({"gate_penalty": "much"}, "gate_penalty: got 'much', allowed is a number from 0, or none"),
        ({"precision": "float61"}, "precision: got 'float61', .* mean 'float16'"),
    ],
)
def test_what_the_flags_refuse(changes, message):
    with pytest.raises(ValueError, match=message):
        flags(**changes)


def test_prompts_from_a_file(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("\ufeffFirst one\n\n  Second one \nThird\n", encoding="utf-8")
    assert flags(prompt_file=str(file), max_prompts="2").prompts == {
        "prompt": ("First one", "Second one")
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [(b" \n\n", "is empty"), (b"\xff\xfe", "not UTF-8"), (None, "cannot be read")],
)
def test_prompt_files_that_cannot_be_used(tmp_path, content, message):
    file = tmp_path / "prompts.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=f"prompt_file: .*{message}"):
        flags(prompt_file=str(file))


def test_output_dir_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"output_dir: .* a file; allowed is a folder"):
        flags(output_dir=str(tmp_path / "file"))


# The study


def test_both_subjects_are_alike_but_for_agency(tmp_path, text_folder):
    spec, _ = plan(tmp_path, text_folder, temperatures="0,0.7,1", seed="4")
    baseline, agency = spec.subjects
    assert (baseline.name, agency.name) == ("baseline", "agency")
    assert baseline.agency is None
    assert agency.agency.gate_penalty == 0.1
    assert agency.model_copy(update={"name": "baseline", "agency": None}) == baseline
    (cut,) = spec.cuts
    assert (cut.method, cut.cut) == ("heads-entropy", "remove")
    assert cut.amounts == [0, 0.2, 0.4, 0.6, 0.8]
    assert (spec.protocol, spec.seeds) == ("fair", [4, 5, 6])
    assert (spec.adaptation.steps, spec.recovery.steps) == (60, 30)
    assert (spec.text.temperature, spec.text.also_temperatures) == (0, [0.7, 1])
    assert spec.data.window == 128


def test_gates_cut_agency_and_their_first_order_effect_the_baseline(tmp_path, text_folder):
    spec, told = plan(tmp_path, text_folder, pruning_method="gate")
    assert [(c.method, c.subjects) for c in spec.cuts] == [
        ("heads-taylor", ["baseline"]),
        ("heads-gate", ["agency"]),
    ]
    assert any("the baseline has no gates" in line for line in told)


def test_without_training(tmp_path, text_folder):
    spec, told = plan(tmp_path, text_folder, adapt_steps="0", recover_steps="0")
    assert spec.adaptation is None
    assert spec.recovery.steps == 0
    assert spec.subjects[1].agency.gate_penalty is None
    assert len([line for line in told if "_steps 0" in line]) == 2


def test_tokens_that_fit_the_model(tmp_path, text_folder):
    spec, told = plan(tmp_path, text_folder)
    assert spec.text.new_tokens == 64
    assert any("gpt2-nano has 128 positions" in line for line in told)
    spec, _ = plan(tmp_path, text_folder, num_tokens="120")
    assert (spec.speed.prompt_tokens, spec.speed.new_tokens) == ([8], [120])


def test_a_trained_model_moves_by_smaller_steps(tmp_path, text_folder, shared):
    spec, _ = plan(tmp_path, text_folder, model_name=str(shared / "models" / "stories260K"))
    assert spec.training is None
    assert spec.recovery.learning_rate < 1e-4
    assert spec.text.new_tokens == 100


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "abacus"}, "device: got 'abacus'"),
        ({"precision": "float16", "device": "cpu"}, "precision: got float16, allowed on cpu"),
        ({"num_tokens": "128"}, "num_tokens: got 128, .* gpt2-nano has 128 positions"),
        ({"model_name": "biogpt-nano"}, "model_name: .* registry"),
        ({"model_name": "gpt2"}, "model_name: 'gpt2' .*--model_name gpt2-nano$"),
        ({"model_name": "./nowhere"}, "model_name: './nowhere'"),
        ({"data": "stdlibb"}, "data: got 'stdlibb'"),
    ],
)
def test_what_the_plan_refuses(tmp_path, text_folder, changes, message, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=message):
        plan(tmp_path, text_folder, **changes)


def test_one_document_cannot_be_divided(tmp_path):
    (tmp_path / "text.txt").write_text("Some words. " * 100)
    with pytest.raises(ValueError, match="data: 1 documents cannot be divided"):
        plan(tmp_path, tmp_path / "text.txt")


@pytest.mark.parametrize("characters", [1, 700, 5_000, 10**9])
def test_the_held_out_share_is_the_smallest_with_so_much_text(characters):
    documents = [Document(f"file_{i}.txt", "x" * (100 + 10 * i)) for i in range(60)]
    share = held_out_share(documents, characters)

    def held(share):
        return sum(len(d.text) for d in documents if is_held_out(d.name, share))

    total = held(1)
    wanted = min(characters, total // 2)
    assert wanted <= held(share) < total
    assert held(share - 1e-4) < wanted


def test_a_folder_of_another_study(tmp_path, text_folder):
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "study.json").write_text('{"study": "nano"}')
    with pytest.raises(ValueError, match=r"output_dir: .* holds the study 'nano'"):
        plan(tmp_path, text_folder)
    (tmp_path / "o" / "study.json").write_text("[]")
    plan(tmp_path, text_folder)  # the run sets what is broken aside


# The command


@pytest.fixture
def compare(tmp_path, text_folder, capsys, monkeypatch):
    def page(folder, baseline):
        assert baseline == "baseline"
        (folder / "agency.html").write_text("")  # charts take long; the slow test draws them
        return folder / "agency.html"

    monkeypatch.setattr("resprout.report.agency.page.write_agency_report", page)
    monkeypatch.setattr(command, "_effort", lambda name: TINY)
    fixed = ["--model_name=gpt2-nano", f"--data={text_folder}", f"--output_dir={tmp_path / 'o'}",
             "--pruning_levels=0,50", "--iterations=1", "--adapt_steps=2", "--recover_steps=1",
             "--num_tokens=4", "--max_prompts=1"]  # fmt: skip

    def run(*arguments):
        code = command.main([*fixed, *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.mark.slow
def test_a_whole_comparison(compare, tmp_path):
    folder = tmp_path / "o"
    code, out, err = compare("--save_outputs", "--memory_logging")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].startswith("report: ")
    assert [line for line in out.splitlines() if "50 %" in line and "agency" in line]
    records = [json.loads(path.read_text()) for path in (folder / "points").glob("*.json")]
    assert sorted((r["subject"], r["amount"]) for r in records) == [
        ("agency", 0), ("agency", 0.5), ("baseline", 0), ("baseline", 0.5)
    ]  # fmt: skip
    assert {r["achieved"] for r in records} == {0, 0.5}
    assert {r["identity"]["calibration_windows"] for r in records} == {2}
    texts = sorted(path.name for path in (folder / "outputs").iterdir())
    assert len(texts) == 8
    assert "agency_heads-entropy_50_seed0_t0.7.txt" in texts
    assert "agency_heads-entropy_50_seed0_t1.txt" in texts
    rows = list(csv.DictReader((folder / "memory.csv").read_text().splitlines()))
    assert {row["stage"] for row in rows} >= {"cut", "recovery", "loss", "speed", "text"}
    assert all(int(row["peak_bytes"]) > 0 for row in rows)

    before = {path: path.stat().st_mtime_ns for path in (folder / "points").iterdir()}
    code, out, err = compare("--quiet")  # again: nothing is done again
    assert (code, err) == (0, "")
    (line,) = out.splitlines()
    assert Path(line).is_file()
    assert {path: path.stat().st_mtime_ns for path in (folder / "points").iterdir()} == before

    Path(line).unlink()
    code, out, _ = compare("--visualize_only", "--quiet")
    assert (code, out.strip()) == (0, line)
    assert Path(line).is_file()

    code, out, err = compare("--pruning_method=random")
    assert code == 2
    assert "holds the study 'agency-entropy-gpt2-nano'" in err


def test_a_prompt_that_does_not_fit(compare):
    code, _, err = compare("--num_tokens=127")
    assert code == 2
    assert err.startswith("pruning_agency_comparison: error: num_tokens: text.prompts.knowledge")
    assert len(err.splitlines()) == 1


def test_nothing_to_visualize(compare, tmp_path):
    code, out, err = compare("--visualize_only")
    assert (code, out) == (2, "")
    assert "visualize_only" in err and "holds no records" in err
    assert not (tmp_path / "o").exists()


def test_an_unknown_option(capsys):
    with pytest.raises(SystemExit) as end:
        command.main(["--prunning_levels=0"])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said == (
        "pruning_agency_comparison: error: there is no option --prunning_levels; "
        "did you mean '--pruning_levels'?\n"
    )


def test_not_installed(tmp_path):
    done = subprocess.run(
        [sys.executable, "-S", str(SCRIPTS / "pruning_agency_comparison.py")],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "resprout is not installed; in the repository: pip install -e .\n"


@pytest.mark.slow
def test_the_cpu_test_runs_offline(tmp_path):
    done = script("run_pruning_cpu_test.py", "--debug", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = tmp_path / done.stdout.splitlines()[-1].removeprefix("report: ")
    assert page.is_file()
    page.unlink()
    where = f"--output_dir={page.parent}"
    done = script("pruning_agency_comparison.py", "--visualize_only", "--quiet", where)
    assert (done.returncode, done.stdout) == (0, f"{page}\n"), done.stderr
    assert page.is_file()


# Updating


def git(folder, *arguments):
    named = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org"]
    done = subprocess.run(
        ["git", *named, "-C", str(folder), *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def repositories(tmp_path):
    """A bare remote, a checkout where work is done, and a user's clone; each with one file."""
    remote, work, clone = (tmp_path / name for name in ("remote.git", "work", "clone"))
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(remote))
    git(tmp_path, "clone", "--quiet", str(remote), str(work))
    git(work, "checkout", "--quiet", "-B", "main")
    publish(work, "file.txt", "first")
    git(tmp_path, "clone", "--quiet", str(remote), str(clone))
    return remote, work, clone


def publish(work, name, text):
    path = work / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    git(work, "add", "--all")
    git(work, "commit", "--quiet", "-m", text[:20].strip() or "change")
    git(work, "push", "--quiet", "origin", "main")


def test_update_goes_forward(repositories):
    _, work, clone = repositories
    assert command.update(clone) is None
    publish(work, "file.txt", "second")
    (clone / "own.txt").write_text("untracked")
    assert command.update(clone) == git(work, "rev-parse", "--short", "HEAD")
    assert (clone / "file.txt").read_text() == "second"
    assert (clone / "own.txt").read_text() == "untracked"


def test_update_is_refused_over_local_changes(repositories):
    _, work, clone = repositories
    publish(work, "file.txt", "second")
    (clone / "file.txt").write_text("mine")
    before = git(clone, "rev-parse", "HEAD")
    with pytest.raises(ValueError, match=r"local changes, such as file\.txt"):
        command.update(clone)
    assert (clone / "file.txt").read_text() == "mine"
    assert git(clone, "rev-parse", "HEAD") == before


def test_update_overwrites_no_untracked_file(repositories):
    _, work, clone = repositories
    publish(work, "new.txt", "theirs")
    (clone / "new.txt").write_text("mine")
    with pytest.raises(ValueError, match="cannot be fast-forwarded"):
        command.update(clone)
    assert (clone / "new.txt").read_text() == "mine"


def test_update_is_refused_when_diverged(repositories):
    _, work, clone = repositories
    publish(work, "file.txt", "second")
    (clone / "other.txt").write_text("mine")
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "-m", "mine")
    with pytest.raises(ValueError, match=r"diverged \(1 and 1 commits\)"):
        command.update(clone)


def test_own_commits_alone_are_no_obstacle(repositories):
    clone = repositories[2]
    (clone / "other.txt").write_text("mine")
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "-m", "mine")
    assert command.update(clone) is None


def test_update_needs_a_branch_a_remote_and_a_checkout(repositories, tmp_path):
    remote, _, clone = repositories
    git(clone, "checkout", "--quiet", "--detach")
    with pytest.raises(ValueError, match="detached head"):
        command.update(clone)
    git(clone, "checkout", "--quiet", "main")
    git(clone, "checkout", "--quiet", "-b", "elsewhere")
    with pytest.raises(ValueError, match="the remote has no origin/elsewhere"):
        command.update(clone)
    git(clone, "checkout", "--quiet", "main")
    remote.rename(tmp_path / "gone.git")
    with pytest.raises(ValueError, match="the remote cannot be fetched"):
        command.update(clone)
    git(clone, "remote", "remove", "origin")
    with pytest.raises(ValueError, match="has no remote"):
        command.update(clone)
    with pytest.raises(ValueError, match="is not a git checkout"):
        command.update(tmp_path)


def test_the_script_updates_itself_and_starts_again(repositories):
    _, work, clone = repositories
    name = "scripts/pruning_comparison/pruning_agency_comparison.py"
    publish(work, name, (SCRIPTS / "pruning_agency_comparison.py").read_text())
    git(clone, "pull", "--quiet")
    publish(work, name, "import sys\nprint('new', sys.argv[1:])\n")
    done = subprocess.run(
        [sys.executable, str(clone / name), "--update", "--iterations=0"],
        capture_output=True, text=True,
    )  # fmt: skip
    commit = git(work, "rev-parse", "--short", "HEAD")
    assert done.stdout.splitlines() == [f"{clone} is now at {commit}", "new ['--iterations=0']"]


# Colab


@pytest.fixture
def published(repositories):
    """A remote that holds what the Colab runner looks for; `main` says how it was called."""
    remote, work, _ = repositories
    import resprout.cli.update as updating

    for name in ("__init__.py", "cli/__init__.py"):
        publish(work, f"src/resprout/{name}", f"# {name}\n")
    publish(work, "src/resprout/cli/update.py", Path(updating.__file__).read_text())
    publish(work, "src/resprout/cli/agency_comparison.py", RUNS.format(1))
    return remote, work


RUNS = "def main(*given):\n    print({}, *given)\n    return 0\n"


def colab(folder, *arguments, cell=False, **environment):
    folder.mkdir(exist_ok=True)
    text = (SCRIPTS / "run_pruning_comparison_colab.py").read_text()
    drive = f"DRIVE = Path({str(folder / 'drive')!r})"
    text = text.replace('DRIVE = Path("/content/drive")', drive)
    text = text.replace("ARGUMENTS = []", f"ARGUMENTS = {list(arguments)!r}")
    (folder / "runner.py").write_text(text)
    started = [sys.executable, "runner.py", *arguments]
    if cell:
        program = "exec(open('runner.py').read(), {})"
        started = [sys.executable, "-c", program, "-f", "kernel.json"]
    return subprocess.run(
        started, capture_output=True, text=True, cwd=folder, env=os.environ | environment
    )


@pytest.mark.parametrize("cell", [False, True])
def test_colab_clones_then_updates(published, tmp_path, cell):
    remote, work = published
    place = tmp_path / "content"
    done = colab(place, "--quiet", cell=cell, RESPROUT_REPOSITORY=str(remote))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "1 ['--quiet'] None {'precision': 'auto'}\n"
    publish(work, "src/resprout/cli/agency_comparison.py", RUNS.format(2))
    done = colab(place, "--iterations", "2", cell=cell)  # the clone is there: no URL is needed
    assert done.stdout == "2 ['--iterations', '2'] None {'precision': 'auto'}\n"


def test_colab_takes_the_repository_as_a_flag(published, tmp_path):
    done = colab(tmp_path / "content", f"--repository={published[0]}", "--quiet")
    assert done.stdout == "1 ['--quiet'] None {'precision': 'auto'}\n"


@pytest.mark.parametrize("cell", [False, True])
def test_colab_without_a_repository(tmp_path, cell):
    done = colab(tmp_path / "content", cell=cell)
    assert done.returncode == 2
    assert "error: repository: missing" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_colab_with_a_repository_that_is_none(tmp_path):
    done = colab(tmp_path / "content", "--repository", str(tmp_path / "nothing"))
    assert done.returncode == 2
    assert "cannot be cloned" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_colab_uses_the_checkout_that_it_lies_in(published, tmp_path):
    place = tmp_path / "own"
    git(tmp_path, "clone", "--quiet", str(published[0]), str(place))
    done = colab(place)
    assert done.stdout == f"1 [] {place / 'runner.py'} {{'precision': 'auto'}}\n"
    assert not (place / "resprout").exists()


def test_colab_keeps_results_on_drive_where_there_is_one(published, tmp_path):
    module = tmp_path / "modules" / "google" / "colab"
    module.mkdir(parents=True)
    (module / "__init__.py").write_text("")
    (module.parent / "__init__.py").write_text("")
    (module / "drive.py").write_text(
        "from pathlib import Path\n"
        "def mount(place): (Path(place) / 'MyDrive').mkdir(parents=True)\n"
    )
    place = tmp_path / "content"
    environment = {"PYTHONPATH": str(tmp_path / "modules")}
    done = colab(place, RESPROUT_REPOSITORY=str(published[0]), **environment)
    assert f"'output_dir': '{place / 'drive' / 'MyDrive' / 'pruning_agency'}'" in done.stdout
    (module / "drive.py").write_text("def mount(place): raise ValueError('not allowed')\n")
    (place / "drive" / "MyDrive").rmdir()
    done = colab(place, **environment)
    assert done.stdout == "1 [] None {'precision': 'auto'}\n"
    assert "Drive is not mounted (not allowed)" in done.stderr
