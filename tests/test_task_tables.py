"""Scores with intervals, the published tables, the best level by its rule."""

import csv
import io
import json
import math

import numpy as np
import pytest

from resprout.measure.tasks import kept, levels, scores, tables
from resprout.measure.tasks.levels import Level, best_level, paired_p
from task_records import keep_task

# Scores

scipy_stats = pytest.importorskip("scipy.stats")


def test_shares_have_wilsons_interval():
    items = [True, False, 1.0, 0, 1, 1]
    one = scores.score("acc", 4 / 6, 0.2, [items])
    low, high = scipy_stats.binomtest(4, 6).proportion_ci(method="wilson")
    assert one.ci95 == pytest.approx((low, high), abs=1e-12)
    assert (one.value, one.stderr, one.items, one.unit) == (4 / 6, 0.2, 6, "share")


def test_a_group_is_pooled_over_its_items():
    one = scores.score("acc", 3 / 5, None, [[1, 1, 1], [0, 0]])
    low, high = scipy_stats.binomtest(3, 5).proportion_ci(method="wilson")
    assert one.ci95 == pytest.approx((low, high))
    equally = scores.score("acc", 0.5, None, [[1, 1, 1], [0, 0]], pooled=False)
    assert equally.ci95 is None and "count equally" in equally.reason


def test_perplexities_are_ratios_of_sums():
    generator = np.random.default_rng(0)
    words = generator.integers(50, 500, 200)
    nats = words * generator.normal(3.0, 0.3, 200)
    pairs = [(-n, int(w)) for n, w in zip(nats, words, strict=True)]
    value = math.exp(nats.sum() / words.sum())
    one = scores.score("word_perplexity", value, None, [pairs])
    assert one.unit == "perplexity" and one.ci95[0] < value < one.ci95[1]
    # The delta method's standard error of a ratio, an independent way to the interval's width.
    ratio = nats.sum() / words.sum()
    error = np.sqrt(((nats - ratio * words) ** 2).sum()) / words.sum()
    width = math.log(one.ci95[1]) - math.log(one.ci95[0])
    assert width == pytest.approx(2 * 1.96 * error, rel=0.1)
    bits = scores.score("bits_per_byte", ratio / math.log(2), None, [pairs])
    assert bits.ci95[0] == pytest.approx(math.log(one.ci95[0]) / math.log(2))
    single = scores.score("perplexity", math.exp(2.0), None, [[-1.0, -3.0]])
    ends = np.log(single.ci95)  # two items: all but nothing is known
    assert ends == pytest.approx([2 - ends[1] + 2, ends[1]]) and ends[1] > 8


@pytest.mark.parametrize(
    ("metric", "value", "items", "reason"),
    [
        ("f1", 0.5, [(0, 1), (1, 1)], "not a mean over items"),
        ("acc", 0.7, [1, 0], "as the mean over all items"),
        ("acc", math.nan, [math.nan], "lm-eval's value is nan"),
        ("perplexity", math.exp(2), [-2.0], "one item only"),
        ("perplexity", math.exp(2), [-2.0, -2.0], "all items score alike"),
        ("inst_level_acc", 0.0, [[False], [False, False]], "all items score alike"),
        ("acc", 0.0, [], "not a mean"),
    ],
)
def test_why_there_is_no_interval(metric, value, items, reason):
    one = scores.score(metric, value, None, [items])
    assert one.ci95 is None and reason in one.reason
    assert one.value is None or math.isfinite(one.value)


def test_items_of_several_parts_weigh_by_their_parts():
    one = scores.score("inst_level_acc", 3 / 5, None, [[[True], [False, True, True, False]]])
    assert one.ci95 == (0.0, 1.0)  # two items, and a share stays within what there can be
    several = [[True], [False, True, True, False], [True, True, False], [False]] * 5
    low, high = scores.score("inst_level_acc", 5 / 9, None, [several]).ci95
    assert 0.3 < low < 5 / 9 < high < 0.8


def test_chance_is_one_over_the_choices():
    rows = [{"doc": {}, "arguments": [0] * n} for n in (2, 4)]
    assert scores.chance(rows, binary=True) == (1 / 2 + 1 / 4) / 2
    assert scores.chance(rows, binary=False) is None
    several = [{"doc": {"mc2_targets": {"labels": [1, 0, 1, 0, 0]}}, "arguments": [0] * 5}]
    assert scores.chance(several, binary=False) == 2 / 5


# Levels


def record(task, value, metric="acc", chance=None, unit="share", better=True, **changes):
    return {
        "task": task,
        "headline": metric,
        "chance": chance,
        "metrics": {
            metric: {
                "value": value,
                "stderr": 0.01,
                "items": 100,
                "unit": unit,
                "ci95": None if value is None else [value * 0.9, value * 1.1],
                "reason": "lm-eval's value is inf" if value is None else None,
                "higher_is_better": better,
            }
        },
        "shots": {task: 0},
        "versions": {task: 1.0},
        "configs": {task: {"task": task}},
        "lm_eval": "0.4.13",
        "started": "2026-01-01T00:00:00+00:00",
        "ended": "2026-01-01T00:01:00+00:00",
        "seconds": 60.0,
        "limit": None,
        "batch_size": 1,
        "seeds": {},
        "max_length": 512,
        "max_gen_toks": {},
        "data": "Hub",
        "identity": {"model": "m", "dtype": "torch.float32"},
    } | changes


def level(percentage, failed=None, **values):
    results = {}
    for task, value in values.items():
        perplexity = task in ("wikitext", "lambada_openai")
        results[task] = record(
            task,
            value,
            metric="perplexity" if perplexity else "acc",
            unit="perplexity" if perplexity else "share",
            better=not perplexity,
            chance=0.25 if task == "mmlu" else None,
        )
    method = "glu-maw" if percentage else None
    return Level(f"m-{percentage}", percentage, method, results, failed or {})


# The published Llama-3.2-1B at 0, 10 and 40 %.
PUBLISHED = [
    level(40, mmlu=0.2689, gsm8k=0.0205, wikitext=56.33, ifeval=0.1516, winogrande=0.5706),
    level(0, mmlu=0.3111, gsm8k=0.0660, wikitext=11.57, ifeval=0.1035, winogrande=0.5991),
    level(10, mmlu=0.2511, gsm8k=0.0394, wikitext=17.50, ifeval=0.1423, winogrande=0.6093),
]


def test_the_published_tables_come_out():
    table = tables.score_table(PUBLISHED, lambda *_: 0.0).splitlines()
    assert table == [
        "| Pruning % | MMLU | GSM8K | WikiText PPL |",
        "| --- | --- | --- | --- |",
        "| **0%** (baseline) | 0.3111 | 0.0660 | 11.57 |",
        "| 10% | 0.2511 (-19.3%) | 0.0394 (-40.3%) | 17.50 (+51.3%) |",
        "| 40% | 0.2689 (-13.6%) | 0.0205 (-68.9%) | 56.33 (+386.9%) |",
    ]
    better = tables.improving_table(PUBLISHED, lambda *_: 0.0).splitlines()
    assert better[0] == "| Pruning % | IFEval | WinoGrande |"
    assert better[3] == "| 10% | 0.1423 (**+37.5%**) | 0.6093 (**+1.7%**) |"
    assert better[4] == "| 40% | 0.1516 (**+46.5%**) | 0.5706 (-4.8%) |"


def test_differences_compatible_with_no_change_are_marked():
    def compare(before, after, task):
        assert before.percentage == 0
        return {"mmlu": 0.5, "gsm8k": 0.01}.get(task)

    row = tables.score_table(PUBLISHED, compare).splitlines()[3]
    assert row == "| 10% | 0.2511 (-19.3% ~) | 0.0394 (-40.3%) | 17.50 (+51.3% ?) |"


def test_a_falling_perplexity_is_an_improvement():
    found = [level(0, wikitext=20.0), level(10, wikitext=10.0)]
    assert "10.00 (**-50.0%**" in tables.improving_table(found)
    assert tables.score_table(found) == "None.\n"


def test_scores_of_zero_and_failures():
    found = [
        level(0, gsm8k=0.0, boolq=0.5),
        level(10, gsm8k=0.0, failed={"boolq": "RuntimeError: no memory"}),
        level(20, gsm8k=0.1, boolq=0.4, wikitext=None),
    ]
    table = tables.score_table(found, lambda *_: 0.0)
    assert "| 10% | failed | not measured |" in table
    assert "| 20% | 0.4000 (-20.0%) | not finite |" in table
    assert "| 20% | 0.1000 (**from 0**) |" in tables.improving_table(found, lambda *_: 0.0)
    page = tables.summary_markdown("m", found)
    assert "- 10%, boolq: RuntimeError: no memory" in page
    assert "10% was left out: no score of boolq." in page


def test_every_metric_stands_in_the_csv_with_its_standard_error():
    found = [level(0, mmlu=0.3, wikitext=None), level(12.5, failed={"mmlu": "it, burnt"})]
    rows = list(csv.DictReader(io.StringIO(tables.results_csv(found))))
    assert [row["task"] for row in rows] == ["mmlu", "wikitext", "mmlu"]
    assert rows[0]["value"] == "0.3" and rows[0]["stderr"] == "0.01"
    assert rows[0]["headline"] == "True" and rows[0]["status"] == "ok"
    assert rows[1]["value"] == "" and rows[1]["status"] == "lm-eval's value is inf"
    assert rows[2]["pruning_percentage"] == "12.5" and rows[2]["status"] == "failed: it, burnt"


def test_files_are_written(tmp_path):
    found = [
        level(0, mmlu=0.3),
        Level("b", 10, "glu-maw", {"mmlu": record("mmlu", 0.2, configs={"mmlu": {"task": "x"}})}),
    ]
    paths = tables.write_tables(tmp_path, "llama", "m", found, {"cpu": "one"})
    assert [p.name for p in paths] == [
        "llama_results.csv",
        "llama_metadata.json",
        "llama_summary.md",
    ]
    about = json.loads(paths[1].read_text())
    assert about["hardware"] == {"cpu": "one"}
    assert about["evaluation"] == "lm-eval 0.4.13"
    assert about["pruning_methods"] == ["glu-maw"]
    assert about["tasks"]["mmlu"]["configs"] == {"mmlu": {"task": "mmlu"}}
    assert "configs" not in about["levels"][0]["tasks"]["mmlu"]
    assert about["levels"][1]["tasks"]["mmlu"]["configs"] == {"mmlu": {"task": "x"}}
    assert about["best_level"]["tolerance"] == 0.05


# The best level


def test_the_best_level_is_the_largest_within_the_tolerance():
    found = [level(0, mmlu=0.55, wikitext=10.0), level(10, mmlu=0.55, wikitext=12.5)]
    best = best_level(found, tolerance=0.1)
    # (0.55 - 0.25) / 0.75 = 0.4 and 10 / 12.5 = 0.8: means 0.7 and 0.6.
    assert best.means == pytest.approx({0: 0.7, 10: 0.6})
    assert best_level(found, tolerance=0.1 + 1e-9).level.percentage == 10
    none = best_level(found, tolerance=0.05)
    assert none.level is None and none.reason == "no cut level is within the tolerance"
    assert "within 0.05" in none.rule
    # A worse level between does not matter: the largest amount that is within counts.
    found.append(level(20, mmlu=0.55, wikitext=10.0))
    assert best_level(found).level.percentage == 20


def test_no_best_level_without_an_uncut_one():
    best = best_level([level(10, mmlu=0.5)])
    assert best.level is None and best.reason == "there is no uncut level (0 %)"
    page = tables.summary_markdown("m", [level(10, mmlu=0.5)])
    assert "none: there is no uncut level (0 %)" in page and "| 10% | 0.5000 |" in page
    empty = best_level([level(0, failed={"mmlu": "no"}), level(10, mmlu=0.4)])
    assert empty.reason == "the uncut model has no score to compare with"


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([], "levels: got none"),
        ([level(0, mmlu=0.5), level(0, mmlu=0.4)], "levels: got two at 0 %"),
        ([level(101, mmlu=0.5)], "levels: got 101 %, allowed is 0 to 100"),
    ],
)
def test_levels_are_checked(found, message):
    with pytest.raises(ValueError, match=message):
        best_level(found)


def test_a_tolerance_below_zero_is_refused():
    for tolerance in (-0.1, math.nan):
        with pytest.raises(ValueError, match="tolerance"):
            best_level(PUBLISHED, tolerance)


# Item by item


def keep(folder, values, metric="acc", task="t"):
    keep_task(folder, task, metric, values)
    return Level(folder.name, 10, None, kept.finished(folder), folder=folder)


def test_right_and_wrong_answers_are_compared_by_mcnemar(tmp_path):
    first = keep(tmp_path / "a", [1, 1, 1, 1, 1, 1, 0, 1])
    second = keep(tmp_path / "b", [0, 0, 0, 0, 0, 0, 1, 1])
    # Of 7 items on which they differ, 6 are one's: binomial, two-sided.
    assert paired_p(first, second, "t") == pytest.approx(scipy_stats.binomtest(6, 7).pvalue)
    assert kept.item_scores(tmp_path / "a", "t")["t/6/h6"] == 0


def test_other_scores_are_compared_by_sign_flips(tmp_path):
    nats = [[-30.0, 10], [-20.0, 10], [-25.0, 5]]
    first = keep(tmp_path / "a", nats, "word_perplexity")
    second = keep(tmp_path / "b", [[n - 1, w] for n, w in nats], "word_perplexity")
    assert paired_p(first, second, "t") == 2 / 8  # all of one sign: 2 of the 2^3 patterns
    assert kept.item_scores(tmp_path / "a", "t")["t/2/h2"] == 5.0


def test_other_items_are_not_compared(tmp_path):
    first = keep(tmp_path / "a", [1, 0, 1])
    second = keep(tmp_path / "b", [1, 0])
    assert paired_p(first, second, "t") is None
    assert paired_p(first, second, "absent") is None
    assert paired_p(level(0, t=0.5), second, "t") is None
    with pytest.raises(ValueError, match="'absent' is not finished"):
        kept.item_scores(tmp_path / "a", "absent")
    with pytest.raises(ValueError, match="not a mean over items"):
        keep(tmp_path / "c", [["x"], ["y"]])
        kept.item_scores(tmp_path / "c", "t")


def test_a_kept_task_that_is_damaged_is_set_aside(tmp_path):
    keep(tmp_path, [1, 0])
    assert kept.read_task(tmp_path, "t") is not None
    (tmp_path / "t.samples.jsonl").unlink()
    assert kept.read_task(tmp_path, "t") is None
    assert (tmp_path / "t.json.corrupt-1").exists() and not kept.finished(tmp_path)


def test_change_and_normalisation():
    assert levels.change(10.0, 15.0) == 0.5
    assert levels.change(0.0, 0.5) is None and levels.change(None, 0.5) is None
    half = record("t", 0.5, chance=0.5)
    assert levels.normalised(half, 0.5, 0.5) == 0.0
    assert levels.normalised(half, 0.5, 1.0) == 1.0
    assert levels.normalised(half, 0.5, 0.25) == -0.5
    worse = record("t", 20.0, unit="perplexity", better=False)
    assert levels.normalised(worse, 10.0, 20.0) == 0.5
