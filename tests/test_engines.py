"""Engines: the same figures from all, a worker that dies, a point that fails, what is refused."""

import json
import multiprocessing
import socket
import sys
import time
from dataclasses import replace

import pytest
import torch

from clocks import untimed
from resprout.study.engines.engine import RETRIES, work_through
from resprout.study.engines.jobs import Job, Result
from resprout.study.engines.options import EngineOptions
from resprout.study.engines.ray_answers import check_answers, check_listens
from resprout.study.engines.ray_gpu import gpu_of
from resprout.study.engines.starting import study_device
from resprout.study.points import Point
from resprout.study.run import run_study
from resprout.study.spec import CutSpec, SubjectSpec, read_spec
from resprout.study.store import Store

CPU = torch.device("cpu")
SUBJECT = SubjectSpec(name="s", model="gpt-neox-nano", learning_rate=1e-3)


def figures(folder):
    """Each point's figures, without clocks and what it was made on."""
    return {
        path.stem: untimed(json.loads(path.read_text()))
        for path in (folder / "points").glob("*.json")
    }


@pytest.mark.slow
def test_workers_give_the_same_figures_and_one_that_dies_costs_its_point_alone(
    small_study, write_study, tmp_path
):
    small_study["resources"] = {"cpus": 1}
    spec = read_spec(write_study(small_study))
    run_study(spec, tmp_path / "one", CPU, lambda line: None)
    lines = []

    def kills_whoever_begins_the_second_point(line):
        lines.append(line)
        if "] point 2 of 6" in line:
            number = line[1:].partition("]")[0]
            killed = [p for p in multiprocessing.active_children() if p.name == number]
            killed[0].kill()

    two = EngineOptions(workers=2)
    out = tmp_path / "two"
    outcome = run_study(spec, out, CPU, kills_whoever_begins_the_second_point, two)
    assert len(outcome.records) == 5
    assert list(outcome.failures) == ["bio magnitude 50% seed 0"]
    assert "was killed by SIGKILL" in outcome.failures["bio magnitude 50% seed 0"]
    assert sum("once more: point 2 of 6" in line for line in lines) == RETRIES
    assert sum("growing" in line for line in lines) == 2  # each subject once
    assert len(list((out / "points").glob("*.failed.json"))) == 1
    assert not multiprocessing.active_children()
    outcome = run_study(spec, out, CPU, lambda line: None)  # what is missing, in one process
    assert (outcome.computed, outcome.failures) == (1, {})
    assert figures(out) == figures(tmp_path / "one")
    made = {json.loads(p.read_text())["environment"].get("engine") for p in out.glob("points/*")}
    assert made == {"local, 2 workers", None}


@pytest.mark.slow
def test_the_threads_of_a_point_are_the_studys(small_study, write_study, tmp_path):
    small_study["subjects"] = small_study["subjects"][1:]
    small_study["cuts"][0]["amounts"] = [0]
    small_study["measures"] = ["loss"]
    small_study["resources"] = {"cpus": 2, "gpus": 1, "memory_gb": 4}
    before = torch.get_num_threads()
    spec = read_spec(write_study(small_study))
    [record] = run_study(spec, tmp_path / "run", CPU, lambda line: None).records
    assert record["environment"]["threads"] == 2
    assert torch.get_num_threads() == before
    assert EngineOptions(cpus=3).resources(spec).model_dump() == {
        "cpus": 3, "gpus": 1, "memory_gb": 4,
    }  # fmt: skip


class Pretended:
    """An engine of two workers that ends jobs as it is told to, the last one first."""

    def __init__(self, ends):
        self.ends = ends
        self.taken = []
        self.running = []

    @property
    def room(self):
        return 2 - len(self.running)

    def choose(self, jobs):
        return jobs[0]

    def start(self, job):
        self.taken.append(job.key)
        self.running.append(job)

    def next(self):
        job = self.running.pop()
        return self.ends(job, self.taken.count(job.key))

    def close(self):
        pass


def job(key, *needs, point=True):
    cut = CutSpec(method="magnitude", amounts=[0.5])
    own = Point(key, {"protocol": "fair"}, SUBJECT, cut, 0.5, int(key[-1])) if point else None
    return Job(key, "point" if point else "grow", key, SUBJECT, 0, needs, own)


@pytest.fixture
def handed_out(tmp_path):
    store = Store(tmp_path)
    store.check_writable("study")

    def run(jobs, ends):
        engine, lines = Pretended(ends), []
        return work_through(jobs, engine, store, lines.append, True), engine.taken, lines

    return run


def test_points_wait_for_their_subject(handed_out):
    jobs = [job("make1", point=False), job("p1", "make1"), job("p2", "make1"),
            job("make2", "make1", point=False), job("p3", "make2")]  # fmt: skip
    failures, taken, lines = handed_out(jobs, lambda job, times: Result(job.key))
    assert failures == {}
    assert sorted(taken) == sorted(j.key for j in jobs)
    assert taken[0] == "make1"
    assert taken.index("p3") > taken.index("make2")
    assert lines[-1].startswith("3 of 3 points done")


def test_without_its_subject_a_point_fails_with_the_subjects_reason(handed_out, tmp_path):
    jobs = [job("make1", point=False), job("make2", "make1", point=False), job("p1", "make2"),
            job("p2")]  # fmt: skip

    def ends(job, times):
        return Result(job.key, broken="OSError: no" if job.key == "make1" else None, trace="t")

    failures, taken, _ = handed_out(jobs, ends)
    assert failures == {"s magnitude 50% seed 1": "OSError: no"}
    assert sorted(taken) == ["make1", "p2"]
    told = json.loads((tmp_path / "points" / "p1.failed.json").read_text())
    assert (told["failed"], told["traceback"]) == ("OSError: no", "t")


def test_a_job_whose_worker_is_lost_is_tried_again_and_an_error_is_not(handed_out):
    def ends(job, times):
        lost = job.key == "p1" or (job.key == "p2" and times == 1)
        broken = "gone" if lost else "ValueError: bad" if job.key == "p3" else None
        return Result(job.key, broken=broken, lost=lost, failed_measures={"text": "no text"})

    failures, taken, lines = handed_out([job("p1"), job("p2"), job("p3")], ends)
    assert failures == {
        "s magnitude 50% seed 1": "gone",
        "s magnitude 50% seed 2, text": "no text",
        "s magnitude 50% seed 3": "ValueError: bad",
    }
    assert [taken.count(key) for key in ("p1", "p2", "p3")] == [1 + RETRIES, 2, 1]
    assert sum(line == "gone; once more: p1" for line in lines) == RETRIES


def test_progress_tells_what_failed(handed_out):
    jobs = [job("make1", point=False), job("p1", "make1"), job("p2")]

    def ends(job, times):
        return Result(job.key, broken="OSError: no" if job.key == "make1" else None)

    _, _, lines = handed_out(jobs, ends)
    assert "make1: failed" in lines
    assert sum("(s magnitude 50% seed 1 failed)" in line for line in lines) == 1
    assert lines[-1].startswith("2 of 2 points done")


def test_points_of_one_label_fail_each_by_itself(handed_out):
    twins = [replace(job(key), point=replace(job("p1").point, id=key)) for key in ("x1", "y1")]
    failures, _, _ = handed_out(twins, lambda job, times: Result(job.key, broken=job.key))
    assert sorted(failures.values()) == ["x1", "y1"]


def test_a_record_that_did_not_come_here_is_a_failure(
    small_study, write_study, tmp_path, monkeypatch
):
    small_study["subjects"] = small_study["subjects"][1:]
    small_study["cuts"][0]["amounts"] = [0]
    small_study["measures"] = ["loss"]
    monkeypatch.setattr(Store, "write", lambda self, record: None)  # as into another machine's
    outcome = run_study(read_spec(write_study(small_study)), tmp_path / "run", CPU, print)
    [(label, reason)] = outcome.failures.items()
    assert label == "neox magnitude 0% seed 0"
    assert "its record is not in" in reason and "all machines share" in reason


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "rai"}, "engine: got 'rai', allowed are local, ray; did you mean 'ray'"),
        ({"workers": 0}, "workers: got 0, allowed are 1 to"),
        ({"address": "h:1"}, "address: got 'h:1', allowed only with the engine ray"),
        ({"gpus": 0.5}, "gpus: got 0.5, allowed only with the engine ray"),
        (
            {"name": "ray", "address": "ray://h:1"},
            r"address: got 'ray://h:1', allowed is HOST:PORT",
        ),
        ({"name": "ray", "gpus": 1.5}, "gpus: got 1.5, allowed is less than or equal to 1"),
        ({"cpus": 0}, "cpus: got 0, allowed is greater than or equal to 1"),
        ({"name": "ray", "memory_gb": -1.0}, "memory_gb: got -1.0, allowed is greater than 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        EngineOptions(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"cpus": 0}, r"resources\.cpus: got 0"),
        ({"gpus": 2}, r"resources\.gpus: got 2, allowed is less than or equal to 1"),
        ({"cpu": 1}, r"resources\.cpu: unknown key .* did you mean 'cpus'"),
    ],
)
def test_bad_resources_of_a_study_are_refused(small_study, write_study, resources, message):
    small_study["resources"] = resources
    with pytest.raises(ValueError, match=message):
        read_spec(write_study(small_study))


def test_under_ray_the_device_is_the_workers(small_study, write_study):
    spec = read_spec(write_study(small_study))
    shared = EngineOptions("ray", gpus=0.5)
    assert study_device("auto", spec, shared) == torch.device("cuda")  # not on this machine
    assert study_device("cpu", spec, shared) == CPU
    with pytest.raises(ValueError, match="device: got 'cuda:1', allowed with the engine ray"):
        study_device("cuda:1", spec, shared)
    with pytest.raises(ValueError, match="device: got 'cuda' with 0 gpus"):
        study_device("cuda", spec, EngineOptions("ray", gpus=0))


def test_without_ray_one_line_says_how_to_install_it(
    small_study, write_study, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "amdsmi", None)
    spec = read_spec(write_study(small_study))
    with pytest.raises(ValueError, match=r"engine: .* pip install 'resprout\[cluster\]'") as caught:
        run_study(spec, tmp_path / "run", CPU, print, EngineOptions("ray"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nowhere", "address: got 'nowhere', allowed is HOST:PORT, or auto"),
        ("host:port", "address: got 'host:port', allowed is HOST:PORT, or auto"),
        ("127.0.0.1:1", r"address: no Ray cluster answers at '127.0.0.1:1' \(.*refused"),
        ("no-such-host.invalid:6379", r"address: no Ray cluster answers at 'no-such-host"),
    ],
)
def test_an_address_that_does_not_answer_is_refused_at_once(address, message):
    started = time.perf_counter()
    with pytest.raises(ValueError, match=message):
        check_answers(address)
    assert time.perf_counter() - started < 10


@pytest.mark.parametrize("left", [None, "127.0.0.1:1"])
def test_auto_looks_where_ray_does(left, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    options = EngineOptions("ray", address="auto")
    if left is None:
        assert check_listens("auto") is None
        return
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(left)  # of a cluster that was killed
    with pytest.raises(ValueError, match=r"answers at 'auto' \(127\.0\.0\.1:1: .*refused"):
        options.check_cluster()


def test_rays_own_variable_names_the_cluster(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert EngineOptions("ray").cluster == "127.0.0.1:1"
    assert EngineOptions("ray", address="h:2").cluster == "h:2"
    assert EngineOptions().cluster is None
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert EngineOptions("ray").cluster is None


@pytest.mark.parametrize(
    ("given", "visible", "index"),
    [(["0"], None, 0), (["3"], None, 3), (["7"], "5,7", 1), (["GPU-b"], "GPU-a,GPU-b", 1)],
)
def test_a_task_takes_the_gpu_that_ray_gives_it(given, visible, index):
    assert gpu_of(given, visible) == torch.device("cuda", index)


@pytest.mark.slow
def test_an_address_where_something_else_listens_is_refused():
    refused = pytest.raises(ValueError, match="no Ray cluster answers at")
    with socket.create_server(("127.0.0.1", 0)) as other, refused:
        check_answers(f"127.0.0.1:{other.getsockname()[1]}")
