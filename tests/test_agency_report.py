"""The agency page, its charts, pairs and tables: from records alone, whole, safe and offline."""

import csv
import io
import json
import math
import re
from html.parser import HTMLParser

import matplotlib.axes
import numpy as np
import pytest

from agency_records import WORKLOAD, curve, figure, record, subjects, text, write_run
from resprout.report.agency import charts, page, write_agency_report
from resprout.report.agency.contrasts import Effect
from resprout.report.agency.effects import improvement, in_percent, level_estimate
from resprout.report.agency.pairs import baselines, compare, grid
from resprout.report.agency.panels import Line, draw, grid_of_panels, heading, limit
from resprout.report.agency.radar import OUTERMOST, goodness, radar
from resprout.report.agency.readings import (
    DISTINCT,
    FIRST_TOKEN,
    MEASURES,
    PERPLEXITY,
    REPETITION,
    TOKENS_PER_SECOND,
    temperatures,
    workload_of,
)
from resprout.report.agency.tables import heads_table
from resprout.report.embed import script_digest
from resprout.report.page import write_report
from resprout.report.pages import write_pages
from resprout.report.records import read_run
from resprout.report.series import series_of

STEEP, FLAT = (4.0, 4.3, 5.0), (4.0, 4.05, 4.4)
HEADS = {
    "layer": 0, "heads": 2, "gates": [1.0, 0.5], "states": ["active", "withdrawn"],
    "consent": [True, False], "utilisation": [0.4, None], "alignment": [0.8, 0.2],
    "violations": [0, 3],
}  # fmt: skip


def two(**more):
    return curve("bo", STEEP, warmer=(0.6, 0.05), **more) + curve(
        "ada", FLAT, warmer=(0.6, 0.05), agency={"step": 9, "layers": [HEADS]}, **more
    )


def comparison(records, **more):
    names = list(dict.fromkeys(r["subject"] for r in records))
    return compare(subjects(*names, **more), series_of(records))


@pytest.fixture
def quick(monkeypatch):
    """Charts are drawn, but not written: most tests of the page look at its words."""

    def write(figure, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".png").write_bytes(b"")
        path.with_suffix(".svg").write_text("<svg></svg>")

    monkeypatch.setattr(page, "save", write)


class Page(HTMLParser):
    """Collects tags and every attribute that could load something."""

    def __init__(self):
        super().__init__()
        self.tags, self.links = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        names = ("src", "href", "xlink:href", "data", "action")
        self.links += [value for name, value in attributes if name in names]


def test_the_page_is_whole_safe_and_offline(tmp_path):
    html = write_agency_report(write_run(tmp_path, two())).read_text()
    seen = Page()
    seen.feed(html)
    drawn = ("speed", "quality", "relative", "summary", "radar", "temperatures")
    assert seen.tags.count("svg") == len(drawn)
    assert not {"img", "link", "iframe"} & set(seen.tags)
    assert seen.tags.count("script") == 1  # the tables' own, and no other may run
    script = re.search(r"<script>(.*)</script>", html, re.DOTALL)[1]
    assert f"script-src '{script_digest(script)}'" in html
    assert all(link.startswith("#") for link in seen.links)
    assert "Who &lt;wins&gt;?" in html
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', html)) <= set(ids)
    for question in (
        "Does agency improve resilience to pruning?",
        "What is the optimal pruning level?",
        "How does temperature affect pruned models?",
        "Is agency more beneficial under resource constraints?",
        "What types of quality metrics benefit most?",
    ):
        assert question in html
    for name in drawn:
        path = tmp_path / "charts" / f"agency_{name}.png"
        assert path.read_bytes().startswith(b"\x89PNG")
        assert not re.search(r"[\"\s,]nan\b", path.with_suffix(".svg").read_text())
    assert "gate penalty 0.1" in html
    assert "The heads that are left" in html


def test_the_page_is_the_same_each_time(quick, tmp_path):
    folder = write_run(tmp_path, two(seeds=(0,)))
    first = write_agency_report(folder).read_bytes(), (folder / "agency.csv").read_bytes()
    assert (write_agency_report(folder).read_bytes(), (folder / "agency.csv").read_bytes()) == first


@pytest.mark.slow
def test_many_pairs_of_long_names_are_drawn_on_several_sheets():
    names = (
        "a-baseline-without-any-agency-whose-name-is-long",
        "the-same-model-with-gates-and-states",
    )
    records = []
    for number in range(6):
        own = curve(names[0], STEEP, seeds=(0,)) + curve(names[1], FLAT, seeds=(0,))
        records += [r | {"method": f"heads-by-rule-{number}"} for r in own]
    told = subjects(*names)
    told[1]["agency"] = {}
    compared = compare(told, series_of(records))
    assert len(compared.pairs) == 6
    drawn = page.draw(compared, WORKLOAD, [])
    sheets = {"agency_relative", "agency_relative_2", "agency_radar", "agency_radar_2"}
    assert sheets | {"agency_summary_6"} <= set(drawn)
    assert "agency_radar_3" not in drawn
    for name in ("agency_relative", "agency_radar"):
        drawn[name][1].draw_without_rendering()  # a complaint of too little room is an error


def test_one_seed_is_confessed(quick, tmp_path):
    html = write_agency_report(write_run(tmp_path, two(seeds=(0,)))).read_text()
    assert "nothing of another training seed" in html
    more = tmp_path / "more"
    assert "nothing of another" not in write_agency_report(write_run(more, two())).read_text()


def test_failures_and_missing_points_are_said(quick, tmp_path):
    records = two()
    records[1]["measures"]["speed"] = {"failed": "OSError: <dust>"}
    records[2]["measures"]["text_at"]["1"] = {"failed": "ValueError: too hot"}
    folder = write_run(tmp_path, records, missing=["never"])
    html = write_agency_report(folder).read_text()
    assert "1 of 19 points are not finished" in html
    assert "OSError: &lt;dust&gt;" in html
    assert "text_at 1: ValueError: too hot" in html.replace("&#39;", "'")
    # An empty list of failed workloads is no failure.
    assert sum("speed" in where for where in read_run(folder).failures) == 1


@pytest.mark.parametrize("lacking", ["speed", "text", "text_at"])
def test_a_measure_that_was_not_taken(quick, tmp_path, lacking):
    records = two(seeds=(0, 1))
    for point in records:
        del point["measures"][lacking]
        if lacking == "text":
            del point["measures"]["text_at"]
    html = write_agency_report(write_run(tmp_path, records)).read_text()
    drawn = {path.stem for path in (tmp_path / "charts").glob("*.png")}
    assert ("agency_speed" in drawn) == (lacking != "speed")
    assert ("agency_temperatures" in drawn) == (lacking != "text")
    assert "agency_quality" in drawn
    assert "annot be told" in html


@pytest.mark.parametrize("levels", [(0.0,), (0.5,), (0.2, 0.5)])
def test_few_levels(quick, tmp_path, levels):
    records = curve("bo", STEEP[: len(levels)], levels=levels)
    records += curve("ada", FLAT[: len(levels)], levels=levels)
    html = write_agency_report(write_run(tmp_path, records)).read_text()
    assert "Cannot be told" in html
    assert "Figures by level" in html


def test_a_method_of_one_side_is_shown_alone(quick, tmp_path):
    records = curve("bo", STEEP, method="heads-magnitude") + curve("ada", FLAT)
    html = write_agency_report(write_run(tmp_path, records)).read_text()
    assert "heads-random: bo was not cut by it, so ada is shown alone" in html
    assert "heads-magnitude: ada was not cut by it, so bo is shown alone" in html
    assert "nothing is compared" in html


def test_the_other_page_bears_these_records_too(quick, tmp_path):
    records = two() + curve("bo", STEEP, method="heads-taylor")
    records += curve("ada", FLAT[1:], method="heads-gate", levels=(0.2, 0.5))
    html = write_report(write_run(tmp_path, records)).read_text()
    assert "heads-gate" in html


def test_the_tidy_table_holds_every_figure(quick, tmp_path):
    records = two(seeds=(0, 1))
    folder = write_run(tmp_path, records)
    write_agency_report(folder)
    rows = list(csv.DictReader(io.StringIO((folder / "agency.csv").read_text())))
    columns = ["subject", "method", "level", "achieved", "seed", "measure", "value", "unit"]
    assert list(rows[0]) == [*columns, "low95", "high95"]
    keys = [
        tuple(row[name] for name in ("subject", "method", "level", "seed", "measure"))
        for row in rows
    ]
    assert len(keys) == len(set(keys))
    at = {key: float(row["value"]) for key, row in zip(keys, rows, strict=True)}
    point = ("ada", "heads-random", "0.5", "1")
    assert at[(*point, "distinct_2 at temperature 0.7")] == 0.5
    assert at[(*point, "distinct_2 at temperature 1")] == 0.6
    assert at[(*point, f"{WORKLOAD}/tokens_per_second")] == 100
    loss = at[(*point, "nats_per_token")]
    assert at[(*point, "perplexity")] == pytest.approx(math.exp(loss))
    assert sum(key[4] == "nats_per_token" for key in keys) == len(records)


# who is compared with whom


def test_the_baseline_is_the_one_of_the_same_model():
    found = subjects("bo", "ada", "other")
    found[2]["model"] = "llama-nano"
    assert baselines(found) == {"ada": "bo"}
    assert baselines(found, "other") == {"ada": "other"}


@pytest.mark.parametrize(
    ("names", "agency", "baseline", "said"),
    [
        (("ada", "bo"), (), None, "subjects: got ada, bo, allowed is a run with one or more with"),
        (("ada",), ("ada",), None, "subjects: got ada, allowed is a run with one without"),
        (("ada", "bo", "cy"), ("ada",), None, "could be compared with bo, cy"),
        (("ada", "bo"), ("ada",), "boo", r"baseline: got 'boo', allowed are bo.*did you mean"),
        (("ada", "bo"), ("ada",), "ada", "baseline: got 'ada', allowed are bo"),
    ],
)
def test_subjects_that_cannot_be_compared(names, agency, baseline, said):
    with pytest.raises(ValueError, match=said) as caught:
        baselines(subjects(*names, agency=agency), baseline)
    assert "\n" not in str(caught.value)


def test_a_run_without_agency_or_points_is_refused(quick, tmp_path):
    with pytest.raises(ValueError, match="not a run's folder"):
        write_agency_report(tmp_path)
    folder = write_run(tmp_path, two(), agency=())
    with pytest.raises(ValueError, match="with agency"):
        write_agency_report(folder)
    folder = write_run(tmp_path, curve("bo", STEEP), names=["bo", "ada"])
    with pytest.raises(ValueError, match="'ada' has no finished point"):
        write_agency_report(folder)
    assert not (folder / "agency.html").exists()


def test_levels_and_seeds_that_both_have():
    records = two()
    # ada lacks one seed at 50 %: the seed goes, or the level; what keeps most points stays.
    (pair,) = comparison([r for r in records if r["id"] != "ada-heads-random-0.5-2"]).pairs
    assert (pair.levels, pair.seeds) == ((0.0, 0.2, 0.5), (0, 1))
    lacking = {"ada-heads-random-0.5-2", "ada-heads-random-0.5-1"}
    found = comparison([r for r in records if r["id"] not in lacking])
    assert (found.pairs[0].levels, found.pairs[0].seeds) == ((0.0, 0.2), (0, 1, 2))
    assert any("not compared at 50 %" in note for note in found.notes)


def test_the_grid_is_never_gappy():
    generator = np.random.default_rng(3)
    for _ in range(50):
        points = [
            record(name, level, 4.0, seed)
            for name in ("bo", "ada")
            for level in (0.0, 0.2, 0.5, 0.8)
            for seed in range(3)
            if generator.random() < 0.6
        ]
        own = {s.subject: s for s in series_of(points)}
        if len(own) < 2:
            continue
        levels, seeds = grid(own["ada"], own["bo"])
        for name in own:
            assert all(seed in own[name].points[level] for level in levels for seed in seeds)
        both = [x for x in own["ada"].points if x in own["bo"].points]
        shared = [set(own["ada"].points[x]) & set(own["bo"].points[x]) for x in both]
        best = max(
            (
                len(chosen) * sum(chosen <= at for at in shared)
                for chosen in (
                    set(c) for c in ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2))
                )
            ),
            default=0,
        )
        assert len(levels) * len(seeds) == best


def test_cuts_of_one_method_with_other_options_are_kept_apart():
    records = curve("bo", STEEP) + curve("ada", FLAT)
    for name, losses in (("bo", FLAT), ("ada", STEEP)):
        records += curve(name, losses, options={"cut": "remove"})
    found = comparison(records)
    assert [pair.label for pair in found.pairs] == [
        "heads-random (cut as usual)",
        "heads-random (cut remove)",
    ]


# figures


def test_improvements_have_the_right_sign_and_size():
    records = curve("bo", (4.0, 4.0, 4.0), jitter=0, rate=100.0, first=4.0, repetition=0.2)
    records += curve("ada", (3.5, 3.5, 3.5), jitter=0, rate=150.0, first=2.0, repetition=0.6)
    (pair,) = comparison(records).pairs
    expected = {
        PERPLEXITY: 100 * (1 - math.exp(-0.5)),
        TOKENS_PER_SECOND: 50.0,
        FIRST_TOKEN: 50.0,
        REPETITION: -50.0,  # of what is not repeated, 0.8 and 0.4
        DISTINCT: 0.0,
    }
    for measure, percent in expected.items():
        found = improvement(pair, measure, 0.5, WORKLOAD)
        assert found.percent == pytest.approx(percent)


def test_a_loss_beyond_floats_is_no_error():
    found = in_percent(Effect(1.0, -1.0, 5000.0, 0.5, 3, "seeds"), -1)
    assert found.low == -math.inf
    assert found.high == pytest.approx(100 * (1 - math.exp(-1)))


def test_levels_are_means_with_possible_intervals():
    records = curve("ada", FLAT, distinct=0.97) + curve("bo", FLAT)
    for i, point in enumerate(records):
        point["measures"]["text"]["figures"]["distinct_2"]["value"] += 0.01 * (i % 4)
    found = {own.subject: own for own in comparison(records).series}
    estimate = level_estimate(found["ada"], DISTINCT, 0.5, None)
    assert estimate.high == 1.0
    assert estimate.low < 0.97
    loss = level_estimate(found["ada"], PERPLEXITY, 0.5, None)
    mean = np.mean(
        [
            r["measures"]["loss"]["nats_per_token"]
            for r in records
            if r["subject"] == "ada" and r["amount"] == 0.5
        ]
    )
    assert loss.value == pytest.approx(math.exp(mean))
    assert "not measured" in level_estimate(found["ada"], DISTINCT, 0.5, None, "1")


def test_the_workload_shown_is_one_text_at_a_time_and_the_longest():
    point = record("ada", 0.0, 4.0)
    names = ("batch8/prompt32/new50", "batch1/prompt32/new20", "batch1/prompt32/new150")
    speed = {f"{name}/tokens_per_second": figure(1.0) for name in names}
    speed["batch1/prompt32-unequal/new500/tokens_per_second"] = figure(1.0)
    speed["batch1/prompt32/new999/tokens_per_second"] = figure(None)
    point["measures"]["speed"]["figures"] = speed
    assert workload_of([point]) == "batch1/prompt32/new150"
    assert workload_of([record("ada", 0.0, 4.0)]) == WORKLOAD
    assert workload_of([]) is None


def test_temperatures_rise():
    point = record("ada", 0.0, 4.0)
    point["measures"]["text_at"] = {"1.2": text(0.5, 0.1, 1.2), "0": {"failed": "no"}}
    assert temperatures([point]) == ["0", "0.7", "1.2"]


def test_heads_are_counted():
    rows = heads_table(comparison(two()))
    at = dict(zip(rows[0], rows[1], strict=True))
    assert at["heads"] == "2"
    assert (at["active"], at["withdrawn"], at["misaligned"]) == ("1", "1", "0")
    assert (at["mean gate"], at["utilisation"], at["violations"]) == ("0.750", "0.400", "3")
    assert heads_table(comparison(curve("bo", STEEP) + curve("ada", FLAT))) == []


# charts


def lines_of(axes: matplotlib.axes.Axes):
    return {c.get_label(): c.lines[0].get_ydata().tolist() for c in axes.containers}


def test_charts_have_units_values_and_both_subjects():
    found = comparison(two(jitter=0))
    _, axes = charts.quality(found)
    perplexity = axes[0, 0]
    assert perplexity.get_yscale() == "log"
    assert "perplexity on held-out text" in perplexity.get_ylabel()
    assert "% of heads" in perplexity.get_xlabel()
    assert lines_of(perplexity) == {
        "bo": pytest.approx([math.exp(x) for x in STEEP]),
        "ada": pytest.approx([math.exp(x) for x in FLAT]),
    }
    _, axes = charts.speed(found, WORKLOAD)
    assert "tokens/s" in axes[0, 0].get_ylabel()
    assert "ms" in axes[0, 1].get_ylabel()
    _, axes = charts.temperatures(found, ["0.7", "1"])
    assert set(lines_of(axes[0, 0])) == {
        f"{name}, temperature {t}" for name in ("bo", "ada") for t in ("0.7", "1")
    }
    _, axes = charts.summary(found, found.pairs[0], WORKLOAD)
    assert axes.shape == (2, 3)
    assert all(panel.get_ylabel() and panel.containers for panel in axes.ravel())


def test_relative_improvement_has_a_zero_line_and_every_measure():
    found = comparison(two(jitter=0))
    _, axes = charts.relative(found, WORKLOAD)
    assert "up is better" in axes[0, 0].get_ylabel()
    labels = {label for panel in axes[0] for label in lines_of(panel)}
    assert labels == {measure.label for measure in MEASURES}
    wanted = [100 * (1 - math.exp(a - b)) for a, b in zip(FLAT, STEEP, strict=True)]
    assert lines_of(axes[0, 0])["perplexity"] == pytest.approx(wanted, abs=1e-9)
    for panel in axes[0]:
        assert any(set(line.get_ydata()) == {0} for line in panel.lines)


def test_a_long_bar_never_hides_the_values():
    figure, axes = grid_of_panels(1, 1)
    panel = axes[0, 0]
    effects = [Effect(1.0, -1e6, 1e6, None, 2, "seeds"), Effect(2.0, 1.9, 2.1, None, 2, "seeds")]
    values, ends = draw(panel, [Line("a", [0, 50], effects, 0, 0)])
    assert limit([panel], values, ends)
    low, high = panel.get_ylim()
    assert low < 1 < 2 < high < 5
    heading(figure, "Speed", True)
    assert "goes on beyond it" in figure.get_suptitle()


def test_a_figure_without_interval_has_no_bar_and_an_empty_panel_its_reason():
    _, axes = grid_of_panels(1, 2)
    bare = Effect(1.0, None, None, None, 1, "nothing")
    draw(axes[0, 0], [Line("a", [0], [bare], 0, 0)])
    assert not axes[0, 0].containers[0].lines[2]
    draw(axes[0, 1], [Line("a", [0], ["it failed"], 0, 0)])
    assert axes[0, 1].texts[0].get_text() == "it failed"


def test_the_radar_puts_better_outside():
    assert goodness(TOKENS_PER_SECOND, 150, 100) == 1.5
    assert goodness(PERPLEXITY, 50, 100) == 2
    assert goodness(REPETITION, 0.0, 0.2) == pytest.approx(1.25)
    assert goodness(REPETITION, 0.6, 0.2) == pytest.approx(0.5)
    assert goodness(DISTINCT, 0.5, 0.0) is None
    for measure in (PERPLEXITY, DISTINCT, REPETITION, TOKENS_PER_SECOND, FIRST_TOKEN):
        assert goodness(measure, 0.3, 0.3) == pytest.approx(1)


def test_the_radar_is_drawn_at_the_highest_level():
    records = curve("bo", STEEP, jitter=0) + curve("ada", FLAT, jitter=0, rate=1000.0)
    _, (axes,) = radar(comparison(records), WORKLOAD)
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert set(lines) == {"bo, uncut", "bo, 50 % cut", "ada, 50 % cut"}
    assert lines["ada, 50 % cut"][0] == pytest.approx(math.exp(4.0 - 4.4))
    assert lines["bo, 50 % cut"][0] == pytest.approx(math.exp(4.0 - 5.0))
    assert max(lines["ada, 50 % cut"]) == OUTERMOST
    words = [label.get_text() for label in axes.get_xticklabels()]
    assert "tokens/s\n1e+03 (beyond)\nagainst 100" in words
    assert (
        radar(
            comparison(curve("bo", (5.0,), levels=(0.5,)) + curve("ada", (5.0,), levels=(0.5,))),
            WORKLOAD,
        )
        is None
    )


def test_reading_the_study_needs_no_private_fields(quick, tmp_path):
    """A page comes of records that were written by JSON alone, as any program could."""
    folder = write_run(tmp_path, two(seeds=(0,)))
    study = json.loads((folder / "study.json").read_text())
    study["spec"]["precision"] = "bfloat16"
    (folder / "study.json").write_text(json.dumps(study))
    assert "precision of the measures" in write_agency_report(folder).read_text()


def test_a_run_with_both_sides_gets_both_pages(quick, tmp_path):
    folder = write_run(tmp_path, two())
    lines = write_pages(folder)
    assert lines == [f"report: {folder / 'report.html'}", f"agency: {folder / 'agency.html'}"]
    assert (folder / "agency.html").is_file()
    assert "is on the page <code>agency.html</code>" in (folder / "report.html").read_text()


def test_one_side_alone_gets_the_report_and_the_reason(tmp_path):
    alone = [record for record in two() if record["subject"] == "bo"]
    folder = write_run(tmp_path, alone, names=["bo", "ada"])
    (folder / "agency.html").write_text("of other records")
    lines = write_pages(folder)
    assert len(lines) == 2
    assert lines[1].startswith("agency: no page yet (")
    assert not (folder / "agency.html").exists()
    assert "agency.html" not in (folder / "report.html").read_text()
