"""What the page is made of: its data, texts, tables and drawings, from records alone."""

import json
import math
import re
from itertools import product

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from report_records import LEVELS, full, make_record, rich_records, two, with_agency, write_run
from resprout.cli import main
from resprout.report import page as page_module
from resprout.report.comparison import compare_all
from resprout.report.curves import curves
from resprout.report.details import details_of, environment_of
from resprout.report.embed import inline_svg, script_json
from resprout.report.insides import insides, packed
from resprout.report.overlay import published_overlay
from resprout.report.page import write_report
from resprout.report.plot_data import plot_data
from resprout.report.records import read_run, read_runs
from resprout.report.summary import comparison_rows, first_sentence, summary
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
    found = curves(two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5), tokens="other"))
    data = plot_data(found)
    assert [axis["key"] for axis in data["y"]] == ["bits", "rise"]
    assert data["loss"] == "bits"
    assert data["y"][1]["label"].endswith("(bits per byte)")
    rise = 0.5 * 0.3 / math.log(2)
    assert data["curves"][0]["y"]["rise"]["value"][2] == pytest.approx(rise, abs=1e-5)
    texts = [column["loss"] for column in text_levels(found)[0]["columns"]]
    assert texts == ["1.500 bits per byte", "1.700 bits per byte"]


def test_a_page_of_other_tokens_has_no_figure_per_token(tmp_path):
    records = rich_records(["magnitude", "random"], ["fair"])
    for record in records:
        if record["subject"] == "bo":
            record["digests"]["tokens"] = "other"
            record["agency"] = None
    html = write_report(write_run(tmp_path, records)).read_text()
    shown = html[: html.index("<script")]
    assert "bits per byte" in shown
    assert not re.search(r"\d nats? per token", shown)
    assert "ada: 2.597, bo: 2.597 bits per byte" in shown


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
    assert said[1] == (
        "ada against bo, protocol fair: cutting raises the loss of ada less by 2 of 2 methods "
        "(mean rise, p of 0.05 or less after Holm's correction over the methods)."
    )
    assert first_sentence(found) == said[0]
    assert first_sentence(found[:2]) == summary(found[:2], compare_all(found[:2]))[0]
    assert first_sentence([]) is None
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
    cut = last["rows"][0]["boxes"][0]["cut"]
    assert [int(cut[i : i + 2], 36) for i in range(0, 8, 2)] == [900, 900, 900, 450]
    assert last["matrices"]["names"] == ["qkv", "up"]
    assert last["matrices"]["rows"][0]["shares"] == [0.9, 0.0]
    assert last["dead"] == ["layer 1 neuron 0"]
    assert last["agency"][0]["heads"][1] == {
        "state": "overloaded", "gate": 0.5, "utilisation": 0.5, "alignment": 0.9, "violations": 0,
    }  # fmt: skip
    assert last["feedback"] == {"pairs": [], "used": False}


@given(st.lists(st.integers(0, 1000), min_size=1))
def test_packed_shares_are_read_back(thousandths):
    found = packed([n / 1000 for n in thousandths])
    assert [int(found[i : i + 2], 36) for i in range(0, len(found), 2)] == thousandths


def test_feedback_is_drawn_where_the_record_tells_of_it():
    record = full(make_record("ada", 0.5, 3.0))
    record["identity"] = {"subject": {"config": {"feedback_pairs": [[3, 0]], "n_passes": 2}}}
    drawing = insides(curves([record]))[0]
    assert drawing["feedback"] == {"pairs": [[3, 0]], "used": True}
    record["identity"] = {"subject": "a digest"}
    assert insides(curves([record]))[0]["feedback"]["pairs"] == []


def test_heads_are_told_of_those_that_the_uncut_layer_has():
    uncut, cut = (with_agency(make_record("ada", x, 3.0), heads=h) for x, h in ((0, 3), (0.5, 2)))
    drawings = insides(curves([uncut, cut]))
    assert [row["of"] for row in drawings[1]["agency"]] == [3, 3]
    assert [len(row["heads"]) for row in drawings[1]["agency"]] == [2, 2]


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


HARD = "</script><script>alert(1)</script>\"'\u2028\x07 \u202eturned\u202c \U0001f600 \u05d0 &lt; "


@pytest.mark.slow
def test_a_large_run_stays_below_five_megabytes(tmp_path):
    """Three hundred points of twelve prompts, some of ten thousand characters."""
    rng = np.random.default_rng(0)
    records = []
    for subject, method, level in product(range(5), range(6), range(10)):
        record = full(make_record(f"s{subject}", level / 10, 3 + level / 10))
        record |= {"method": f"method-{method}", "id": f"{subject}-{method}-{level}"}
        record["cut_map"] = {"unit": "glu_neuron", "matrices": [], "groups": [
            {"name": f"layer {i}", "units": 8192, "cut": rng.random(64).round(3).tolist()}
            for i in range(28)
        ]}  # fmt: skip
        text = " ".join(rng.choice(["the", "model", "<b>", "of", "neurons"], 120))
        record["measures"]["text"]["samples"] = [
            {"category": "code", "name": f"prompt {i}", "prompt": "Once & again, ",
             "text": HARD + 10_000 * "x" if i == 3 else text}
            for i in range(12)
        ]  # fmt: skip
        records.append(record)
    page = write_report(write_run(tmp_path, records))
    assert page.stat().st_size < FIVE_MEGABYTES
    assert "Texts are shown to their first" in page.read_text()


def test_texts_are_shown_shorter_where_a_page_would_be_too_large(tmp_path, monkeypatch):
    records = [make_record("ada", x, 3.0, text=HARD + 10_000 * "x") for x in LEVELS]
    whole = write_report(write_run(tmp_path, records)).read_text()
    assert whole.count(1000 * "x") == 30
    assert "Texts are shown to" not in whole
    monkeypatch.setattr(page_module, "MOST_BYTES", 130_000)
    short = write_report(tmp_path).read_text()
    assert len(short) < 130_000
    assert "Texts are shown to their first 2000 characters" in short
    assert f"and {len(HARD) + 8000} characters more, in the record" in short


def test_a_hard_text_is_harmless_and_legible(tmp_path):
    records = [make_record("ada", x, 3.0, text=HARD) for x in LEVELS]
    html = write_report(write_run(tmp_path, records)).read_text()
    assert html.count("<script") == 2
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in html
    assert "\u27e8RLO\u27e9turned\u27e8PDF\u27e9 \U0001f600 \u05d0 &amp;lt;" in html
    assert "\u27e8LS\u27e9\u27e807\u27e9" in html
    assert not set("\u202e\u2028\x07") & set(html)


def test_details_say_what_was_done_and_on_what(tmp_path):
    records = [make_record("ada", x, 3.0) for x in LEVELS]
    records[0]["environment"] = records[0]["environment"] | {"threads": 1}
    folder = write_run(tmp_path, records)
    values = json.loads((folder / "study.json").read_text())
    values["spec"]["recovery"]["steps"] = 0
    (folder / "study.json").write_text(json.dumps(values))
    run = read_run(folder)
    assert dict(details_of(run))["recovery"] == "none"
    assert dict(details_of(run))["baseline"].startswith("6.000 nats per token")
    found = dict(environment_of(run))
    assert found["processor"] == (
        "a cpu, 2 cores, 1 thread used (1 point); a cpu, 2 cores, 2 threads used (2 points)"
    )
    assert found["device"] == "a cpu"
    html = write_report(folder).read_text()
    assert "resprout run made.yaml" in html
    assert f"resprout report {folder.name}" in html


def test_charts_are_for_print_and_their_copies_in_the_page_keep_their_letters(tmp_path):
    write_report(write_run(tmp_path, two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5))))
    for name in ("pruning_curve", "efficiency_frontier"):
        path = tmp_path / "charts" / f"{name}.png"
        with Image.open(path) as drawn:
            assert round(drawn.info["dpi"][0]) >= 200
        svg = path.with_suffix(".svg").read_text()
        small = inline_svg(path.with_suffix(".svg"), name)
        scales = [re.findall(r"scale\([^)]*\)", text) for text in (svg, small)]
        assert scales[0] == scales[1]
        assert "<text" not in svg  # letters are outlines: no font is needed
        assert len(small) < 0.9 * len(svg)


def test_the_study_can_be_made_again_from_the_page(small_study, tmp_path):
    from resprout.report.details import study_file
    from resprout.study.spec import StudySpec

    spec = StudySpec.model_validate(small_study)
    folder = write_run(tmp_path, [make_record("ada", 0.0, 3.0)])
    values = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps(values | {"spec": spec.model_dump(mode="json")}))
    again = StudySpec.model_validate(yaml.safe_load(study_file(read_run(folder))))
    assert again == spec


def test_whose_the_published_figures_are_is_said(tmp_path):
    folder = write_run(tmp_path, two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5)), study="my-biogpt")
    html = write_report(folder).read_text()
    if not published_overlay(["biogpt"], 0):
        pytest.skip("needs results/published, which is not here")
    assert "published figures, not measured here" in html
    assert "BioGPT from Detailed Results Analysis" in html


def test_published_figures_are_laid_over_their_own_studies_alone():
    found = published_overlay(["nano-biogpt"], 2)
    if not found:
        pytest.skip("needs results/published, which is not here")
    bio = next(curve for curve in found if curve["label"].startswith("BioGPT"))
    assert bio["x"]["amount"] == [0, 25, 45, 70, 90]
    assert len(bio["y"]["nats"]["value"]) == len(bio["y"]["nats"]["low"]) == 5
    assert {curve["colour"] for curve in found} == {2, 3}
    assert published_overlay(["my-own"], 0) == []
    assert published_overlay(["my-own", "BioGPT-nano"], 2) == found  # by a subject's name
    mmlu = [curve for curve in published_overlay(["glu-width"], 0) if "task mmlu" in curve["y"]]
    assert mmlu
    assert all("task ifeval" in curve["y"] for curve in mmlu)  # two tables, one curve
