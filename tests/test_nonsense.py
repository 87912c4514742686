"""Nonsense is refused at once, in one line that says what was given and what is allowed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import nonsense
import nonsense_commands
import nonsense_scripts
import nonsense_studies
from resprout.models.by_name import known_limit
from resprout.models.names import SIZES, plain_configuration
from resprout.models.positions import position_limit
from resprout.models.sizes import configuration
from resprout.models.subject import load_configuration

ROWS = [*nonsense_commands.ROWS, *nonsense_studies.ROWS, *nonsense_scripts.ROWS]
QUIET = {"HF_HUB_OFFLINE": "1", "COLUMNS": "200", "NO_COLOR": "1"}
# Rows in a process of their own, which tells what was imported when each was refused.
CHILD = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import nonsense, nonsense_commands, nonsense_studies, nonsense_scripts
rows = [*nonsense_commands.ROWS, *nonsense_studies.ROWS, *nonsense_scripts.ROWS]
for kind, forbidden in nonsense.FORBIDDEN.items():
    for row in (row for row in rows if row.imports == kind):
        for trouble in nonsense.trouble_of(row, Path.cwd()):
            print(row.name, "|", trouble)
        assert forbidden not in sys.modules, row.name
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder full of traps, made once: nothing may change in it."""
    folder = tmp_path_factory.mktemp("world")
    nonsense.make_world(folder)
    return folder


def test_the_table_is_long_and_mostly_light():
    assert len(ROWS) >= 500
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    assert sum(row.imports == nonsense.HEAVY for row in ROWS) <= 20


def test_refusals_and_what_they_import(world):
    """A refusal that imports no torch takes as long as Python needs to start."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD],
        capture_output=True, text=True, cwd=world, env=os.environ | QUIET, timeout=250,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("", 0), done.stderr


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.imports == nonsense.HEAVY], ids=lambda row: row.name
)
def test_refusals_that_need_a_model(row, world, monkeypatch):
    monkeypatch.chdir(world)
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    assert nonsense.trouble_of(row, world) == []


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        (["--bogus"], {}, "got --bogus, allowed are environment variables"),
        ([], {"PYTHON": "nowhere"}, "PYTHON: 'nowhere' cannot import biogpt; allowed is"),
        ([], {"DATA_DIR": "data", "SOURCE": "x"}, "SOURCE: got x, but data was made with another"),
        ([], {"DATA_DIR": "data", "MODEL": "biogpt-nan", "TARGET_TOKENS": ""}, "biogpt-nano"),
    ],
)
def test_the_published_script(arguments, settings, said, world):
    before = nonsense.snapshot(world)
    script = nonsense.ROOT / "scripts" / "run_comparison.sh"
    done = subprocess.run(
        ["bash", str(script), *arguments],
        capture_output=True, text=True, cwd=world, timeout=60,
        env=os.environ | QUIET | {"PYTHON": sys.executable} | settings,
    )  # fmt: skip
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert nonsense.snapshot(world) == before


def test_known_limits_are_those_of_configurations(world, shared):
    for name in SIZES:
        config = configuration(name)
        assert known_limit(name) == position_limit(config)
        plain = plain_configuration(name)
        assert plain is not None and plain["model_type"] == config.model_type
    for folder in (world / "model", shared / "models" / "stories260K"):
        assert known_limit(str(folder)) == position_limit(load_configuration(str(folder)))
