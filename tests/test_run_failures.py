"""What failed in a run, read back: points and measures that differ in anything are told apart."""

import json

import pytest

from report_records import make_record, write_run
from resprout.report.records import read_run


def failing(identity, **changes):
    record = make_record("ada", 0.5, 3.0) | {"id": identity} | changes
    record["measures"]["text"] = {"failed": identity}
    return record


@pytest.mark.parametrize(
    ("second", "label"),
    [
        ({"seed": 1}, "ada magnitude 50% seed 1, text"),
        ({"protocol": "paper"}, "ada magnitude 50% seed 0, paper protocol, text"),
        ({"amount": 0.504}, "ada magnitude 50.4% seed 0, text"),
        ({}, "ada magnitude 50% seed 0, text (b)"),  # cuts that differ in their options alone
    ],
)
def test_no_failed_measure_hides_another(tmp_path, second, label):
    run = read_run(write_run(tmp_path, [failing("a"), failing("b", **second)]))
    assert run.failures == {"ada magnitude 50% seed 0, text": "a", label: "b"}


def test_no_failed_point_hides_another(tmp_path):
    folder = write_run(tmp_path, [make_record("ada", 0, 3.0)], missing=["x", "y"])
    for identity in ("x", "y"):
        failure = {"id": identity, "point": "ada magnitude 50% seed 0", "failed": identity}
        (folder / "points" / f"{identity}.failed.json").write_text(json.dumps(failure))
    label = "ada magnitude 50% seed 0"
    assert read_run(folder).failures == {label: "x", f"{label} (y)": "y"}
