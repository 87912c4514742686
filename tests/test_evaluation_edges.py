"""Evaluations at their edges: odd tokenizers, no network, narrow terminals, state as it was."""

import json
import random
import sys

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import resprout
from resprout.cli import evaluation_table
from resprout.cli.app import main
from resprout.cli.prune_table import Console
from resprout.data.held_out import of_texts
from resprout.data.reachable import hub_or_cache
from resprout.hints import first_line
from resprout.measure import precision
from resprout.measure.held_out_loss import LossOptions, measure_loss
from resprout.measure.speed import SpeedOptions
from resprout.measure.tasks.paired import compare_items
from resprout.measure.text import FIVE, TextOptions
from resprout.models.identity import weights_identity
from resprout.models.sizes import build, configuration
from resprout.study.evaluation_plan import new_name
from resprout.study.evaluation_results import Results
from resprout.study.run import run_study
from resprout.study.spec import read_spec
from task_records import keep_task

SPEED = ("--measures", "speed", "--new-tokens", "2", "--batches", "1", "--prompt-tokens", "3",
         "--repeats", "1", "--warmup", "1", "--device", "cpu")  # fmt: skip


@pytest.fixture(scope="module")
def whole(tokens, tmp_path_factory):
    """A small model in a folder, with its tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "whole"
    build(configuration("llama-nano", vocab_size=300), seed=0).save_pretrained(folder)
    tokens.transformers_tokenizer(128).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def nameless(tmp_path_factory):
    """A model whose tokenizer names neither a beginning nor an end."""
    folder = tmp_path_factory.mktemp("models") / "nameless"
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(["x"], trainers.BpeTrainer(initial_alphabet=alphabet))
    build(configuration("llama-nano", vocab_size=300), seed=0).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Rows of two tasks, in the layout of the benchmarks folder."""
    folder = tmp_path_factory.mktemp("benchmarks")
    (folder / "piqa").mkdir()
    (folder / "wikitext").mkdir()
    items = [{"goal": f"return {i}", "sol1": "x = 1", "sol2": "def f", "label": i % 2}
             for i in range(4)]  # fmt: skip
    text = "".join(json.dumps(row) + "\n" for row in items)
    for split in ("train", "validation"):
        (folder / "piqa" / f"{split}.jsonl").write_text(text)
    pages = [" def f ( x ) : \n return x + 1 \n" * n for n in (9, 40)]
    text = "".join(json.dumps({"page": page}) + "\n" for page in pages)
    (folder / "wikitext" / "test.jsonl").write_text(text)
    return folder


def run(capsys, *arguments):
    """(exit code, standard output, standard error) of the command."""
    with pytest.raises(SystemExit) as end:
        main(["eval", *map(str, arguments)])
    return (end.value.code, *capsys.readouterr())


def test_a_size_is_named_by_its_configuration_and_nobody_is_asked(tmp_path, capsys):
    assert weights_identity("biogpt-nano", None) != weights_identity("llama-nano", None)
    code, _, told = run(capsys, "llama-nano", "-o", tmp_path / "out", *SPEED)
    assert code == 0, told


def test_models_with_other_positions_are_compared_in_one_window(
    whole, tokens, text_folder, tmp_path, capsys
):
    short = configuration("gpt2-nano", vocab_size=300, max_position_embeddings=64)
    build(short, seed=1).save_pretrained(tmp_path / "short")
    tokens.transformers_tokenizer(64).save_pretrained(tmp_path / "short")
    code, said, told = run(capsys, whole, tmp_path / "short", "-o", tmp_path / "out",
                           "--measures", "loss", "--data", text_folder)  # fmt: skip
    assert code == 0, told
    assert "short against whole: loss +" in said or "short against whole: loss -" in said
    for name in ("whole", "short"):
        loss = json.loads((tmp_path / "out" / "models" / name / "loss.json").read_text())
        assert loss["measured"]["window"] == 64


def test_wikitext_is_never_rounded_unasked(whole, rows, monkeypatch, tmp_path):
    model, tokenizer = resprout.load(whole)
    monkeypatch.setattr(precision, "has_fast_bf16", lambda: True)
    monkeypatch.setattr(precision, "WORTH_SECONDS", 0)
    from resprout.data.wikitext import read_wikitext

    held = read_wikitext(tokenizer, rows)
    found = measure_loss(model, tokenizer, held, LossOptions(window=4))
    assert found.details["precision"]["precision"] == "fp32"
    asked = measure_loss(model, tokenizer, held, LossOptions(window=4, precision="bf16"))
    assert asked.details["precision"]["precision"] == "bf16"


def test_a_tokenizer_without_begin_and_end(nameless, rows, text_folder, tmp_path, capsys):
    given = (nameless, "-o", tmp_path / "out", "--task-data", rows)
    for options, said in (
        (("--measures", "loss", "--data", "wikitext2"), "'wikitext2' begins each page with"),
        (("--tasks", "piqa"), "it names neither a beginning nor an end of text"),
    ):
        code, _, told = run(capsys, *given, *options)
        assert code == 2 and told.count("\n") == 1 and said in told
    model, tokenizer = resprout.load(nameless)
    with pytest.raises(ValueError, match="names neither"):
        resprout.evaluate(model, tokenizer, tasks="piqa", task_data=rows)
    code, _, told = run(capsys, *given[:3], "--measures", "loss,text", "--data", text_folder,
                        "--text-tokens", "4", "--prompts", "five")  # fmt: skip
    assert code == 0, told  # a stream without ends


def test_an_error_without_words_says_what_broke():
    def breaks():
        assert 1 > 2

    with pytest.raises(AssertionError) as caught:
        breaks()
    caught.value.args = ()
    assert first_line(caught.value) == "assert 1 > 2"
    assert first_line(KeyError()) == "KeyError"
    told = ValueError("Validation error for field 'a':\n    TypeError: expected int\nmore")
    assert first_line(told) == "Validation error for field 'a': TypeError: expected int"


@pytest.mark.parametrize("way", ["blocked", "missing"])
def test_without_lm_eval_it_is_said_in_one_line(whole, rows, tmp_path, capsys, monkeypatch, way):
    if way == "blocked":
        monkeypatch.setitem(sys.modules, "lm_eval", None)
    else:
        from importlib import metadata

        def none(_):
            raise metadata.PackageNotFoundError("lm_eval")

        monkeypatch.setattr(metadata, "version", none)
    code, _, told = run(capsys, whole, "-o", tmp_path / "out", "--tasks", "piqa", "--task-data",
                        rows)  # fmt: skip
    assert code == 2 and told.count("\n") == 1 and "pip install 'resprout[tasks]'" in told


def test_names_that_are_nearly_right(whole, rows, tmp_path, capsys):
    code, _, told = run(capsys, whole, "-o", tmp_path / "out", "--tasks", "", "--task-data", rows)
    assert code == 2 and "tasks: got ''" in told
    code, _, told = run(capsys, whole, "-o", tmp_path / "out", "--measures", "loss", "--data",
                        "wikitex2")  # fmt: skip
    assert code == 2 and "did you mean 'wikitext2'?" in told


def test_an_unreachable_hub_is_asked_once(monkeypatch):
    import datasets
    from huggingface_hub import HfApi, constants

    asked = []

    def unreachable(self, name, **_):
        asked.append(name)
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(HfApi, "dataset_info", unreachable)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    with hub_or_cache("one/set"):
        assert constants.HF_HUB_OFFLINE and datasets.config.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE and not datasets.config.HF_HUB_OFFLINE
    monkeypatch.setattr(HfApi, "dataset_info", lambda self, name, **_: None)
    with hub_or_cache("one/set"):
        assert not constants.HF_HUB_OFFLINE
    assert asked == ["one/set"]


def test_evaluate_leaves_everything_as_it_was(whole, rows, capsys):
    model, tokenizer = resprout.load(whole)
    model.train()
    model.model.layers[0].eval()
    quick = SpeedOptions(batches=(2,), prompt_tokens=(4,), new_tokens=(2,), repeats=1, warmup=1)

    def state():
        return (
            [module.training for module in model.modules()], tokenizer.padding_side,
            tokenizer.pad_token, len(tokenizer), torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(), random.getstate(), torch.get_default_dtype(),
            model.config.to_dict(), model.generation_config.to_dict(),
        )  # fmt: skip

    import lm_eval.evaluator  # noqa: F401, some libraries draw while they are imported

    before = state()
    capsys.readouterr()
    found = resprout.evaluate(
        model, tokenizer, "loss,tasks,speed,text", data=["def f(x): return x + 1\n" * 9],
        tasks="piqa", task_data=rows, limit=2, speed=quick, text=TextOptions(FIVE, new_tokens=4),
    )  # fmt: skip
    assert list(found) == ["loss", "tasks", "speed", "text"]
    assert state() == before
    assert capsys.readouterr().out == ""
    unequal = found["speed"].figures["batch2/prompt4-unequal/new2/time_to_first_token"]
    assert "prompts of 2 to 4 random tokens" in unequal.protocol


def test_words_of_paired_tasks(tmp_path):
    def task(folder, headline, values):
        keep_task(folder, "one", headline, values)
        return folder

    same = [task(tmp_path / name, "acc,none", [1.0, 0.0]) for name in "ab"]
    assert f"{compare_items(*same, 'one').difference:+.1f}" == "+0.0"
    pages = [
        task(tmp_path / f"w{shift}", "word_perplexity,none", [[-9.0 - shift, 3], [-6.0, 3]])
        for shift in (0, 3)
    ]
    found = compare_items(*pages, "one")
    assert found.unit == "nats per word" and found.difference == pytest.approx(0.5)
    last = [
        task(tmp_path / f"l{shift}", "perplexity,none", [-9.0 - shift, -6.0]) for shift in (0, 3)
    ]
    assert compare_items(*last, "one").unit == "nats per item"


def test_a_narrow_terminal_cuts_nothing_off(whole, text_folder, tmp_path, capsys, monkeypatch):
    options = (whole, "-o", tmp_path / "out", "--measures", "loss,speed,text", "--data",
               text_folder, *SPEED[2:], "--text-tokens", "4")  # fmt: skip
    code, wide, told = run(capsys, *options)
    assert code == 0, told
    assert "its texts: " in wide and "nonsense in good words is not seen" in wide
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    text = results["models"][0]["measures"]["text"]
    assert text["verdicts"]["all"] in wide
    narrow = Console(markup=False, highlight=False, width=80)
    monkeypatch.setattr(evaluation_table, "console", lambda columns: narrow)
    evaluation_table.show(Results(results["models"], {}, {}, []))
    said = capsys.readouterr().out
    assert "…" not in said
    assert "speed batch1/prompt3/new2" in said
    absent = (
        "text/reference_nats_per_token, text/reference_perplexity: none (no reference was given"
    )
    assert absent in said and absent in wide
    for found in results["models"][0]["measures"].values():
        for figure in found["figures"].values():
            if figure["value"] is not None:
                assert evaluation_table.number(figure["value"]) in said


def test_a_measure_without_any_figure_is_one_line():
    def figure(value, reason=None):
        return {"value": value, "ci95": None, "unit": "J", "items": 1, "reason": reason}

    measures = {
        "energy": {
            "figures": {"a/joules": figure(None, "no counter"), "b": figure(None, "no counter")}
        },
        "speed": {"figures": {"a": figure(1.0), "b": figure(None, "one step"), "c": figure(2.0)}},
        "loss": {"failed": "not a number"},
    }
    assert evaluation_table.absent_lines(measures) == [
        "energy: none (no counter)", "speed/b: none (one step)", "loss: failed (not a number)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("models", "names"),
    [
        (["gpt2", "pruned/gpt2", "./pruned//gpt2/"], ["gpt2", "pruned-gpt2", "gpt2-2"]),
        (["a/final", "b/final", "/c/b/final"], ["final", "b-final", "c-b-final"]),
        (
            ["EleutherAI/pythia-160m", "../a b", ".hidden", "é"],
            ["pythia-160m", "a-b", "hidden", "model"],
        ),
    ],
)
def test_models_are_called_by_what_tells_them_apart(models, names):
    taken = []
    for model in models:
        taken.append(new_name(model, taken))
    assert taken == names


def test_a_study_refuses_what_cannot_be_timed(small_study, write_study, rows, tmp_path):
    small_study["measures"] = ["loss", "tasks", "speed"]
    small_study["tasks"] = {"names": "piqa", "data": str(rows)}

    def refused(said):
        with pytest.raises(ValueError, match=said):
            run_study(read_spec(write_study(small_study)), tmp_path / "run", torch.device("cpu"),
                      lambda line: None)  # fmt: skip
        assert not (tmp_path / "run").exists()

    small_study["speed"] = {"prompt_tokens": [500], "new_tokens": [2]}
    refused(r"^speed\.new_tokens: got 2 after a prompt of 500 tokens.*'bio'")
    small_study["speed"] = {"compile": "cuda-graphs"}
    refused(r"^speed\.compile: got 'cuda-graphs'")
    small_study["speed"] = {}
    small_study["tasks"]["names"] = "boolq"
    refused(r"^tasks\.data: boolq needs .*boolq/validation\.jsonl")


def test_texts_without_a_tokenizers_end(nameless):
    _, tokenizer = resprout.load(nameless)
    held = of_texts(["one", "two"], tokenizer)
    assert held.end_of_text is None and len(held.stream) == 6
