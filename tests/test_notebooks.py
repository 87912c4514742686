"""Each notebook runs from top to bottom, offline, and is committed without its outputs."""

import ast
import math
import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
NAMES = ("biogpt", "glu_width", "agency")  # one per published study
TIMEOUT_SECONDS = 240  # of a cell


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def outputs(notebook, kind):
    """What the cells gave of a kind of output, in order."""
    return [
        output["data"][kind]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if kind in output.get("data", {})
    ]


def test_every_study_has_its_notebook():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_committed_clean(name):
    notebook = read(name)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
        assert set(cell.metadata) == set()
    text = (FOLDER / f"{name}.ipynb").read_text("utf-8")
    assert not re.search(r"/(home|root|work|tmp|Users)/", text)
    linked = re.findall(r"\]\((\.\./[^)#]+)", text)
    assert linked and all((FOLDER / place).is_file() for place in linked)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow
def test_a_notebook_runs(name, tmp_path):
    """No cell raises, there is a picture, and the figures that it ends with are losses."""
    own = {
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "jupyter"),
    }
    notebook = read(name)
    place = tmp_path / "empty"
    place.mkdir()
    client = NotebookClient(
        notebook, timeout=TIMEOUT_SECONDS, resources={"metadata": {"path": str(place)}}
    )
    client.execute(env=os.environ | own)
    assert outputs(notebook, "image/png")
    figures = ast.literal_eval(outputs(notebook, "text/plain")[-1])
    assert len(figures) >= 6
    assert all(math.isfinite(nats) and 0 < nats < math.log(1024) for nats in figures.values())
    assert {path.name for path in place.iterdir()} == {"runs"}
