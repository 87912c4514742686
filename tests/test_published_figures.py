"""The published figures as data: against the pages, and against one another."""

import json
import math
import re

import numpy as np
import pytest

from resprout.models.biogpt.layout import branch_total, cortical_layout
from resprout.report.published import STUDIES, PublishedStudy, published_folder, read_published

BIOGPT = read_published("biogpt")
GLU = read_published("glu_width_llama")


def written(value):
    """How a page may print a number."""
    texts = {f"{value:g}", f"{value:,}", f"{value:,.1f}", f"{value:.2f}", f"{value:.4f}"}
    return {*texts, f"{value}"}


@pytest.mark.parametrize("study", STUDIES)
def test_every_figure_stands_on_its_page(study, shared):
    found = read_published(study)
    for source, page in found.sources.items():
        text = (shared / "seeds" / page.seed).read_text("utf-8")
        plain = text.replace("**", "")
        for claim in (c for c in found.claims if c.source == source):
            assert claim.wording.replace("**", "") in plain, claim.wording
            assert claim.section in text
        for figure in (f for f in found.figures if f.source == source):
            assert figure.wording in text, figure.wording
        for table in (t for t in found.tables if t.source == source):
            heading = table.section.rpartition(": ")[2]
            assert heading in plain
            for row in table.rows:
                line = [
                    line
                    for line in plain.splitlines()
                    if line.startswith("|") and all(_stands(cell, line) for cell in row)
                ]
                assert line, (table.id, row)


def _stands(cell, line):
    if cell is None or isinstance(cell, str):
        return (cell or "") in line
    return any(text in line for text in written(cell))


@pytest.mark.parametrize("study", STUDIES)
def test_no_table_of_the_pages_is_missing(study, shared):
    found = read_published(study)
    for source, page in found.sources.items():
        text = (shared / "seeds" / page.seed).read_text("utf-8")
        rules = [line for line in text.splitlines() if re.fullmatch(r"\|[\s:|-]+\|", line)]
        assert len(rules) == sum(table.source == source for table in found.tables)


def test_perplexity_is_exp_of_the_loss():
    for curve in BIOGPT.published_curves:
        for nats, perplexity in zip(
            curve.figures["nats_per_token"], curve.figures["perplexity"], strict=True
        ):
            # Losses are printed to two digits: half a unit of the last is half a per cent.
            assert perplexity == pytest.approx(math.exp(nats), rel=0.007)


def test_surviving_parameters_are_those_of_the_model():
    """What is left is the total less the amount of what was prunable (FACTS, section 1)."""
    totals = {"BioGPT": (294_532_636, 254_803_968), "Pythia-160M": (162_322_944, 84_934_656)}
    for curve in BIOGPT.published_curves:
        total, prunable = totals[curve.subject]
        for amount, surviving in zip(curve.amounts, curve.surviving, strict=True):
            assert abs(surviving - (total - amount * prunable)) < 0.6e6


def test_pages_agree_with_one_another():
    curves = {curve.subject: curve for curve in BIOGPT.published_curves}
    table = BIOGPT.table("both-curves")
    for subject, name in (("BioGPT", "BioGPT"), ("Pythia-160M", "Pythia")):
        assert tuple(table.column(f"{name} PPL")) == curves[subject].figures["perplexity"]
        millions = [size / 1e6 for size in curves[subject].surviving]
        assert table.column(f"{name} Params") == pytest.approx(millions)
    for curve in BIOGPT.curves:
        source = BIOGPT.table(curve.table)
        losses = source.column("Val Loss")
        for loss, delta in zip(losses, source.column("Loss Delta"), strict=True):
            assert delta is None or delta == pytest.approx(loss - losses[0], abs=1e-9)


def test_equal_sizes_as_the_documentation_says():
    """docs/REPRODUCTION.md: BioGPT on the straight lines between its levels, less Pythia."""
    curves = {curve.subject: curve for curve in BIOGPT.published_curves}
    bio, pythia = curves["BioGPT"], curves["Pythia-160M"]
    at = np.interp(
        pythia.surviving, bio.surviving[::-1], bio.figures["nats_per_token"][::-1]
    ) - np.array(pythia.figures["nats_per_token"])
    assert at.round(2).tolist() == [-0.1, 0.07, 0.33, 0.18, -0.98]


def test_layout_gives_the_published_branches():
    branches = next(f for f in BIOGPT.figures if f.name == "branches")
    assert sum(map(branch_total, cortical_layout(768, 12))) == branches.value


def test_changes_follow_from_the_values():
    """Each printed change is that of its rounded values, to what rounding can move."""
    for table in GLU.tables[:4]:
        names = [c.name for c in table.columns[1:] if not c.name.endswith(" change")]
        for name in names:
            values, changes = table.column(name), table.column(f"{name} change")
            assert changes[0] is None
            for value, change in zip(values[1:], changes[1:], strict=True):
                slack = 0.06 + 100 * (0.005 if values[0] > 1 else 5e-5) * value / values[0] ** 2
                assert change == pytest.approx(100 * (value / values[0] - 1), abs=2 * slack)


def test_curves_of_the_width_study():
    small, more = (c for c in GLU.published_curves if c.subject == "Llama-3.2-1B")
    assert small.amounts == (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    assert small.figures["mmlu"][:2] == (0.3111, 0.2511)
    assert more.figures["ifeval"][4] == 0.1516
    assert len({*small.figures, *more.figures}) == 13
    assert small.surviving is None and small.units["wikitext"] == "perplexity per word"


def test_agency_publishes_no_measurement():
    found = read_published("agency")
    assert not found.tables and found.note


def test_bad_input_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'biogpt'"):
        read_published("biogtp")
    with pytest.raises(ValueError, match=r"biogpt\.json is not there"):
        read_published("biogpt", tmp_path)
    values = json.loads((published_folder() / "biogpt.json").read_text())
    values["tables"][0]["rows"][0].append("one too many")
    (tmp_path / "biogpt.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"tables\.0: .*a row of 4 cells"):
        read_published("biogpt", tmp_path)


def test_a_curve_needs_its_columns():
    values = BIOGPT.model_dump()
    values["curves"][0]["amount"] = "Sparsty"
    with pytest.raises(ValueError, match="did you mean 'Sparsity'"):
        PublishedStudy.model_validate(values)
