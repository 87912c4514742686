"""Study files: what is wrong is said in one line, with the field, the value and the way out."""

import copy
from pathlib import Path

import pytest

from resprout.study import spec_yaml
from resprout.study.points import plan
from resprout.study.spec import read_spec

ROOT = Path(__file__).parents[1]


def changed(values, path, value):
    """A copy of a study's dict with one field set; `path` such as `cuts.0.amounts`."""
    values = copy.deepcopy(values)
    part = values
    *parents, last = path.split(".")
    for step in parents:
        part = part[int(step) if step.isdigit() else step]
    if value is ...:
        del part[last]
    else:
        part[int(last) if last.isdigit() else last] = value
    return values


STUDIES = sorted((ROOT / "experiments").rglob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_our_own_studies_are_valid(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # They stand for what `prepare` writes.
    for prepared in ("data", "runs/installed", "runs/installed-16k"):
        (tmp_path / prepared).mkdir(parents=True)
        (tmp_path / prepared / "manifest.json").write_text("{}")
    spec = read_spec(path)
    assert spec.subjects


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("bogus", 1, "bogus: unknown key (value 1), allowed are study, question"),
        ("recovry", 1, "did you mean 'recovery'"),
        ("data.windwo", 16, "data.windwo: unknown key (value 16)"),
        ("cuts.0.amount", 0.5, "did you mean 'amounts'"),
        ("subjects.1.lr", 0.5, "subjects.1.lr: unknown key"),
        ("training.learning_rate", 0.1, "training.learning_rate: unknown key"),
        ("study", ..., "study: missing"),
        ("subjects.0.model", ..., "subjects.0.model: missing"),
        ("study", "a/b", "study: got 'a/b'"),
        ("study", 7, "study: got 7"),
        ("study", "../escape", "study: got '../escape'"),
        ("recovery.steps", "many", "recovery.steps: got 'many', allowed is a valid integer"),
        ("recovery.steps", 2.5, "recovery.steps: got 2.5"),
        ("recovery.steps", True, "recovery.steps: got True"),
        ("recovery.steps", -1, "recovery.steps: got -1"),
        ("recovery.learning_rate", 0, "recovery.learning_rate: got 0"),
        ("recovery.learning_rate", float("nan"), "recovery.learning_rate: got nan"),
        ("recovery", None, "recovery: got None"),
        ("training.batch_windows", 0, "training.batch_windows: got 0"),
        ("cuts.0.amounts", [0, 1.5], "cuts.0.amounts: amount: got 1.5, allowed is a fraction"),
        ("cuts.0.amounts", [0, 45], "did you mean 0.45"),
        ("cuts.0.amounts", [0, 100], "amount: got 100"),
        ("cuts.0.amounts", [-0.1], "amount: got -0.1"),
        ("cuts.0.amounts", [0.5, 0.5], "each amount once"),
        ("cuts.0.amounts", [], "cuts.0.amounts: got []"),
        ("cuts.0.amounts", 0.5, "cuts.0.amounts: got 0.5"),
        ("cuts.0.amounts", [True], "cuts.0.amounts.0: got True"),
        ("cuts.0.amounts", ["half"], "cuts.0.amounts.0: got 'half'"),
        ("cuts.0.method", "magnitud", "did you mean 'magnitude'"),
        ("cuts.0.method", 3, "cuts.0.method: got 3"),
        ("cuts.0.dead_threshold", 95, "cuts.0.dead_threshold: got 95"),
        ("cuts", [], "cuts: got []"),
        ("protocol", "unfair", "protocol: got 'unfair', allowed are 'fair' or 'paper'"),
        ("measures", ["loss", "vibes"], "measures.1: got 'vibes', allowed are 'loss', 'tasks'"),
        ("measures", ["text"], "measures: needs 'loss'"),
        ("measures", "loss", "measures: got 'loss'"),
        ("text", ..., "text: missing, needed since measures names 'text'"),
        ("text.prompts", {}, "text.prompts: got {}"),
        ("text.temperature", -1, "text.temperature: got -1"),
        ("text.new_tokens", 0, "text.new_tokens: got 0"),
        ("seeds", [0, 0], "each seed once"),
        ("seeds", [-1], "seeds.0: got -1"),
        ("seeds", [], "seeds: got []"),
        ("subjects", [], "subjects: got []"),
        ("subjects.1.name", "bio", "each name once"),
        ("training", ..., "training: missing, needed to grow the subject 'bio'"),
        ("data.source", "nowhere/at/all", "data.source: got 'nowhere/at/all'"),
        ("data.held_out", 0, "data.held_out: got 0"),
        ("data.held_out", 1.0, "data.held_out: got 1.0"),
        ("data.train_tokenizer", 100, "data.train_tokenizer: got 100"),
        ("data.window", 1, "data.window: got 1"),
        ("data.train_tokenizer", 10**20, "allowed is less than or equal to 1048576"),
        ("training.steps", 10**30, "training.steps: got 1000"),
        ("data.source", "x" * 5000, "data.source: got 'xxx"),
        ("data", 5, "data: got 5"),
        ("data.held_out", ..., "data.held_out: missing, needed to split text"),
        ("protocol", ["fair", "fair"], "protocol: got ['fair', 'fair'], allowed is each once"),
        ("protocol", ["fair", "papr"], "protocol.1: got 'papr', allowed are 'fair' or 'paper'"),
        ("protocol", [], "protocol: got [], allowed is one or more"),
        ("tasks", {"names": []}, "tasks.names: got [], allowed is one or more"),
        ("cuts.0.subjects", ["neo"], "cuts.0.subjects: got 'neo', allowed are bio, neox"),
    ],
)
def test_bad_fields(small_study, write_study, path, value, message):
    file = write_study(changed(small_study, path, value))
    with pytest.raises(ValueError) as caught:
        read_spec(file)
    said = str(caught.value)
    assert message in said
    assert said.startswith(str(file))
    assert "\n" not in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study: [unclosed", "not valid YAML (line 1"),
        ("", "allowed is a mapping"),
        ("- a\n- b\n", "allowed is a mapping"),
        ("just words", "allowed is a mapping"),
        ("study: a\nstudy: b\n", "key 'study' stands twice"),
        ("study: !!python/object/apply:os.system [ls]", "not valid YAML"),
        ("\t- x: 1", "not valid YAML"),
    ],
)
def test_bad_files(tmp_path, text, message):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        read_spec(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_megabyte_of_values_is_not_read_to_its_end(monkeypatch):
    """They are counted as they are composed: all of them would take many seconds."""
    monkeypatch.setattr(spec_yaml, "MOST_VALUES", 20)
    with pytest.raises(ValueError, match=r"column 59: 21 values or more, allowed are at most 20"):
        spec_yaml.read_yaml("[" + ", ".join(["0"] * 500) + ", [")  # never closed
    assert spec_yaml.read_yaml("[" + ", ".join(["0"] * 19) + "]") == [0] * 19


def test_files_that_are_not_there_or_not_text(tmp_path):
    with pytest.raises(ValueError, match="is not a file"):
        read_spec(tmp_path / "nowhere.yaml")
    with pytest.raises(ValueError, match="is not a file"):
        read_spec(tmp_path)
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00study")
    with pytest.raises(ValueError, match=r"not (UTF-8|valid YAML)"):
        read_spec(tmp_path / "b.yaml")


def test_numbers_as_people_write_them(small_study, write_study):
    file = write_study(small_study)
    file.write_text(file.read_text().replace("learning_rate: 0.001", "learning_rate: 1e-3"))
    assert "1e-3" in file.read_text()
    assert read_spec(file).recovery.learning_rate == 0.001


# The points of the small study as they were named before agency, adaptation and precision came.
GOLD = ["0b8ef709763b55c7", "1e5fffb08109ca0d", "0d087257b0e2d62d",
        "0b960630177fde6d", "378760fd96717a67", "2d729492724d29d6"]  # fmt: skip


def planned(file):
    """The points of a study file, with stand-ins for what its subjects and tokens are."""
    spec = read_spec(file)
    recipes = {(s.name, seed): {"of": s.name} for s in spec.subjects for seed in spec.seeds}
    return plan(spec, recipes, {s.name: "tokens" for s in spec.subjects}, "cpu")


def test_fields_that_are_not_used_leave_points_their_names(small_study, write_study):
    """Runs from before these fields keep their points; the digits are from then."""
    before = [point.id for point in planned(write_study(small_study))]
    assert before == GOLD
    small_study["text"]["also_temperatures"] = []
    small_study["precision"] = "float32"
    small_study["cuts"][0]["subjects"] = ["neox", "bio"]
    assert [point.id for point in planned(write_study(small_study))] == before
    small_study["text"]["also_temperatures"] = [1.0]
    with_texts = [point.id for point in planned(write_study(small_study))]
    small_study["precision"] = "bfloat16"
    in_half = [point.id for point in planned(write_study(small_study))]
    assert len({*before, *with_texts, *in_half}) == 3 * len(before)


def test_a_cut_may_be_of_some_subjects_alone(small_study, write_study):
    small_study["cuts"].append({"method": "wanda", "amounts": [0.5], "subjects": ["neox"]})
    points = [(p.subject.name, p.cut.method) for p in planned(write_study(small_study))]
    assert points == [("bio", "magnitude")] * 3 + [("neox", "magnitude")] * 3 + [("neox", "wanda")]


def test_both_protocols_give_points_of_each(small_study, write_study):
    small_study["protocol"] = ["fair", "paper"]
    both = planned(write_study(small_study))
    assert [p.id for p in both if p.protocol == "fair"] == GOLD
    assert [p.protocol for p in both] == (["fair"] * 3 + ["paper"] * 3) * 2
    assert len({p.label for p in both}) == 12
    small_study["protocol"] = "paper"
    alone = planned(write_study(small_study))
    assert [p.id for p in alone] == [p.id for p in both if p.protocol == "paper"]


def test_prepared_data_has_its_own_split_and_tokenizer(small_study, write_study, tokens):
    small_study["data"] = {"source": str(tokens.path), "window": 16}
    assert read_spec(write_study(small_study)).data.is_prepared
    for field, value in (("held_out", 0.1), ("train_tokenizer", 300)):
        bad = changed(small_study, f"data.{field}", value)
        with pytest.raises(ValueError, match=f"{field}: got {value}, allowed only with text"):
            read_spec(write_study(bad))


def test_recovery_may_be_left_out(small_study, write_study):
    del small_study["recovery"]
    assert read_spec(write_study(small_study)).recovery.steps == 0
