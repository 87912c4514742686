"""What the README shows works as it stands there."""

import re
from pathlib import Path

import torch
import yaml

from resprout.models.biogpt.published import write_published
from resprout.models.convert import convert
from resprout.models.sizes import build, configuration
from resprout.study.spec import read_spec

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def block(language, number=0):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)[number]


def test_the_study_is_valid_and_runs_on_local_models(shared, text_folder, tmp_path):
    """The README's own study; its Hub models, text and steps replaced by what is at hand."""
    from resprout.study.run import run_study

    written = tmp_path / "mine.yaml"
    written.write_text(block("yaml"))
    assert len(read_spec(written).subjects) == 2
    values = yaml.safe_load(block("yaml"))
    values["data"] |= {"source": str(text_folder), "held_out": 0.2}
    values["recovery"] |= {"steps": 2, "learning_rate": 1e-4}
    for subject in values["subjects"]:
        subject["model"] = str(shared / "models" / "stories260K")
        subject.pop("revision", None)
    written.write_text(yaml.safe_dump(values))
    device = torch.device("cpu")
    outcome = run_study(read_spec(written), tmp_path / "run", device, notice=lambda line: None)
    assert outcome.failures == {}
    assert len(outcome.records) == 6


def test_the_python_works_on_a_local_model(shared, tmp_path, tokens, monkeypatch):
    code = block("python")
    model = shared / "models" / "stories260K"
    code = code.replace('"EleutherAI/pythia-160m", revision="step1000"', f'"{model}"')
    code = code.replace('"runs/mine/data/ID"', "tokens").replace("steps=500", "steps=2")
    monkeypatch.chdir(tmp_path)
    names = {"tokens": tokens}
    exec(code, names)
    assert names["cut"].requested == 0.45
    zeros = [
        (p == 0).sum() for n, p in names["model"].named_parameters() if n in names["cut"].masks
    ]
    assert int(sum(zeros)) >= names["cut"].prunable - names["cut"].kept


def test_the_python_of_the_dendritic_model_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_published(build(configuration("biogpt-nano"), seed=0), "x.pt")
    convert("x.pt", Path("OUT"))
    names = {"ids": torch.tensor([[1, 2, 3]])}
    exec(block("python", 1), names)
    assert type(names["model"]).__name__ == "BioGPTForCausalLM"


def test_its_links_and_pictures_are_there():
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_its_commands_are_make_targets():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)", README, re.MULTILINE):
        name = "".join(target)
        assert f"\n{name}:" in makefile, name
