"""A dry run for several workers: its time against closed forms, its memory as they share it."""

from pathlib import Path

import pytest

from resprout.cli.dry_run import dry_run_lines
from resprout.study.dry_run import DryRun, Making, Planned
from resprout.study.points import Point
from resprout.study.spec import CutSpec, SubjectSpec

SUBJECTS = {name: SubjectSpec(name=name, model="gpt-neox-nano") for name in ("a", "b")}
CUT = CutSpec(method="magnitude", amounts=[0.5])


def planned(subject, seconds, size=1e9, seed=0):
    point = Point("id", {"protocol": "fair"}, SUBJECTS[subject], CUT, 0.5, seed)
    state = "done" if seconds is None else "missing"
    return Planned(point, state, True, seconds, size if seconds else None, "shapes")


def making(subject, seconds, kind="grow"):
    return Making(kind, subject, 0, 100, seconds, "shapes")


def looked_at(points, makings=(), workers=1):
    return DryRun(Path("run"), points, list(makings), [], "a device", [], workers)


def test_one_worker_does_all_one_after_another():
    points = [planned("a", s) for s in (1, 2, 3)] + [planned("a", None)]
    assert looked_at(points, [making("a", 10)]).seconds == 16


@pytest.mark.parametrize("workers", [2, 3, 7, 50])
def test_equal_points_are_dealt_out(workers):
    found = looked_at([planned("a", 5.0)] * 20, workers=workers)
    assert found.seconds == 5 * -(-20 // workers)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_no_schedule_is_shorter_than_its_work_or_its_longest_chain(workers):
    points = [planned("a", 3.0), planned("b", 8.0), planned("a", 2.0), planned("b", 1.0)]
    makings = [making("a", 20), making("a", 5, "adapt"), making("b", 10)]
    found = looked_at(points, makings, workers)
    assert found.seconds >= max(49 / workers, 20 + 5 + 3)
    assert found.seconds <= 49


def test_points_wait_for_their_subject_however_many_workers_there_are():
    makings = [making("a", 20), making("a", 5, "adapt"), making("b", 10)]
    found = looked_at([planned("a", 3), planned("a", 2), planned("b", 1)], makings, 100)
    assert found.seconds == 20 + 5 + 3


def test_memory_is_that_of_the_largest_points_at_a_time():
    points = [planned("a", 1, 3e9), planned("a", 1, 5e9), planned("b", 1, 4e9), planned("b", None)]
    assert [looked_at(points, workers=n).peak_bytes for n in (1, 2, 9)] == [5e9, 9e9, 12e9]
    assert looked_at([planned("a", None)], workers=3).peak_bytes is None


def test_the_lines_say_for_how_many():
    points = [planned("a", 60.0)] * 4
    assert "time: about 2 min with 2 workers" in "\n".join(dry_run_lines(looked_at(points, (), 2)))
    alone = "\n".join(dry_run_lines(looked_at(points)))
    assert "time: about 4 min one point after another" in alone
