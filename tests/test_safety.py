"""Files from others do no harm: nothing runs, nothing escapes its folder, no secret is written."""

import ast
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import resprout
from report_records import two, write_run
from resprout.cli.app import main
from resprout.data.tokens import TokenSet
from resprout.models.biogpt.published import read_published
from resprout.models.sizes import build, configuration
from resprout.report.records import read_run
from resprout.study.spec import read_spec

SOURCE = Path(resprout.__file__).parent
MARK = "resprout_was_here"


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (Path(self.path).touch, ())


def calls(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def sources():
    return [*SOURCE.rglob("*.py"), *(SOURCE.parent / "biogpt").rglob("*.py")]


def test_nothing_in_the_code_unpickles_or_evaluates():
    for path in sources():
        text = path.read_text("utf-8")
        if not any(word in text for word in ("eval", "exec", "load", "system", "shell", "trust_r")):
            continue
        for node, name in calls(ast.parse(text)):
            where = f"{path.name}:{node.lineno} {name}"
            assert name not in ("eval", "exec", "os.system", "pickle.load", "pickle.loads"), where
            assert name not in ("yaml.unsafe_load", "yaml.full_load"), where
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if name == "yaml.load":
                assert f"class {given['Loader']}(yaml.SafeLoader)" in text, where
            if name == "torch.load":
                assert given.get("weights_only") == "True", where
            if name in ("np.load", "numpy.load"):
                assert given.get("allow_pickle", "False") == "False", where
            assert given.get("shell", "False") == "False", where
            assert given.get("trust_remote_code", "False") in ("False", "trust_remote_code"), where


@pytest.fixture
def neox(tmp_path):
    model = build(configuration("gpt-neox-nano", vocab_size=300), seed=0)
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_pickled_model_is_not_unpickled(neox, tmp_path):
    state = load_file(neox / "model.safetensors")
    (neox / "model.safetensors").unlink()
    with (neox / "pytorch_model.bin").open("wb") as file:
        pickle.dump({**state, "bomb": Bomb(tmp_path / MARK)}, file)
    with pytest.raises(ValueError, match="cannot be loaded"):
        resprout.load(neox)
    torch.save({"model_state_dict": Bomb(tmp_path / MARK), "config": {}}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"x\.pt"):
        read_published(tmp_path / "x.pt")
    assert not (tmp_path / MARK).exists()


def test_code_beside_a_model_is_not_run(neox, tmp_path, capsys):
    config = json.loads((neox / "config.json").read_text())
    config["auto_map"] = {
        "AutoConfig": "evil.EvilConfig",
        "AutoModelForCausalLM": "evil.EvilModel",
    }
    config["model_type"] = "evil"
    (neox / "config.json").write_text(json.dumps(config))
    (neox / "evil.py").write_text(
        f"from pathlib import Path\nPath({str(tmp_path / MARK)!r}).touch()"
    )
    with pytest.raises(ValueError, match="subject"):
        resprout.load(neox)
    with pytest.raises(SystemExit):
        main(["generate", str(neox), "--prompt", "x"])
    assert not (tmp_path / MARK).exists()
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_an_index_of_objects_is_not_unpickled(tokens, tmp_path):
    folder = tmp_path / "tokens"
    shutil.copytree(tokens.path, folder)
    np.save(folder / "train.index.npy", np.array([Bomb(tmp_path / MARK)]), allow_pickle=True)
    with pytest.raises(ValueError):
        TokenSet.open(folder).train.index.sum()
    assert not (tmp_path / MARK).exists()


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{mark}]]",
        "study: !!python/object/new:os.system ['touch {mark}']",
        "study: !!python/name:os.system ''",
    ],
)
def test_a_study_file_runs_nothing(tmp_path, text):
    (tmp_path / "s.yaml").write_text(text.format(mark=tmp_path / MARK))
    with pytest.raises(ValueError, match=r"s\.yaml"):
        read_spec(tmp_path / "s.yaml")
    assert not (tmp_path / MARK).exists()


OUTSIDE = ("../outside", "/outside", "a/../../outside", "..", ".", "a/b", "a\\b", "a\x00b", "~")


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_in_a_study_stay_in_its_folder(small_study, write_study, name):
    """A study's and a subject's name become names of folders."""
    for change in ({"study": name}, {"subjects": [{**small_study["subjects"][0], "name": name}]}):
        with pytest.raises(ValueError, match=r"study|name"):
            read_spec(write_study(small_study | change))


@pytest.mark.parametrize("point", ["../secret", "/etc/passwd", "a/b", "..", "0" * 300])
def test_points_of_a_run_stay_in_its_folder(tmp_path, point):
    write_run(tmp_path / "run", two([2.0, 3.0, 4.0], [2.0, 3.5, 5.0]))
    study = json.loads((tmp_path / "run" / "study.json").read_text())
    study["points"].append(point)
    (tmp_path / "run" / "study.json").write_text(json.dumps(study))
    with pytest.raises(ValueError, match=r"study\.json: points"):
        read_run(tmp_path / "run")


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "model.layers.0.weight/../../../evil"])
def test_names_in_a_cut_are_no_paths(neox, tmp_path, name):
    model, _ = resprout.load(neox)
    made = resprout.prune(model, "heads-magnitude", 0.5, cut="remove")
    resprout.save(model, made, tmp_path / "cut")
    (tmp_path / "cut" / "digests.json").unlink()
    manifest = json.loads((tmp_path / "cut" / "cut.json").read_text())
    for place in ("shapes", "reshaped"):
        changed = json.loads(json.dumps(manifest))
        if place == "shapes":
            changed["shapes"] = {name: [4]}
        else:
            changed["reshaped"] = {"shapes": {name: [4]}}
        (tmp_path / "cut" / "cut.json").write_text(json.dumps(changed))
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(ValueError):
            resprout.load(tmp_path / "cut")
            resprout.pruning.cut.Cut.load(tmp_path / "cut")
        assert sorted(tmp_path.rglob("*")) == before


def test_a_page_escapes_whatever_a_model_writes(tmp_path):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    records = two([2.0, 3.0, 4.0], [2.0, 3.5, 5.0])
    for record in records:
        sample = record["measures"]["text"]["samples"][0]
        sample |= {"text": evil, "prompt": evil, "category": evil}
        record["environment"]["cpu"] = evil
        record["environment"]["git_commit"] = evil
        record["method"] = evil
    write_run(tmp_path / "run", records)
    study = json.loads((tmp_path / "run" / "study.json").read_text())
    study["question"] = study["study"] = evil
    (tmp_path / "run" / "study.json").write_text(json.dumps(study))
    with pytest.raises(SystemExit) as ended:
        main(["report", str(tmp_path / "run")])
    assert not ended.value.code
    for page in tmp_path.rglob("*.html"):
        text = page.read_text("utf-8")
        assert "alert(1)" in text  # it is shown
        assert "<script>alert" not in text and "<img src=x" not in text


SECRET = "hf_secretsecretsecretsecret"


def test_no_secret_is_written(small_study, write_study, tmp_path, monkeypatch, capsys):
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, SECRET)
    small_study["subjects"] = small_study["subjects"][1:]
    small_study["cuts"][0]["amounts"] = [0.5]
    small_study["measures"] = ["loss"]
    with pytest.raises(SystemExit) as ended:
        main(["run", str(write_study(small_study)), "--out", str(tmp_path / "run")])
    assert not ended.value.code
    told = capsys.readouterr()
    assert SECRET not in told.out + told.err
    written = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert len(written) > 5
    for path in written:
        assert SECRET.encode() not in path.read_bytes(), path


def test_yaml_that_explodes_is_refused_at_once(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    (tmp_path / "s.yaml").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"allowed are at most"):
        read_spec(tmp_path / "s.yaml")
