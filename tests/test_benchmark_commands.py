"""Bad input to the scripts under `benchmarks/`: one line, exit code 2, nothing measured."""

import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
LIBRARIES = {"arguments", "growing", "reference_biogpt"}
SCRIPTS = sorted(path.stem for path in BENCHMARKS.glob("*.py") if path.stem not in LIBRARIES)

ROWS = [
    ("agency", "--models nonsense", ["--models", "'nonsense'", "nano"]),
    ("agency", "--rounds 0", ["--rounds", "'0'", "from 1"]),
    ("agency", "--device tpu", ["--device", "'tpu'", "cpu"]),
    ("biogpt", "--size gpt-neox-nano", ["--size", "'gpt-neox-nano'", "biogpt-294m"]),
    ("biogpt", "--size biogpt-nan", ["--size", "did you mean", "biogpt-nano"]),
    ("biogpt", "--parts trian", ["--parts", "'trian'", "did you mean", "train"]),
    ("biogpt", "--kinds ours-bf16", ["--kinds", "'ours-bf16'", "ours bf16"]),
    ("biogpt", "--batch 1.5", ["--batch", "'1.5'", "whole number"]),
    ("biogpt", "--batch ٣", ["--batch", "'٣'", "whole number"]),
    ("biogpt", "--peak-tflops nan", ["--peak-tflops", "'nan'", "above 0"]),
    ("biogpt", "--peak-gbytes -3", ["--peak-gbytes", "'-3'", "above 0"]),
    ("equal_flops", "nowhere", ["run", "'nowhere'", "does not exist"]),
    ("equal_flops", ". --shares 1.5", ["--shares", "'1.5'", "1 at most"]),
    ("eval", "--clock sundial", ["--clock", "'sundial'", "wall"]),
    ("eval", "--windows -1", ["--windows", "'-1'", "from 1"]),
    ("faults_agency", "--seed -1", ["--seed", "'-1'", "from 0"]),
    ("faults_biogpt", "--parts bf61", ["--parts", "'bf61'", "bf16"]),
    ("faults_glu", "x --amounts 1", ["--amounts", "'1'", "not including, 1"]),
    ("gpu", "--device cpu --parts 2:5", ["--parts", "'2:5'", "2:4"]),
    ("learning_rates", "nowhere.yaml", ["study", "'nowhere.yaml'", "does not exist"]),
    ("learning_rates", ". --rates 0", ["--rates", "'0'", "above 0"]),
    ("prepare", "--megabytes much", ["--megabytes", "'much'", "above 0"]),
    ("prune", "--device cuda:7", ["--device", "'cuda:7'", "cpu"]),
    ("prune", "--repeats 99999999999", ["--repeats", "'99999999999'", "2147483647"]),
    ("removal", "--cases heads-nine", ["--cases", "'heads-nine'"]),
    ("removal", "--dtype int4", ["--dtype", "'int4'", "bfloat16"]),
    ("semi_structured", "--tokens none", ["--tokens", "'none'", "whole number"]),
    ("start_values", "--changes magic", ["'magic'", "scaled"]),
    ("start_values", "--seeds x", ["--seeds", "'x'", "from 0"]),
    ("stories", "nowhere -o out", ["model", "'nowhere'", "does not exist"]),
    ("story_curves", "nowhere . -o out", ["model", "'nowhere'", "does not exist"]),
    ("story_curves", ". . -o out --amounts -0.1", ["--amounts", "'-0.1'", "from 0"]),
    ("training", "--steps 0", ["--steps", "'0'", "from 1"]),
    ("unfair_choices", "here there", ["alike", "'here'", "does not exist"]),
    *((name, "--nonsense", ["error: "]) for name in SCRIPTS),
]


@pytest.mark.parametrize(("name", "words", "says"), ROWS, ids=lambda value: str(value)[:40])
def test_one_line(tmp_path, monkeypatch, capsys, name, words, says):
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *words.split(" ")])
    try:
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name="__main__")
    finally:
        for other in {path.stem for path in BENCHMARKS.glob("*.py")} - before:
            sys.modules.pop(other, None)
    out, err = capsys.readouterr()
    assert ended.value.code == 2
    assert len(err.splitlines()) == 1 and err.startswith(f"{name}.py: error: ")
    assert not out
    for part in says:
        assert part in err
    assert not list(tmp_path.iterdir())


def test_every_script_is_in_the_table():
    assert {row[0] for row in ROWS} == set(SCRIPTS)
