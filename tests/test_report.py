"""Reports from records alone: words that follow the figures, a page that is safe and offline."""

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from report_records import LEVELS, WINDOWS, make_record, two, write_run
from resprout.report import charts, tables
from resprout.report.comparison import compare, compare_all, headline
from resprout.report.curves import curves
from resprout.report.page import write_report
from resprout.report.records import read_run


def words(records):
    found = curves(records)
    return " ".join(headline(found, compare_all(found)))


@pytest.fixture
def run_folder(tmp_path):
    def write(records, missing=()):
        return write_run(tmp_path, records, missing)

    return write


def test_the_winner_is_named_from_the_figures():
    said = words(two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5)))
    assert "ada has the lower loss" in said
    assert "ada has the smaller rise" in said
    said = words(two((3.4, 3.6, 4.5), (3.0, 3.1, 3.5)))
    assert "bo has the lower loss" in said
    assert "bo has the smaller rise" in said


def test_the_winner_of_one_may_lose_the_other():
    said = words(two((4.0, 4.0, 4.1), (3.0, 3.2, 3.9)))
    assert "bo has the lower loss" in said
    assert "ada has the smaller rise" in said


def test_nobody_wins_where_the_interval_holds_zero():
    records = two((3.0, 3.1, 3.5), (3.0, 3.1, 3.5))
    for record in records[3:]:  # other windows are hard for bo
        nats = record["measures"]["loss"]["window_nats"]
        record["measures"]["loss"]["window_nats"] = nats[::-1]
    said = words(records)
    assert "neither ada nor bo can be said to have the lower loss" in said
    assert "ada has" not in said
    assert "bo has" not in said


def test_differences_are_right_and_paired():
    a, b = curves(two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5)))
    found = compare(a, b)
    assert found.paired
    assert found.unit == "nat per token"
    assert found.at_amounts[0.5].value == pytest.approx(-0.5)
    # The windows' noise is shared, so a paired difference has none.
    assert found.at_amounts[0.5].low == pytest.approx(-0.5)
    assert found.at_amounts[0.5].high == pytest.approx(-0.5)
    # The monotone curves through the losses at 0.55, 0.75, 1.0 million that survive.
    sizes = [0.55e6, 0.75e6, 1e6]
    monotone = [PchipInterpolator(sizes, y) for y in ((3.5, 3.1, 3.0), (4.5, 3.6, 3.4))]
    means = [curve.integrate(sizes[0], sizes[-1]) / (sizes[-1] - sizes[0]) for curve in monotone]
    equal = found.equal_surviving
    assert equal.mean.value == pytest.approx(means[0] - means[1])
    assert (equal.low, equal.high) == (550_000, 1_000_000)
    rises = [PchipInterpolator(LEVELS, y) for y in ((0, 0.1, 0.5), (0, 0.2, 1.1))]
    assert found.rises[0].value == pytest.approx(rises[0].integrate(0, 0.9) / 0.9)
    assert found.rise_difference.value == pytest.approx(found.rises[0].value - found.rises[1].value)
    assert found.within[0].value == pytest.approx(0.5)
    assert rises[1](found.within[1].value) == pytest.approx(0.1)
    assert 0 < found.knees[0].value < 0.9
    assert found.rise_p == pytest.approx(2 / 2001)  # all windows agree, so every resample does


def test_subjects_of_different_tokens_are_compared_in_bits_per_byte():
    records = two((3.0, 3.1, 3.5), (3.0, 3.1, 3.5), tokens="other")
    for record in records[3:]:
        record["measures"]["loss"]["tokens_per_byte"] = 0.4
    found = compare(*curves(records))
    assert found.unit == "bit per byte"
    assert not found.paired
    expected = 3.1 * (0.3 - 0.4) / np.log(2)
    assert found.at_amounts[0.5].value == pytest.approx(expected)


def test_sizes_that_never_meet_are_not_compared_by_size():
    found = compare(*curves(two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5), total=10_000_000)))
    assert found.equal_surviving is None
    assert "ranges that meet" in found.not_compared["equal_surviving"]
    assert "equal surviving" not in words(two((3, 3.1, 3.5), (3.4, 3.6, 4.5), total=10_000_000))


def test_one_subject_and_one_level_have_words_too():
    assert "ada: 3.000 nats per token" in words([make_record("ada", 0.0, 3.0)])
    assert "lower loss" in words([make_record("ada", 0.5, 3.0), make_record("bo", 0.5, 3.5)])


def test_one_seed_is_confessed_and_several_are_used():
    assert "One training run each" in words(two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5)))
    several = [make_record("ada", x, y + s / 10, seed=s) for s in range(3)
               for x, y in zip(LEVELS, (3.0, 3.1, 3.5), strict=True)]  # fmt: skip
    curve = curves(several)[0]
    assert curve.nats.shape == (3, 3, WINDOWS)
    assert curve.estimates()[0].value == pytest.approx(3.1)
    assert "One training run" not in words(
        several + [make_record("bo", x, 4.0 + s / 10, seed=s) for s in range(3) for x in LEVELS]
    )


def test_seeds_of_recovery_alone_are_no_training_runs():
    """As of a checkpoint that was trained once: recovery's order moves the losses a little."""
    records = [
        make_record(name, x, 3.0 + x + s / 1000, seed=s)
        for name in ("ada", "bo") for s in range(3) for x in LEVELS
    ]  # fmt: skip
    assert "One training run" not in words(records)
    for record in records:
        record["digests"]["subject"] = "same"
    assert "One training run each: the intervals tell how far other held-out" in words(records)
    for i, record in enumerate(records[:9]):
        record["digests"]["subject"] = str(i // 3)
    assert "One training run of bo:" in words(records)


def test_a_new_seeds_first_points_take_no_level_from_the_others():
    whole = [make_record("ada", x, 3.0 + x + s, seed=s) for s in (0, 1) for x in LEVELS]
    found = curves([*whole, make_record("ada", 0.0, 5.0, seed=2)])[0]
    assert found.amounts.tolist() == list(LEVELS)
    assert found.seeds == 2 and found.left_out == ((0.0, 2),)
    assert curves(whole)[0].left_out == ()
    apart = [make_record("ada", 0.0, 3.0, seed=0), make_record("ada", 0.5, 3.5, seed=1)]
    assert curves(apart)[0].amounts.tolist() == [0.0]


def test_documents_are_drawn_where_records_tell_them():
    """Of windows alike within each document the interval is as wide as of the documents."""
    records = two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5))
    alone = curves(records)[0].estimates()[0]
    for record in records:
        loss = record["measures"]["loss"]
        nats = np.array(loss["window_nats"]).reshape(4, -1)
        nats = nats.mean(1, keepdims=True) + np.arange(4)[:, None] + 0 * nats
        loss["window_nats"] = nats.ravel().tolist()
        loss["window_documents"] = np.repeat(np.arange(4), nats.shape[1]).tolist()
    curve = curves(records)[0]
    assert curve.nats.shape == (3, 1, 4) and curve.sizes.sum() == sum(curve.windows)
    together = curve.estimates()[0]
    assert together.high - together.low > 3 * (alone.high - alone.low)


def test_other_windows_of_the_same_tokens_are_not_compared():
    records = two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5))
    for record in records[3:]:
        loss = record["measures"]["loss"]
        loss["window_tokens"] = [2 * n for n in loss["window_tokens"][::2]]
        loss["window_nats"] = [2 * n for n in loss["window_nats"][::2]]
    found = curves(records)
    assert compare_all(found) == []
    assert "ada and bo are not compared: their text was read in other windows" in words(records)


def test_a_level_that_a_seed_lacks_is_left_out():
    records = [make_record("ada", x, 3.0 + x, seed=s) for s in (0, 1) for x in LEVELS]
    assert curves(records[:-1])[0].amounts.tolist() == [0.0, 0.5]


class Page(HTMLParser):
    """Collects tags and every attribute that could load something."""

    def __init__(self):
        super().__init__()
        self.tags, self.links = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        names = ("src", "href", "xlink:href", "data", "action")
        self.links += [value for name, value in attributes if name in names]


def test_the_page_is_whole_safe_and_offline(run_folder):
    evil = "</pre><script>alert('x')</script><img src=x onerror=alert(1)>"
    records = two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5))
    records[0] = make_record("ada", 0.0, 3.0, text=evil)
    folder = run_folder(records)
    html = write_report(folder).read_text()
    assert evil not in html
    assert "&lt;script&gt;alert" in html
    assert "Who &lt;wins&gt;?" in html
    page = Page()
    page.feed(html)
    assert page.tags.count("script") == 2  # the data, the program
    assert "img" not in page.tags
    assert page.tags.count("svg") == 3  # the chart; without scripts the two drawn ones
    assert all(link.startswith("#") for link in page.links)
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    used = re.findall(r'(?:href="#|url\(#)([^")]+)', html)
    assert set(used) <= set(ids)
    assert "ada has the lower loss" in html
    assert html.count('class="level"') == 3
    for name in ("pruning_curve", "efficiency_frontier"):
        assert (folder / "charts" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (folder / "charts" / f"{name}.svg").read_text()


def test_the_page_is_the_same_each_time(run_folder):
    folder = run_folder(two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5)))
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first


def test_missing_and_failed_points_are_said(run_folder):
    records = two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5))
    records[1]["measures"]["text"] = {"failed": "ValueError: too long"}
    folder = run_folder(records, missing=["never"])
    failure = {"id": "never", "point": "bo 99 %", "failed": "RuntimeError: <dust>"}
    (folder / "points" / "never.failed.json").write_text(json.dumps(failure))
    html = write_report(folder).read_text()
    assert "1 of 7 points are not finished" in html
    assert "bo 99 %: RuntimeError: &lt;dust&gt;" in html
    assert "ValueError: too long" in html


@pytest.mark.parametrize("content", [None, []])
def test_no_run_no_page(run_folder, tmp_path, content):
    if content is not None:
        run_folder(content, missing=["never"])
    with pytest.raises(ValueError, match=r"not a run's folder|no finished point"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_charts_show_units_intervals_and_each_subject():
    found = curves(two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5)))
    _, axes = charts.efficiency_frontier(found)
    assert "nats per token" in axes.get_ylabel()
    assert "millions" in axes.get_xlabel()
    line = axes.get_lines()[0]
    assert line.get_xdata().tolist() == pytest.approx([1.0, 0.75, 0.55])
    assert line.get_ydata().tolist() == pytest.approx([3.0, 3.1, 3.5])
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["ada (95 % interval)", "bo (95 % interval)"]
    assert len(axes.containers) == 2  # error bars


def test_many_curves_differ_in_their_looks_and_the_legend_names_each():
    one, _ = curves(two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5)))
    found = [replace(one, method=f"m{i}", label=f"ada, m{i}") for i in range(16)]
    looks = charts.styles(found)
    assert len({(look["colour"], look["dash"]) for look in looks}) == 16
    assert all(look["colour"] < len(charts.COLOURS) for look in looks)
    figure, axes = charts.pruning_curve(found)
    drawn = [bars.lines[0] for bars in axes.containers]
    assert (
        len({(line.get_color(), line.get_linestyle(), line.get_marker()) for line in drawn}) == 16
    )
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [curve.label for curve in found]
    assert "95 % intervals" in legend.get_title().get_text()


def test_table_has_a_row_per_record_and_no_invented_figure(run_folder):
    records = two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5))
    del records[0]["measures"]["text"]
    run = read_run(run_folder(records))
    rows = tables.rows(run.records)
    assert len(rows) == 6
    assert rows[0][-2:] == ["-", "-"]
    markdown = tables.markdown_table(run.records).splitlines()
    assert len(markdown) == 8
    assert all(line.count("|") == len(tables.HEADINGS) - 4 + 1 for line in markdown)


def test_method_protocol_and_seed_are_shown_where_they_differ():
    records = two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5))
    assert not {"method", "protocol", "seed"} & set(tables.table(records)[0])
    records[0] |= {"method": "random", "protocol": "paper", "seed": 1, "run": "another"}
    assert tables.table(records)[0] == tables.HEADINGS


def test_a_curve_that_never_left_the_limit_says_so():
    said = words(two((3.0, 3.0, 3.05), (3.0, 3.2, 3.9)))
    assert "is 90% or more (the largest tried) for ada and 34% (34% to 34%) for bo" in said


def counted(record, outside, flops, context=128):
    """The record with the counts that newer ones have."""
    parameters = record["parameters"]
    parameters["non_embedding"] = parameters["surviving"] - outside
    parameters["effective_flops_per_token"] = flops
    parameters["flops_context_tokens"] = context
    return record


def test_equal_non_embedding_parameters_and_equal_operations():
    records = two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5))
    for i, record in enumerate(records):
        counted(record, outside=200_000 if i < 3 else 300_000, flops=2e6 - 5e5 * (i % 3))
    found = compare(*curves(records))
    assert found.not_compared == {}
    a, b = [0.35e6, 0.55e6, 0.8e6], [0.25e6, 0.45e6, 0.7e6]
    equal = found.equal_non_embedding
    assert (equal.low, equal.high) == pytest.approx((0.35e6, 0.7e6))
    monotone = [PchipInterpolator(a, (3.5, 3.1, 3.0)), PchipInterpolator(b, (4.5, 3.6, 3.4))]
    means = [curve.integrate(0.35e6, 0.7e6) / 0.35e6 for curve in monotone]
    assert equal.mean.value == pytest.approx(means[0] - means[1])
    equal = found.equal_flops
    assert (equal.low, equal.high) == (1e6, 2e6)
    even = [PchipInterpolator([1, 1.5, 2], y) for y in ((3.5, 3.1, 3.0), (4.5, 3.6, 3.4))]
    wanted = even[0].integrate(1, 2) - even[1].integrate(1, 2)
    assert equal.mean.value == pytest.approx(wanted)
    said = words(records)
    assert "At equal surviving non-embedding parameters (0.35 to 0.70 million), ada has" in said
    assert "At equal FLOPs per token, zeros skipped (1.00 to 2.00 million), ada has" in said


def test_sizes_that_say_the_same_are_told_once():
    records = [counted(r, 200_000, 1e6) for r in two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5))]
    found = compare(*curves(records))
    assert found.equal_non_embedding.mean.value == pytest.approx(found.equal_surviving.mean.value)
    # All levels cost the same, which is no curve.
    assert "several levels at 1e+06" in found.not_compared["equal_flops"]
    said = words(records)
    assert "non-embedding" not in said
    assert "FLOPs" not in said


def test_counts_that_are_missing_or_of_other_contexts_are_not_compared():
    records = two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5))
    found = compare(*curves(records))
    assert found.not_compared == {
        "equal_non_embedding": "non_embedding: not counted in every record of ada",
        "equal_flops": "flops: not counted in every record of ada",
    }
    for i, record in enumerate(records):
        counted(record, 0, 2e6 - 5e5 * (i % 3), context=128 if i < 3 else 256)
    found = compare(*curves(records))
    assert found.not_compared["equal_flops"] == "flops: counted in contexts of 128 and 256 tokens"
    records[4]["parameters"]["effective_flops_per_token"] = None
    assert curves(records)[1].flops is None
    assert curves(records)[1].non_embedding is not None


def test_a_p_value_follows_the_windows():
    records = two((3.0, 3.1, 3.5), (3.0, 3.1, 3.5))
    for record in records[3:]:  # other windows are hard for bo, which is no better for it
        nats = record["measures"]["loss"]["window_nats"]
        record["measures"]["loss"]["window_nats"] = nats[::-1]
    found = compare(*curves(records))
    assert found.rise_p > 0.9


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_a_terminal_of_any_width_shows_whole_figures(width):
    from rich.console import Console

    records = two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5))
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(tables.terminal_table(records, width))
    text = console.export_text()
    assert "\u2026" not in text  # nothing is cut off
    body = [line for line in text.splitlines() if line.startswith(("ada", "bo"))]
    assert len(body) == 6
    assert "750,000" in body[1]
    assert "3.000 to 3.200" in body[1]
    assert body[1].endswith({60: "3.200", 80: "1.550"}.get(width, "0.10"))
    assert all(len(line) <= width for line in text.splitlines())
    assert ("achieved" in text) == (width > 60)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"study": 3}', "\x00"])
def test_a_broken_study_file_is_named(run_folder, text):
    folder = run_folder(two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5)))
    (folder / "study.json").write_text(text)
    with pytest.raises(ValueError, match=r"study\.json") as caught:
        write_report(folder)
    assert "\n" not in str(caught.value)


def test_a_study_file_cannot_point_outside_its_folder(run_folder):
    folder = run_folder(two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5)), missing=["../../secret"])
    with pytest.raises(ValueError, match=r"points\.6"):
        write_report(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", "NaN"])
def test_a_broken_point_is_named_and_not_used(run_folder, text):
    records = two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5))
    folder = run_folder(records)
    (folder / "points" / f"{records[1]['id']}.json").write_text(text)
    html = write_report(folder).read_text()
    assert "1 of 6 points are not finished" in html
    assert "ada-0.5-0.json, not used" in html


def test_a_point_with_a_field_gone_is_not_used(run_folder):
    records = two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5))
    del records[1]["measures"]["loss"]["ci95"]
    assert len(read_run(run_folder(records)).records) == 5
