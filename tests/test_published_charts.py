"""The published charts from data: what is drawn is what was published, and what a run holds."""

import json

import pytest

from resprout.cli import published_charts as command
from resprout.models.biogpt import BioGPTConfig
from resprout.report.chart_series import published_series, read_series
from resprout.report.layout_drawing import Layout, cortical_layout
from resprout.report.published import read_published
from resprout.report.published_charts import efficiency_frontier, pruning_curve

SERIES = published_series(read_published("biogpt"))


def comparison(folder, **more):
    """A file as the published program wrote it."""
    level = {"sparsity": 0.0, "nonzero_params": 1_000_000, "val_loss": 4.0, "perplexity": 54.6}
    found = {
        "biogpt_base_val": 4.0,
        "pythia_base_val": 4.0,
        "biogpt_prune": [level | {"sparsity": 0.5, "val_loss": 4.5}, level],
        "pythia_prune": [],
        "generations": [],
    }
    path = folder / "full_comparison.json"
    path.write_text(json.dumps(found | more))
    return path


def lines_of(axes):
    return [container[0].get_xydata().tolist() for container in axes.containers]


def test_curves_are_the_published_figures():
    bio, pythia = lines_of(pruning_curve(SERIES)[1])
    assert bio == [[0, 2.86], [25, 2.92], [45, 3.05], [70, 4.12], [90, 6.99]]
    assert [y for _, y in pythia] == [3.45, 3.63, 3.72, 4.67, 6.79]
    bio, pythia = lines_of(efficiency_frontier(SERIES)[1])
    assert [x for x, _ in bio] == [294, 231, 180, 116, 65]
    assert [x for x, _ in pythia] == [162, 141, 120, 103, 86]


def test_a_file_of_the_published_program_is_laid_over(tmp_path):
    (mine,) = read_series(comparison(tmp_path))
    assert mine.amounts == (0, 0.5) and mine.nats_per_token == (4, 4.5)
    assert mine.intervals is None and not mine.published
    axes = efficiency_frontier([*SERIES, mine])[1]
    assert len(lines_of(axes)) == 3 and axes.get_xscale() == "log"


def test_names_come_from_our_own_file(tmp_path):
    names = {"biogpt": {"name": "BioGPT"}, "pythia": {"name": "control"}}
    (mine,) = read_series(comparison(tmp_path, subjects=names).parent)
    assert mine.label.startswith("BioGPT, ")


def test_our_own_file_has_intervals_and_a_protocol(tmp_path):
    level = {"sparsity": 0.0, "nonzero_params": 10, "val_loss": 4.0, "ci95": [3.5, 4.25]}
    bare = {"sparsity": 0.5, "nonzero_params": 5, "val_loss": 4.0}
    found = comparison(tmp_path, biogpt_prune=[level], pythia_prune=[level, bare], protocol="paper")
    mine, other = read_series(found)
    assert mine.intervals == ((3.5, 4.25),) and other.intervals is None
    assert mine.label.endswith(", paper")


def test_a_reader_is_told_what_cannot_be_compared(tmp_path):
    """A run's losses may be of other text; the legend of many lines is no longer among them."""
    figure, axes = pruning_curve([*SERIES, *read_series(comparison(tmp_path))])
    assert "same text in the same tokens" in axes.get_xlabel()
    assert axes.get_legend() is None and len(figure.legends[0].get_texts()) == 3
    assert "compare" not in pruning_curve(SERIES)[1].get_xlabel()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"biogpt_prune": []}, "holds no level of either curve"),
        ({"biogpt_prune": [{"sparsity": 2}]}, "biogpt_prune.0.sparsity"),
        ({"pythia_prune": None}, "pythia_prune: "),
    ],
)
def test_a_broken_file_is_refused(more, said, tmp_path):
    with pytest.raises(ValueError) as refused:
        read_series(comparison(tmp_path, **more))
    assert said in str(refused.value) and str(refused.value).startswith("results: ")


def test_the_layout_is_the_models_own():
    layout = command._published_layout()
    config = BioGPTConfig()
    assert len(layout.neurons) == config.num_hidden_layers and len(layout.feedback) == 4
    axes = cortical_layout(layout)[1]
    assert len(axes.patches) == 168  # published: a stripe per branch
    assert "28 neurons, 168 branches" in axes.get_title()
    drawn = {text.get_text() for text in axes.texts}
    assert drawn == {"8x96", "6x128", "4x192"}
    assert len(axes.lines) == 4


def test_a_layout_without_feedback():
    figure, axes = cortical_layout(Layout(8, [[(2, 4)]], ["EARLY"], []))
    assert len(axes.patches) == 2 and len(figure.legends[0].get_texts()) == 1


def test_the_command_writes_six_pictures(tmp_path, capsys):
    comparison(tmp_path)
    out = tmp_path / "pictures"
    given = ["--results", str(tmp_path), str(tmp_path / "full_comparison.json"), "--out", str(out)]
    assert command.main(given) == 0
    names = {"pruning_curve", "efficiency_frontier", "cortical_layout"}
    assert {path.stem for path in out.iterdir()} == names
    assert len(capsys.readouterr().out.splitlines()) == 6
    drawn = (out / "pruning_curve.svg").read_text()
    assert f"({tmp_path})" in drawn  # the same label twice says which file it is of
    assert (out / "pruning_curve.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    "given", [["--results", "nowhere"], ["--results", "."], ["--out", "{file}"]]
)
def test_a_mistake_is_one_line(given, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert command.main([word.format(file="file/deeper") for word in given]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and told.startswith("generate_charts: error: ")
    assert {path.name for path in tmp_path.iterdir()} == {"file"}
