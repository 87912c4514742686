"""Local task data: what is read equals what datasets reads, and every fault is named."""

import json
import shutil

import pytest

from resprout.measure.tasks import local, names, registry, rows, shapes
from resprout.measure.tasks.plan import TaskRequest, plan_tasks

GOOD = {
    "wikitext": {"page": "A page ."},
    "lambada_openai": {"text": "the last word"},
    "arc_challenge": {
        "question": "What?",
        "choices": {"text": ["a", "b"], "label": ["A", "B"]},
        "answerKey": "B",
    },
    "hellaswag": {
        "activity_label": "Roof",
        "ctx_a": "A man",
        "ctx_b": "he",
        "endings": ["sits", "runs"],
        "label": "1",
    },
    "winogrande": {"sentence": "The _ ran.", "option1": "cat", "option2": "dog", "answer": "2"},
    "piqa": {"goal": "g", "sol1": "a", "sol2": "b", "label": 1},
    "boolq": {"passage": "p", "question": "q", "label": 0},
    "truthfulqa_mc1": {"question": "q", "mc1_targets": {"choices": ["a", "b"], "labels": [1, 0]}},
    "truthfulqa_mc2": {
        "question": "q",
        "mc2_targets": {"choices": ["a", "b", "c"], "labels": [1, 0, 1]},
    },
    "gsm8k": {"question": "q", "answer": "1 + 1 = 2\n#### 2"},
}


def test_rows_equal_what_datasets_reads(shared, tmp_path):
    """Every file of the thirteen (of mmlu one subject), rows in order, features too."""
    import datasets

    folder = shared / "benchmarks"
    asked = [w for w in names.expand("glu13") if w.name != "mmlu"] + [names.Wanted("mmlu_anatomy")]
    index = registry.manager(["mmlu", *(w.name for w in names.expand("glu13"))]).task_index
    files = {}
    with local.nltk_tables(folder):
        for one in asked:
            for task in local.read_task(folder, index, one.name, one.shots).values():
                files |= {file.name: file for file in task.files.values()}
    assert len(files) == 21
    datasets.disable_progress_bars()
    try:
        for name, file in files.items():
            theirs = datasets.load_dataset(
                "json",
                data_files={"x": str((folder / name).absolute())},
                cache_dir=str(tmp_path / "cache"),
            )["x"]
            assert [json.dumps(row) for row in file.rows] == [json.dumps(row) for row in theirs]
            assert file.rows.features == theirs.features
    finally:
        datasets.enable_progress_bars()


def test_all_thirteen_are_found_and_absent_splits_are_not_named(shared):
    plan = plan_tasks(TaskRequest("glu13", task_data=shared / "benchmarks"))
    assert [len(tasks) for tasks in plan.data.values()] == [1, 1, 57, *([1] * 9), 3]
    hellaswag = plan.data["hellaswag"]["hellaswag"].config
    assert hellaswag["training_split"] is None and hellaswag["validation_split"] == "validation"
    assert plan.data["mmlu"]["mmlu_anatomy"].config["fewshot_split"] == "dev"
    musr = plan.data["leaderboard_musr"]["leaderboard_musr_team_allocation"]
    assert musr.files["team_allocation"].name == "leaderboard_musr/team_allocation.jsonl"


def test_files_may_have_a_byte_order_mark_and_empty_lines(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"page": "a"}\r\n\n{"page": "b", "n": 1}')
    file = rows.read_data_file(tmp_path, "a.jsonl", shapes.WikiText)
    assert list(file.rows) == [{"page": "a", "n": None}, {"page": "b", "n": 1}]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b'{"page": "a"}\n{"page": \n', r"line 2, column 10: not JSON \(Expecting value\)"),
        (b'{"page": "a"}\n{"page": "\xff"}', "line 2, column 11: not UTF-8"),
        (b"[1]\n", "line 1: got list, allowed is an object"),
        (b'{"page": NaN}', r"line 1: not JSON \(NaN is no JSON number\)"),
        (b"[" * 100_000, "line 1: not JSON"),
        (b'{"page": "a"}\n{"pag": "a"}', "line 2, column 'page': it is missing"),
        (b'{"page": 3}', "line 1, column 'page': got 3, input should be a valid string"),
        (b'{"page": "a", "n": 1}\n{"page": "a", "n": "x"}', "column 'n': its values are not all"),
    ],
)
def test_a_file_that_is_wrong(tmp_path, data, message):
    (tmp_path / "a.jsonl").write_bytes(data)
    with pytest.raises(ValueError, match=message) as error:
        rows.read_data_file(tmp_path, "a.jsonl", shapes.WikiText)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"task_data: {tmp_path / 'a.jsonl'}")


@pytest.mark.parametrize("task", GOOD)
def test_good_rows_pass_with_other_columns(task):
    shape = shapes.shape_of(task, {})
    shapes.check_row(shape, GOOD[task] | {"other": [1, {}]})
    for column in GOOD[task]:
        with pytest.raises(shapes.FaultError, match=f"column '{column}': it is missing"):
            shapes.check_row(shape, {k: v for k, v in GOOD[task].items() if k != column})
        with pytest.raises(shapes.FaultError, match=f"column '{column}"):
            shapes.check_row(shape, GOOD[task] | {column: None})


@pytest.mark.parametrize(
    ("task", "changes", "column"),
    [
        ("lambada_openai", {"text": "oneword"}, "text"),
        ("lambada_openai", {"text": "ends in a space "}, "text"),
        ("arc_challenge", {"answerKey": "C"}, "answerKey"),
        ("arc_challenge", {"choices": {"text": ["a", "b"], "label": ["A"] * 3}}, "choices.label"),
        ("arc_challenge", {"choices": {"text": ["a"], "label": ["A"]}}, "choices.text"),
        ("hellaswag", {"label": "2"}, "label"),
        ("hellaswag", {"label": -1}, "label"),
        ("hellaswag", {"label": ""}, "label"),
        ("hellaswag", {"endings": []}, "endings"),
        ("hellaswag", {"endings": ["a", ""]}, "endings.1"),
        ("winogrande", {"answer": "3"}, "answer"),
        ("winogrande", {"answer": 1}, "answer"),
        ("winogrande", {"sentence": "no blank"}, "sentence"),
        ("piqa", {"label": 2}, "label"),
        ("piqa", {"label": "1"}, "label"),
        ("boolq", {"label": 0.5}, "label"),
        (
            "truthfulqa_mc1",
            {"mc1_targets": {"choices": ["a"], "labels": [0]}},
            "mc1_targets.labels",
        ),
        (
            "truthfulqa_mc1",
            {"mc1_targets": {"choices": ["a", "b"], "labels": [0, 1]}},
            "mc1_targets.labels",
        ),
        (
            "truthfulqa_mc2",
            {"mc2_targets": {"choices": ["a", "b"], "labels": [1]}},
            "mc2_targets.labels",
        ),
        ("gsm8k", {"answer": "two"}, "answer"),
    ],
)
def test_impossible_values(task, changes, column):
    with pytest.raises(
        shapes.FaultError, match=r"got .*(allowed|input|list|string|should)"
    ) as error:
        shapes.check_row(shapes.shape_of(task, {}), GOOD[task] | changes)
    assert error.value.column == column
    assert len(str(error.value)) < 250


@pytest.mark.parametrize(
    ("changes", "column"),
    [
        ({"answer": 4}, "answer"),
        ({"answer": "A"}, "answer"),
        ({"choices": ["a", "b", "c"]}, "choices"),
    ],
)
def test_mmlu(changes, column):
    shape = shapes.shape_of("mmlu_anatomy", {"dataset_path": "cais/mmlu"})
    row = {"question": "q", "choices": ["a", "b", "", "d"], "answer": 3}
    shapes.check_row(shape, row)
    with pytest.raises(shapes.FaultError) as error:
        shapes.check_row(shape, row | changes)
    assert error.value.column == column


@pytest.mark.parametrize(
    ("changes", "column"),
    [
        ({"choices": "['a'"}, "choices"),
        ({"choices": "['a']"}, "choices"),
        ({"choices": "{'a': 1}"}, "choices"),
        ({"answer_choice": "c"}, "answer_choice"),
    ],
)
def test_musr(changes, column):
    shape = shapes.shape_of("x", {"dataset_path": "TAUR-Lab/MuSR"})
    row = {"narrative": "n", "question": "q", "choices": "['a', \"b's\"]", "answer_choice": "b's"}
    shapes.check_row(shape, row)
    with pytest.raises(shapes.FaultError) as error:
        shapes.check_row(shape, row | changes)
    assert error.value.column == column


@pytest.mark.parametrize(
    ("changes", "column"),
    [
        ({"instruction_id_list": ["punctuation:all_commas"]}, "instruction_id_list"),
        ({"kwargs": []}, "kwargs"),
        ({"instruction_id_list": []}, "instruction_id_list"),
    ],
)
def test_ifeval(shared, changes, column):
    row = {
        "key": 1,
        "prompt": "p",
        "instruction_id_list": ["punctuation:no_comma"],
        "kwargs": [{}],
    }
    with local.nltk_tables(shared / "benchmarks"):
        shapes.check_row(shapes.IfEval, row)
        with pytest.raises(shapes.FaultError) as error:
            shapes.check_row(shapes.IfEval, row | changes)
    assert error.value.column == column


# Which files a task needs


@pytest.fixture
def data(tmp_path):
    def write(name, count=1, row=None):
        path = tmp_path / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([json.dumps(row or GOOD[name.split("/")[0]])] * count))
        return tmp_path

    return write


def test_a_missing_file_is_named(data):
    folder = data("hellaswag/train")
    with pytest.raises(ValueError, match=r"hellaswag needs .*hellaswag/validation.jsonl"):
        plan_tasks(TaskRequest("hellaswag", task_data=folder))


def test_examples_need_their_file_and_enough_rows(data):
    folder = data("gsm8k/test")
    with pytest.raises(ValueError, match=r"gsm8k draws its 5 examples from .*train.jsonl"):
        plan_tasks(TaskRequest("gsm8k", task_data=folder))
    data("gsm8k/train", count=4)
    with pytest.raises(ValueError, match="has 4 rows, too few for 5 examples"):
        plan_tasks(TaskRequest("gsm8k", task_data=folder))
    plan_tasks(TaskRequest("gsm8k", task_data=folder, shots=4))
    data("gsm8k/train", count=5)
    plan_tasks(TaskRequest("gsm8k", task_data=folder))


def test_a_file_for_examples_is_checked_even_without_examples(data):
    data("piqa/validation")
    folder = data("piqa/train", row={"goal": "g"})
    with pytest.raises(ValueError, match=r"train.jsonl, line 1, column 'sol1': it is missing"):
        plan_tasks(TaskRequest("piqa", task_data=folder))


def test_one_file_never_serves_several_subjects(data, shared, tmp_path):
    """`mmlu/test.jsonl` holds all subjects; it must not stand for each."""
    source = shared / "benchmarks" / "mmlu"
    shutil.copytree(source, tmp_path / "mmlu")
    shutil.rmtree(tmp_path / "mmlu" / "by_subject" / "anatomy")
    with pytest.raises(
        ValueError, match=r"mmlu_anatomy needs .*mmlu/by_subject/anatomy/test.jsonl"
    ):
        plan_tasks(TaskRequest("mmlu", task_data=tmp_path))


def test_other_tasks_are_read_from_files_named_by_their_splits(data):
    row = {"question": "q", "choices": ["a", "b"], "answer": 0}
    folder = data("openbookqa/test", row=row)
    plan = plan_tasks(TaskRequest("openbookqa", task_data=folder))
    config = plan.data["openbookqa"]["openbookqa"].config
    assert config["test_split"] == "test" and config["training_split"] is None
    (folder / "openbookqa" / "test.jsonl").write_text("{")
    with pytest.raises(ValueError, match=r"openbookqa/test\.jsonl, line 1, column 2: not JSON"):
        plan_tasks(TaskRequest("openbookqa", task_data=folder))


def test_ifeval_needs_nltks_tables(tmp_path, monkeypatch):
    import nltk

    monkeypatch.setattr(nltk.data, "path", [])
    with pytest.raises(ValueError, match=r"ifeval needs NLTK's tables in .*punkt_tab"):
        plan_tasks(TaskRequest("ifeval", task_data=tmp_path))
    assert nltk.data.path == []
