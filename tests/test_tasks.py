"""Tasks run through lm-eval in memory: names, keeping, failures, and lm-eval's own command line."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import resprout
from resprout.measure.tasks import harness, kept, names, registry, running
from resprout.measure.tasks.plan import TaskRequest, plan_tasks
from resprout.measure.tasks.running import run_tasks
from resprout.models.sizes import build, configuration

QUICK = "hellaswag,lambada_openai,winogrande"


@pytest.fixture(scope="module")
def stories():
    from places import SHARED

    if not SHARED.is_dir():
        pytest.skip("needs ../shared (real models and fixtures), which is not here")
    return resprout.load(SHARED / "models" / "stories260K")


@pytest.fixture
def benchmarks(shared):
    return shared / "benchmarks"


# Names


def test_glu13_is_the_published_list():
    thirteen = names.expand("glu13")
    assert len(thirteen) == 13
    assert {w.name: w.shots for w in thirteen if w.shots} == {"mmlu": 5, "gsm8k": 5}


def test_sets_and_names_mix_and_a_name_counts_once():
    mixed = names.expand(" piqa , standard,glu13,piqa")
    assert [w.name for w in mixed].count("piqa") == 1
    assert mixed[0] == names.Wanted("piqa", None)
    assert {w.name for w in mixed} == {w.name for w in (*names.GLU13, *names.STANDARD)}
    assert names.expand(["glu13"], shots=2)[0].shots == 2
    with pytest.raises(ValueError, match="tasks: got ' , '"):
        names.expand(" , ")
    with pytest.raises(ValueError, match="shots: got -1"):
        names.expand("glu13", shots=-1)


def test_headlines():
    assert names.headline("arc_challenge", ["acc", "acc_norm"]) == "acc_norm"
    both = ["exact_match,strict-match", "exact_match,flexible-extract"]
    assert names.headline("gsm8k", both) == "exact_match,flexible-extract"
    assert names.headline("gsm8k_cot", both) == "exact_match,strict-match"
    assert names.headline("cb", ["f1", "acc"]) == "acc"
    assert names.headline("squad", ["f1", "bleu"]) == "f1"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("helaswag", "tasks: got 'helaswag'.*; did you mean 'hellaswag'"),
        ("gl13", "did you mean 'glu13'"),
        ("lambadaa", "did you mean 'lambada'"),  # a tag
    ],
)
def test_unknown_names_offer_the_nearest(asked, message):
    with pytest.raises(ValueError, match=message) as error:
        plan_tasks(TaskRequest(asked))
    assert "\n" not in str(error.value)


def test_without_lm_eval_one_line_says_what_to_install(monkeypatch):
    from importlib import metadata

    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(registry.metadata, "version", absent)
    with pytest.raises(ValueError, match=r"pip install 'resprout\[tasks\]'"):
        plan_tasks(TaskRequest("glu13"))
    monkeypatch.setattr(registry.metadata, "version", lambda name: "0.4.9.1")
    with pytest.raises(ValueError, match=r"lm-eval 0\.4\.9\.1 is installed, needs 0\.4\.13"):
        plan_tasks(TaskRequest("glu13"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"limit": 0}, "limit: got 0"),
        ({"limit": 2.5}, "limit: got 2.5"),
        ({"batch_size": "auto"}, "batch_size: got 'auto'"),
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"task_data": Path("nowhere")}, "task_data: 'nowhere' is not a folder"),
    ],
)
def test_options_are_checked(values, message):
    with pytest.raises(ValueError, match=message):
        TaskRequest("glu13", **values)


def test_a_missing_library_is_named(monkeypatch):
    found = registry.importlib.util.find_spec
    absent = {"langdetect"}
    monkeypatch.setattr(
        registry.importlib.util, "find_spec", lambda n: None if n in absent else found(n)
    )
    with pytest.raises(ValueError, match="ifeval needs langdetect, which is not installed"):
        registry.check_libraries(names.expand("ifeval"))


@pytest.mark.slow
def test_the_small_index_holds_what_the_whole_one_does():
    """Also that no name of lm-eval's is missed by reading its files' text."""
    from lm_eval.tasks import TaskManager

    whole = TaskManager().task_index
    asked = [w.name for w in (*names.GLU13, *names.STANDARD)]
    part = registry.manager(asked).task_index
    for name in asked:
        assert registry.leaves(part, name) == registry.leaves(whole, name)
        for leaf in (name, *registry.leaves(part, name)):
            assert part[leaf].yaml_path == whole[leaf].yaml_path
    defined, tags = registry._scan()
    assert {n for n, e in whole.items() if e.kind.name == "TAG"} <= tags
    assert {n for n, e in whole.items() if e.kind.name != "TAG"} <= set(defined)


# Running


def test_figures_items_and_a_second_run(stories, benchmarks, tmp_path, monkeypatch):
    model, tokenizer = stories
    lines: list[str] = []
    request = TaskRequest(QUICK, limit=4, task_data=benchmarks)
    first = run_tasks(model, tokenizer, request, tmp_path, "digest", lines.append)
    assert list(first.figures) == [
        "hellaswag/acc",
        "hellaswag/acc_norm",
        "lambada_openai/perplexity",
        "lambada_openai/acc",
        "winogrande/acc",
    ]
    assert not first.details["failed"]
    assert len(lines) == 3
    figure = first.figures["hellaswag/acc_norm"]
    assert figure.items == 4 and figure.unit == "share"
    assert figure.ci95[0] <= figure.value <= figure.ci95[1]
    for part in ("lm-eval", "0 shots", "first 4 items", "local data", "Wilson"):
        assert part in figure.protocol
    json.dumps(first.as_json(), allow_nan=False)

    scores = kept.item_scores(tmp_path, "hellaswag")
    assert len(scores) == 4
    assert sum(scores.values()) / 4 == figure.value
    record = kept.read_task(tmp_path, "hellaswag")
    assert record["chance"] == 0.25
    assert record["configs"]["hellaswag"]["dataset_kwargs"] == {
        "data_files": {"validation": "hellaswag/validation.jsonl"}
    }
    text = (tmp_path / "hellaswag.json").read_text()
    assert " at 0x" not in text and str(benchmarks) not in text and "site-packages" not in text

    monkeypatch.setattr(running, "_run_one", None)  # would fail if it were called
    second = run_tasks(model, tokenizer, request, tmp_path, "digest")
    assert second == first


def test_another_model_other_data_another_limit_run_again(
    stories, benchmarks, tmp_path, monkeypatch
):
    model, tokenizer = stories
    own = tmp_path / "data"
    (own / "piqa").mkdir(parents=True)
    rows = (benchmarks / "piqa" / "validation.jsonl").read_text().splitlines()
    (own / "piqa" / "validation.jsonl").write_text("\n".join(rows[:6]))
    real, calls = running._run_one, []
    monkeypatch.setattr(running, "_run_one", lambda *given: calls.append(0) or real(*given))

    def run(digest="digest", **changes):
        calls.clear()
        request = TaskRequest("piqa", **{"limit": 2, "task_data": own} | changes)
        run_tasks(model, tokenizer, request, tmp_path / "kept", digest)
        return len(calls)

    assert run() == 1
    assert run() == 0
    assert run(digest="another") == 1
    assert run(limit=3) == 1
    assert run(limit=3, batch_size=2) == 1
    assert run() == 1
    (own / "piqa" / "validation.jsonl").write_text("\n".join(rows[1:6]))
    assert run() == 1
    (tmp_path / "kept" / "piqa.json").write_text("{")
    assert run() == 1
    assert (tmp_path / "kept" / "piqa.json.corrupt-1").read_text() == "{"
    with (tmp_path / "kept" / "piqa.samples.jsonl").open("a") as file:
        file.write("{}\n")
    assert run() == 1


def test_a_task_that_fails_is_named_and_tried_again(stories, benchmarks, tmp_path, monkeypatch):
    model, tokenizer = stories
    real = harness.evaluate

    def failing(lm, manager, loaded, shots, limit):
        if getattr(loaded, "task_name", "") == "lambada_openai":
            raise RuntimeError("the third GPU\nis on fire")
        return real(lm, manager, loaded, shots, limit)

    monkeypatch.setattr(harness, "evaluate", failing)
    request = TaskRequest(QUICK, limit=2, task_data=benchmarks)
    found = run_tasks(model, tokenizer, request, tmp_path, "digest")
    assert found.details["failed"] == {"lambada_openai": "RuntimeError: the third GPU"}
    assert set(found.details["tasks"]) == {"hellaswag", "winogrande"}
    monkeypatch.setattr(harness, "evaluate", real)
    again = run_tasks(model, tokenizer, request, tmp_path, "digest")
    assert not again.details["failed"] and len(again.details["tasks"]) == 3

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(harness, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_tasks(model, tokenizer, request, tmp_path / "other", "digest")


def test_nothing_of_the_callers_changes(stories, benchmarks, tmp_path, capsys):
    import datasets
    import nltk

    model, tokenizer = stories
    tokenizer.pad_token = None
    model.train()
    environment, path = dict(os.environ), list(nltk.data.path)
    request = TaskRequest("piqa,ifeval", limit=1, task_data=benchmarks)
    capsys.readouterr()
    found = run_tasks(model, tokenizer, request, tmp_path, "digest")
    assert capsys.readouterr() == ("", "")
    assert model.training and tokenizer.pad_token is None
    model.eval()
    assert dict(os.environ) == environment
    assert nltk.data.path == path
    assert not datasets.are_progress_bars_disabled()
    # IFEval asks for 1,280 new tokens, and this model has 512 positions.
    assert found.details["tasks"]["ifeval"]["max_gen_toks"] == {
        "ifeval": {"asked": 1280, "used": 256}
    }
    protocol = found.figures["ifeval/prompt_level_strict_acc"].protocol
    assert "at most 256 tokens instead of 1280" in protocol


def test_a_tokenizer_of_another_model_is_refused(stories, benchmarks, tmp_path):
    _, tokenizer = stories
    small = build(configuration("llama-nano", vocab_size=300), seed=0)
    with pytest.raises(ValueError, match="tokenizer: it has 512 tokens, allowed are the 300"):
        run_tasks(small, tokenizer, TaskRequest("piqa", task_data=benchmarks), tmp_path, "d")


@pytest.mark.parametrize("family", ["biogpt-nano", "gpt-neox-nano", "cut"])
def test_the_houses_own_models(stories, benchmarks, tmp_path, family):
    """BioGPT, and a Llama whose layers differ in width (class CutLlamaForCausalLM)."""
    _, tokenizer = stories
    size = "llama-nano" if family == "cut" else family
    model = build(configuration(size, vocab_size=512), seed=0)
    if family == "cut":
        resprout.prune(model, "glu-maw", amount=0.3, cut="remove", scope="global")
        assert type(model).__name__ == "CutLlamaForCausalLM"
    request = TaskRequest("hellaswag,lambada_openai,gsm8k", limit=1, task_data=benchmarks, shots=0)
    found = run_tasks(model, tokenizer, request, tmp_path, "digest")
    assert not found.details["failed"]
    lengths = {task["max_length"] for task in found.details["tasks"].values()}
    assert lengths == {model.config.max_position_embeddings}


def test_groups_and_tags_without_a_score_of_their_own_are_taken_apart():
    class Kind:
        def __init__(self, name):
            self.name = name

    class Entry:
        def __init__(self, kind, cfg=None, tags=()):
            self.kind, self.cfg, self.tags = Kind(kind), cfg or {}, set(tags)

    index = {
        "a": Entry("TASK"),
        "b": Entry("TASK"),
        "tag": Entry("TAG", tags=["b", "a"]),
        "plain": Entry("GROUP", {"task": ["tag", "scored"]}),
        "scored": Entry("GROUP", {"task": ["b"], "aggregate_metric_list": [{"metric": "acc"}]}),
    }
    parts = registry.split_up(index, [names.Wanted("plain", 2), names.Wanted("a")])
    assert [(w.name, w.shots) for w in parts] == [("a", 2), ("b", 2), ("scored", 2)]
    assert registry.leaves(index, "plain") == ["a", "b", "b"]


def test_local_tasks_touch_no_network(stories, benchmarks, tmp_path, monkeypatch):
    def refused(*_):
        raise AssertionError("the network was asked for something")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    model, tokenizer = stories
    request = TaskRequest("leaderboard_musr,truthfulqa_mc2,arc_easy", limit=1, task_data=benchmarks)
    with pytest.raises(ValueError, match=r"arc_easy needs .*arc_easy/test\.jsonl"):
        plan_tasks(request)
    request = TaskRequest("leaderboard_musr,truthfulqa_mc2", limit=1, task_data=benchmarks)
    found = run_tasks(model, tokenizer, request, tmp_path, "digest")
    assert not found.details["failed"]
    assert set(found.details["tasks"]["leaderboard_musr"]["subtasks"]) == set(
        found.details["tasks"]["leaderboard_musr"]["items"]
    )
    assert found.figures["leaderboard_musr/acc_norm"].items == 3


KILLED = """
import os, sys
from pathlib import Path
import resprout
from resprout.measure.tasks import running
from resprout.measure.tasks.plan import TaskRequest

model, tokenizer = resprout.load(sys.argv[1] + "/models/stories260K")
request = TaskRequest("hellaswag,piqa,boolq,winogrande", 2, Path(sys.argv[1] + "/benchmarks"))
def notice(line):
    print(line, flush=True)
    if line.startswith("piqa"):
        sys.stdin.readline()  # wait to be killed
running.run_tasks(model, tokenizer, request, Path(sys.argv[2]), "digest", notice)
"""


@pytest.mark.slow
def test_after_a_kill_only_unfinished_tasks_run(stories, shared, tmp_path):
    program = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(shared), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with program:
        lines = [program.stdout.readline() for _ in range(2)]
        assert lines[1].startswith("piqa (2 of 4): acc")
        program.send_signal(signal.SIGKILL)
        assert program.wait() == -signal.SIGKILL
    model, tokenizer = stories
    notices: list[str] = []
    request = TaskRequest("hellaswag,piqa,boolq,winogrande", 2, shared / "benchmarks")
    run_tasks(model, tokenizer, request, tmp_path, "digest", notices.append)
    before = [line.split()[0] for line in notices if "finished before" in line]
    assert before == ["hellaswag", "piqa"] and len(notices) == 4


# lm-eval's own command line

_ZERO_SHOT = ["wikitext", "lambada_openai", "hellaswag", "winogrande", "arc_challenge"]
_ZERO_SHOT += ["truthfulqa_mc2", "ifeval"]
_OVERRIDES = {
    "wikitext": {"training_split": None, "validation_split": None},
    "hellaswag": {"training_split": None},
    "winogrande": {"training_split": None},
    "ifeval": {
        "generation_kwargs": {
            "until": [],
            "do_sample": False,
            "temperature": 0.0,
            "max_gen_toks": 256,
        }
    },
}


def _write_yaml(folder, benchmarks, task):
    """What the shared README says: the stock file included, its data on local files."""
    import lm_eval.tasks

    group = next((g for g in ("mmlu", "leaderboard_musr") if task.startswith(g)), task)
    entry = registry.manager([group]).task_index[task]
    place = f"mmlu/by_subject/{task.removeprefix('mmlu_')}" if group == "mmlu" else group
    nulled = _OVERRIDES.get(task, {})
    stock = local_config(entry)
    splits = {
        stock.get(key)
        for key in ("training_split", "validation_split", "test_split", "fewshot_split")
        if key not in nulled
    } - {None}
    files = {s: str((benchmarks / place / f"{s}.jsonl").absolute()) for s in splits}
    assert Path(lm_eval.tasks.__file__).parent in entry.yaml_path.parents
    values = {
        "include": str(entry.yaml_path),
        "task": task,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files},
        **nulled,
    }
    (folder / f"{task}.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def local_config(entry):
    from lm_eval.tasks._yaml_loader import load_yaml

    return load_yaml(entry.yaml_path, resolve_func=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch_size", "zero", "five", "metrics"),
    [
        (1, [*_ZERO_SHOT, "leaderboard_musr"], ["gsm8k", "mmlu_anatomy", "mmlu_virology"], 46),
        (3, ["hellaswag", "wikitext"], ["gsm8k"], 14),
    ],
)
def test_results_equal_lm_evals_command_line_to_the_digit(
    stories, shared, tmp_path, batch_size, zero, five, metrics
):
    """Every kind of output: rolling, loglikelihood, choices, inputs, generation; a group."""
    benchmarks = shared / "benchmarks"
    configs, out = tmp_path / "yaml", tmp_path / "out"
    configs.mkdir()
    for task in (*zero, *five):
        members = (
            registry.leaves(registry.manager([task]).task_index, task)
            if (task == "leaderboard_musr")
            else [task]
        )
        for member in members:
            _write_yaml(configs, benchmarks, member)
    theirs = {}
    for tasks, shots in ((zero, 0), (five, 5)):
        subprocess.run(
            [
                *(sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args"),
                f"pretrained={shared / 'models' / 'stories260K'},dtype=float32",
                *("--tasks", ",".join(tasks), "--num_fewshot", str(shots), "--limit", "4"),
                *("--device", "cpu", "--batch_size", str(batch_size)),
                *("--include_path", str(configs), "--output_path", str(out / str(shots))),
            ],
            check=True,
            capture_output=True,
            env=os.environ
            | {
                "HF_HUB_OFFLINE": "1",
                "HF_DATASETS_OFFLINE": "1",
                "HF_DATASETS_CACHE": str(tmp_path / "cache"),
                "NLTK_DATA": str(benchmarks / "_nltk_data"),
            },
        )
        (file,) = (out / str(shots)).rglob("results_*.json")
        theirs |= json.loads(file.read_text())["results"]
    model, tokenizer = stories
    ours = {}
    for tasks, shots in ((zero, 0), (five, 5)):
        request = TaskRequest(tuple(tasks), 4, benchmarks, batch_size, shots)
        found = run_tasks(model, tokenizer, request, tmp_path / "kept", "digest")
        assert not found.details["failed"]
        for name, task in found.details["tasks"].items():
            ours |= {name: task["metrics"], **task["subtasks"]}
    compared = 0
    for task, reported in theirs.items():
        for key, value in reported.items():
            metric, comma, filtered = key.partition(",")
            if not comma:
                continue
            label = names.metric_label(f"{metric.removesuffix('_stderr')},{filtered}")
            field = "stderr" if metric.endswith("_stderr") else "value"
            expected = None if value == "N/A" else value
            assert ours[task][label][field] == expected, (task, key)
            compared += 1
    assert compared == metrics
