"""What the page is made of: its data, texts, tables and drawings, from records alone."""

import json
import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from report_records import LEVELS, full, make_record, rich_records, two, with_agency, write_run
from resprout.cli import main
from resprout.report.comparison import compare_all
from resprout.report.curves import curves
from resprout.report.embed import script_json
from resprout.report.insides import insides
from resprout.report.overlay import published_overlay
from resprout.report.page import write_report
from resprout.report.plot_data import plot_data
from resprout.report.records import read_run, read_runs
from resprout.report.summary import comparison_rows, summary
from resprout.report.task_table import task_tables
from resprout.report.texts import pieces, text_levels
from resprout.report.workload_table import workload_tables

FIVE_MEGABYTES = 5 * 2**20


@given(st.recursive(st.text() | st.integers() | st.none(), lambda part: st.lists(part)))
def test_data_in_the_page_is_read_back_and_ends_no_script(values):
    found = script_json({"values": values})
    assert json.loads(found) == {"values": values}
    assert not set("<>&\u2028\u2029") & set(found)
    assert found.isascii()


def test_data_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json([math.nan])


@given(st.text(alphabet="ab \n", max_size=60))
def test_pieces_join_to_the_text_and_mark_what_stood_before(text):
    found = pieces(text)
    assert "".join(piece for piece, _ in found) == text
    # The slow way: a word is marked if a run of three that it is in stands earlier in the text.
    words = text.split()
    runs = [tuple(words[i : i + 3]) for i in range(len(words) - 2)]
    marked = {i + j for i, run in enumerate(runs) if run in runs[:i] for j in range(3)}
    assert [word for piece, again in found if again for word in piece.split()] == [
        word for i, word in enumerate(words) if i in marked
    ]


def test_plot_data_holds_every_axis_that_was_measured():
    found = curves(rich_records())
    data = plot_data(found)
    assert [axis["key"] for axis in data["x"]] == [
        "achieved", "amount", "surviving", "non_embedding", "flops", "ms batch1/prompt16/new40",
    ]  # fmt: skip
    keys = {axis["key"] for axis in data["y"]}
    assert keys >= {"nats", "bits", "rise", "perplexity", "task piqa", "task lambada"}
    assert "before" not in keys  # it is drawn into the loss, not an axis of its own
    one = data["curves"][0]
    assert one["x"]["flops"] == [2e6, 1.5e6, 1.1e6]
    assert one["x"]["ms batch1/prompt16/new40"] == [10.0, 8.0, 6.4]
    estimates = found[0].estimates()
    assert one["y"]["nats"]["value"] == pytest.approx([e.value for e in estimates], rel=1e-5)
    assert one["y"]["nats"]["low"] == pytest.approx([e.low for e in estimates], rel=1e-5)
    assert one["y"]["rise"]["value"] == pytest.approx([0, 0.25, 0.81], abs=1e-5)
    assert one["y"]["perplexity"]["value"][0] == pytest.approx(math.exp(3), rel=1e-5)
    assert one["y"]["task piqa"]["low"][0] == pytest.approx(0.63)
    styles = {(curve["colour"], curve["dash"]) for curve in data["curves"]}
    assert len(styles) == len(data["curves"]) == 8
    colours = {(curve["subject"], curve["colour"]) for curve in data["curves"]}
    assert len(colours) == 2  # a subject keeps its colour


def test_older_records_have_fewer_axes():
    data = plot_data(curves(two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5))))
    assert [axis["key"] for axis in data["x"]] == ["achieved", "amount", "surviving"]


def test_subjects_of_other_tokens_are_shown_in_bits_per_byte_first():
    data = plot_data(curves(two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5), tokens="other")))
    assert data["y"][0]["key"] == "bits"


def test_a_method_without_an_uncut_point_takes_the_subjects():
    records = two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5))
    records += [r | {"method": "random", "id": f"r{r['id']}"} for r in records if r["amount"] > 0]
    found = curves(records)
    assert [curve.borrowed for curve in found] == [False, False, True, True]
    assert found[2].label == "ada, random"
    assert found[2].amounts.tolist() == list(LEVELS)
    assert len(compare_all(found)) == 4  # in the subject or in the method, not in both


def test_protocols_are_curves_of_their_own_and_not_compared():
    found = curves(rich_records())
    assert len(found) == 8
    assert found[0].label == "ada, magnitude, fair"
    pairs = compare_all(found)
    assert all(pair.first.protocol == pair.second.protocol for pair in pairs)
    assert len(pairs) == 8


def test_many_curves_are_told_in_few_sentences():
    found = curves(rich_records())
    said = summary(found, compare_all(found))
    assert len(said) == 6
    assert said[4] == "Of 4 comparisons that both protocols decide, they decide 4 alike."
    assert said[0].startswith("At 90% asked for, the loss rises least over the own uncut loss in ")
    assert "ada, magnitude, fair, by 0.810" in said[0]
    assert "bo, random, fair, by 1.620" in said[0]
    assert "less in 2, of bo less in 0, and 0 cannot be told apart" in said[1]
    assert said[-1].startswith("One training run each")
    rows = comparison_rows(compare_all(found))
    assert len(rows) == 9
    assert all(len(row) == len(rows[0]) for row in rows)
    assert not any("-0.000" in cell for row in rows for cell in row)


def test_tasks_are_coloured_by_what_is_better():
    table = task_tables(curves([full(make_record("ada", x, 3.0 + x)) for x in LEVELS]))[0]
    rows = {row["task"]: row["cells"] for row in table["rows"]}
    assert rows["piqa"][0]["change"] is None
    assert rows["piqa"][2]["change"] == pytest.approx(-0.18 / 0.7)
    assert rows["piqa"][2]["side"] == "worse"
    assert rows["piqa"][1]["unclear"] is False
    assert rows["lambada"][1]["side"] == "worse"  # a perplexity that rises
    assert rows["lambada"][1]["strength"] == 1.0
    assert rows["ifeval"][2]["side"] == "better"
    assert rows["ifeval"][2]["unclear"] is True


def test_tasks_of_several_seeds_are_means_without_an_interval():
    records = [full(make_record("ada", x, 3.0 + x, seed=s)) for s in (0, 1) for x in LEVELS]
    piqa = records[0]["measures"]["tasks"]["tasks"]["piqa"]["metrics"]["acc"]
    piqa["value"] = 0.9
    cells = task_tables(curves(records))[0]["rows"][1]["cells"]
    assert cells[0]["value"] == pytest.approx(0.8)
    assert cells[0]["interval"] is None
    records[0]["measures"]["tasks"] = {"failed": "ValueError: no data"}
    assert task_tables(curves(records))[0]["rows"][1]["cells"][0]["text"] == "-"


def test_speed_and_energy_stand_side_by_side():
    table = workload_tables(curves([full(make_record("ada", x, 3.0 + x)) for x in LEVELS]))[0]
    assert table["title"] == "batch1/prompt16/new40"
    assert table["headings"][-1] == "J per token"
    assert "J per token, gross" not in table["headings"]
    cells = table["rows"][1]["cells"]
    assert cells["per token, ms (p50)"]["text"] == "8.00"
    assert cells["over uncut"]["interval"] == "0.760 to 0.840"
    assert table["rows"][0]["cells"]["over uncut"]["text"] == "-"


def test_drawings_put_the_cells_of_a_layer_side_by_side():
    drawings = insides(curves([with_agency(full(make_record("ada", x, 3.0))) for x in LEVELS]))
    assert len(drawings) == 3
    last = drawings[-1]
    assert [row["name"] for row in last["rows"]] == [f"layer {i}" for i in range(4)]
    assert [box["name"] for box in last["rows"][0]["boxes"]] == ["neuron 0", "neuron 1"]
    assert last["rows"][0]["boxes"][0]["cut"] == [0.9, 0.9, 0.9, 0.45]
    assert last["matrices"]["names"] == ["qkv", "up"]
    assert last["matrices"]["rows"][0]["shares"] == [0.9, 0.0]
    assert last["dead"] == ["layer 1 neuron 0"]
    assert last["agency"][0]["heads"][1] == {"state": "overloaded", "gate": 0.5}


def test_texts_are_those_of_the_first_seed():
    records = [make_record("ada", x, 3.0, seed=s, text=f"s{s}") for s in (1, 2) for x in LEVELS]
    levels = text_levels(curves(records))
    assert [level["amount"] for level in levels] == list(LEVELS)
    assert levels[0]["columns"][0]["title"] == "ada, seed 1"
    assert levels[0]["columns"][0]["samples"][0]["pieces"] == [("s1", False)]


@pytest.mark.parametrize("measure", ["tasks", "speed", "energy", "cut_map"])
def test_a_record_whose_measure_is_misshapen_is_not_used(tmp_path, measure):
    records = [full(make_record("ada", x, 3.0)) for x in LEVELS]
    place = records[1] if measure == "cut_map" else records[1]["measures"]
    place[measure] = {"figures": {"a/b": 3}, "tasks": {"piqa": {}}}
    run = read_run(write_run(tmp_path, records))
    assert len(run.records) == 2
    assert measure in run.failures["ada-0.5-0.json, not used"]


def test_two_runs_are_laid_over_each_other(tmp_path):
    first = write_run(tmp_path / "one", two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5)))
    second = write_run(tmp_path / "two", two((3.1, 3.2, 3.6), (3.3, 3.4, 4.0)))
    runs = read_runs([first, second])
    assert [run.name for run in runs] == ["one", "two"]  # the studies' names are alike
    page = write_report(first, second)
    assert page == first / "report_with_two.html"
    html = page.read_text()
    assert "ada, one" in html
    assert "bo, two" in html
    assert (first / "charts" / "pruning_curve_with_two.png").is_file()
    assert not (first / "report.html").exists()
    with pytest.raises(ValueError, match="given twice"):
        write_report(first, first)


def test_the_command_takes_several_runs(tmp_path, capsys):
    folders = [
        write_run(tmp_path / name, two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5))) for name in ("one", "two")
    ]
    with pytest.raises(SystemExit) as ended:
        main(["report", *map(str, folders)])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"report: {folders[0] / 'report_with_two.html'}\n"
    with pytest.raises(SystemExit) as ended:
        main(["report", str(folders[0]), str(tmp_path / "none")])
    assert ended.value.code == 2
    assert "is not a run's folder" in capsys.readouterr().err


def test_protocols_that_disagree_are_named():
    records = [r for r in rich_records(["magnitude"]) if r["protocol"] == "fair"]
    others = [r | {"protocol": "paper", "id": f"p{r['id']}"} for r in records]
    swapped = {"ada": "bo", "bo": "ada"}
    records += [r | {"subject": swapped[r["subject"]]} for r in others]
    found = curves(records)
    said = summary(found, compare_all(found))
    assert "they decide 0 alike, and against each other: ada, magnitude against bo" in " ".join(
        said
    )


def test_runs_of_two_studies_are_named_by_them(tmp_path):
    first = write_run(tmp_path / "a", two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5)), study="early")
    second = write_run(tmp_path / "b", two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5)), study="late")
    assert [run.name for run in read_runs([first, second])] == ["early", "late"]


def test_a_large_run_stays_below_five_megabytes(tmp_path):
    records = []
    for subject in ("ada", "bo"):
        for method in ("magnitude", "random", "wanda"):
            for amount in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6):
                record = full(make_record(subject, amount, 3 + amount), layers=28)
                samples = record["measures"]["text"]["samples"]
                long = [s | {"text": "word and <another> " * 40, "name": f"{s['category']} {i}"}
                        for i, s in enumerate(samples * 9)]  # fmt: skip
                record["measures"]["text"]["samples"] = long
                record["id"] = f"{subject}-{method}-{amount}"
                records.append(record | {"method": method})
    page = write_report(write_run(tmp_path, records))
    assert page.stat().st_size < FIVE_MEGABYTES


def test_the_study_can_be_made_again_from_the_page(small_study, tmp_path):
    from resprout.report.details import study_file
    from resprout.study.spec import StudySpec

    spec = StudySpec.model_validate(small_study)
    folder = write_run(tmp_path, [make_record("ada", 0.0, 3.0)])
    values = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps(values | {"spec": spec.model_dump(mode="json")}))
    again = StudySpec.model_validate(yaml.safe_load(study_file(read_run(folder))))
    assert again == spec


def test_published_figures_are_laid_over_their_own_studies_alone():
    found = published_overlay(["nano-biogpt"], 2)
    if not found:
        pytest.skip("needs results/published, which is not here")
    bio = next(curve for curve in found if curve["label"].startswith("BioGPT"))
    assert bio["x"]["amount"] == [0, 25, 45, 70, 90]
    assert len(bio["y"]["nats"]["value"]) == len(bio["y"]["nats"]["low"]) == 5
    assert {curve["colour"] for curve in found} == {2, 3}
    assert published_overlay(["my-own"], 0) == []
    mmlu = [curve for curve in published_overlay(["glu-width"], 0) if "task mmlu" in curve["y"]]
    assert mmlu
    assert all("task ifeval" in curve["y"] for curve in mmlu)  # two tables, one curve
