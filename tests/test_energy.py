"""Energy: joules per token from counters whose power is known, and absence said in words."""

import dataclasses
import logging
import sys
import types

import pytest
import torch

from resprout.measure.energy import (
    EnergyOptions,
    NoCounter,
    Reading,
    measure_energy,
    open_counter,
)
from resprout.measure.energy.metering import Stretch
from resprout.measure.speed import SpeedOptions
from resprout.models.sizes import build, configuration

IDLE, BUSY = 50.0, 80.0  # watts
STEP = 0.1  # seconds of one forward pass, on the counter's clock
SPEED = SpeedOptions(batches=(1, 4), prompt_tokens=(6,), new_tokens=(5,), repeats=5, warmup=1)
OPTIONS = EnergyOptions(idle_seconds=5, reading_seconds=2)


class FakeCounter:
    """Counters with a clock of their own, which passes only when something is done."""

    def __init__(self, watts=(IDLE, BUSY), host=None, start=1000.0):
        self.seconds = 0.0
        self.powers = {"CPU package-0": watts}
        self.devices, self.host, self.no_host = ("CPU package-0",), (), "the model is on the CPU"
        if host is not None:
            self.powers = {"GPU 0 (Fake)": watts, "CPU package-0": host}
            self.devices, self.host = ("GPU 0 (Fake)",), ("CPU package-0",)
        self.joules = dict.fromkeys(self.powers, start)

    def read(self):
        return Reading(self.seconds, dict(self.joules))

    def wait(self, seconds):
        self.pass_by(seconds, busy=False)

    def pass_by(self, seconds, busy):
        self.seconds += seconds
        for device, (idle, work) in self.powers.items():
            self.joules[device] += seconds * (work if busy else idle)


def working(counter, step=STEP):
    """A model whose every forward pass takes `step` seconds of the counter's clock."""
    model = build(configuration("llama-nano", vocab_size=64), seed=0).eval()
    real = model.forward

    def forward(*arguments, **more):
        counter.pass_by(step, busy=True)
        return real(*arguments, **more)

    model.forward = forward
    return model


def test_joules_per_token_of_a_known_power():
    counter = FakeCounter()
    measured = measure_energy({"a": working(counter)}, SPEED, OPTIONS, counter)["a"]
    figures = measured.figures
    assert figures["idle_watts"].value == pytest.approx(IDLE)
    assert figures["idle_watts"].ci95 == pytest.approx((IDLE, IDLE))
    for batch in (1, 4):
        # Five forward passes of 0.1 s at 80 W give five tokens per sequence.
        name = f"batch{batch}/prompt6/new5"
        net, gross = (figures[f"{name}/{kind}joules_per_token"] for kind in ("", "gross_"))
        assert net.value == pytest.approx((BUSY - IDLE) * STEP / batch)
        assert net.ci95 == pytest.approx((net.value, net.value))
        assert gross.value == pytest.approx(BUSY * STEP / batch)
        assert net.unit == "joule per token" and net.items == 5
        for word in ("read from CPU package-0", "other programs too", "idle power"):
            assert word in net.protocol
        runs = measured.details["workloads"][name]
        assert len(runs) == 5
        for run in runs:  # 2 s or more, and not a whole decoding more
            assert 2 - 1e-9 <= run["seconds"] < 2.5 + 1e-9
            assert run["tokens"] * STEP / batch == pytest.approx(run["seconds"])
    assert not any("unequal" in name or "host" in name for name in figures)
    assert measured.details["devices"] == ["CPU package-0"]
    measured.as_json()


def test_a_gpu_beside_its_host():
    counter = FakeCounter(host=(20.0, 45.0))
    figures = measure_energy({"a": working(counter)}, SPEED, OPTIONS, counter)["a"].figures
    name = "batch1/prompt6/new5"
    assert figures[f"{name}/joules_per_token"].value == pytest.approx((BUSY - IDLE) * STEP)
    assert figures[f"{name}/host_joules_per_token"].value == pytest.approx(25 * STEP)
    assert figures["idle_watts"].value == pytest.approx(IDLE)
    counter.host, counter.no_host = (), "permission denied"
    figures = measure_energy({"a": working(counter)}, SPEED, OPTIONS, counter)["a"].figures
    absent = figures[f"{name}/host_joules_per_token"]
    assert absent.value is None and absent.reason == "permission denied"
    assert figures[f"{name}/joules_per_token"].value is not None


def test_two_models_in_turn():
    counter = FakeCounter()
    models = {"whole": working(counter, 0.2), "cut": working(counter, 0.1)}
    measured = measure_energy(models, SPEED, OPTIONS, counter)
    ratio = measured["cut"].figures["batch4/prompt6/new5/joules_per_token/ratio"]
    assert (ratio.value, *ratio.ci95) == pytest.approx((0.5, 0.5, 0.5))
    assert "batch4/prompt6/new5/joules_per_token/ratio" not in measured["whole"].figures


def test_below_zero_is_reported_as_it_is():
    counter = FakeCounter(watts=(50.0, 48.0))
    models = {"a": working(counter), "b": working(counter)}
    measured = measure_energy(models, SPEED, OPTIONS, counter)
    figure = measured["a"].figures["batch1/prompt6/new5/joules_per_token"]
    assert figure.value == pytest.approx(-2 * STEP) and figure.reason is None
    ratio = measured["b"].figures["batch1/prompt6/new5/joules_per_token/ratio"]
    assert ratio.value is None and "not above zero" in ratio.reason


def test_the_idle_power_is_a_median_of_slices():
    counter = FakeCounter()
    waits = []

    def wait(seconds):
        waits.append(seconds)
        counter.pass_by(seconds, busy=len(waits) == 3)  # somebody works in one slice

    counter.wait = wait
    figures = measure_energy({"a": working(counter)}, SPEED, OPTIONS, counter)["a"].figures
    assert figures["idle_watts"].value == pytest.approx(IDLE)
    assert figures["idle_watts"].ci95 == pytest.approx((IDLE, BUSY))
    assert sum(waits[1:]) == pytest.approx(5)


def test_a_counter_that_starts_anew():
    """What the library lets slip (a reading just after the wrap) is read again."""
    counter = FakeCounter()
    model = working(counter)
    real, passes = counter.pass_by, []

    def pass_by(seconds, busy):
        real(seconds, busy)
        passes.append(busy)
        if passes.count(True) in (12, 60) and busy:
            counter.joules["CPU package-0"] -= 900

    counter.pass_by = pass_by
    measured = measure_energy({"a": model}, SPEED, OPTIONS, counter)["a"]
    assert not measured.details["failed"]
    figure = measured.figures["batch1/prompt6/new5/joules_per_token"]
    assert (figure.value, *figure.ci95) == pytest.approx((3.0, 3.0, 3.0))


def test_a_counter_that_stands_still_or_breaks():
    counter = FakeCounter(watts=(0.0, 0.0))
    figures = measure_energy({"a": working(counter)}, SPEED, OPTIONS, counter)["a"].figures
    assert figures["idle_watts"].value is None
    assert "the counter of CPU package-0 did not move in 1 s" in figures["idle_watts"].reason
    counter = FakeCounter(watts=(IDLE, 0.0))
    measured = measure_energy({"a": working(counter)}, SPEED, OPTIONS, counter)["a"]
    figure = measured.figures["batch1/prompt6/new5/joules_per_token"]
    assert figure.value is None and "did not move" in figure.reason
    assert measured.details["failed"]["batch1/prompt6/new5"] == figure.reason
    counter = FakeCounter()
    counter.read = lambda: 1 / 0
    figures = measure_energy({"a": working(counter)}, SPEED, OPTIONS, counter)["a"].figures
    assert figures["idle_watts"].reason == "the idle power cannot be read: division by zero"


def test_a_failing_model_does_not_stop_the_others():
    counter = FakeCounter()
    good, bad = working(counter), working(counter)
    bad.forward = lambda **more: 1 / 0
    measured = measure_energy({"bad": bad, "good": good}, SPEED, OPTIONS, counter)
    name = "batch1/prompt6/new5/joules_per_token"
    assert measured["bad"].figures[name].reason == "ZeroDivisionError: division by zero"
    assert measured["good"].figures[name].value == pytest.approx(3.0)
    ratio = measured["good"].figures[f"{name}/ratio"]
    assert ratio.value is None and ratio.reason == "bad: ZeroDivisionError: division by zero"


def test_few_repeats_have_no_interval():
    counter = FakeCounter()
    speed = dataclasses.replace(SPEED, repeats=2)
    figures = measure_energy({"a": working(counter)}, speed, OPTIONS, counter)["a"].figures
    figure = figures["batch1/prompt6/new5/joules_per_token"]
    assert figure.value == pytest.approx(3.0) and figure.ci95 is None
    assert figure.reason == "an interval needs 5 repeats or more, got 2"


def test_without_a_counter_all_is_absent_and_nothing_runs(monkeypatch):
    def none(device):
        raise NoCounter("there is none on this machine")

    monkeypatch.setattr("resprout.measure.energy.measure.open_counter", none)
    model = build(configuration("llama-nano", vocab_size=64), seed=0)
    model.forward = lambda **more: pytest.fail("it ran")
    measured = measure_energy({"a": model}, SPEED, OPTIONS)["a"]
    assert {f"batch{b}/prompt6/new5/joules_per_token" for b in (1, 4)} < set(measured.figures)
    for figure in measured.figures.values():
        assert figure.value is None and figure.ci95 is None
        assert figure.reason == "there is none on this machine"
    assert measured.details["absent"] == "there is none on this machine"


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "5", True])
@pytest.mark.parametrize("name", ["idle_seconds", "reading_seconds"])
def test_bad_options(name, value):
    with pytest.raises(ValueError, match=f"{name}: got .*, allowed is a number above 0"):
        EnergyOptions(**{name: value})


def test_net_energy_of_a_stretch():
    stretch = Stretch(2.0, {"a": 100.0, "b": 30.0}, tokens=10)
    assert stretch.gross(["a", "b"]) == pytest.approx(13)
    assert stretch.net(["a"], {"a": 20.0, "b": 5.0}) == pytest.approx((100 - 40) / 10)
    assert stretch.net(["a", "b"], {"a": 20.0, "b": 5.0}) == pytest.approx((130 - 50) / 10)


# The machine's own counters, through the library.


@pytest.fixture
def powercap(tmp_path, monkeypatch):
    """A folder that looks like Linux's RAPL, which zeus reads instead of the system's."""
    rapl = pytest.importorskip("zeus.device.cpu.rapl")
    import zeus.device.cpu

    zones = {"0": "package-0", "0/intel-rapl:0:0": "core", "0/intel-rapl:0:1": "dram", "1": "psys"}
    for place, name in zones.items():
        folder = tmp_path / f"intel-rapl:{place}"
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "energy_uj").write_text("5000000\n")
        (folder / "max_energy_range_uj").write_text("262143328850\n")

    class Tracker:  # the real one starts a process
        wraps = 0

        def __init__(self, path, most):
            pass

        def get_num_wraparounds(self):
            return self.wraps

    monkeypatch.setattr(rapl, "RAPL_DIR", str(tmp_path))
    monkeypatch.setattr(rapl, "RaplWraparoundTracker", Tracker)
    monkeypatch.setattr(zeus.device.cpu, "_cpus", None)
    remembered = rapl.rapl_is_available
    remembered.cache_clear()
    yield types.SimpleNamespace(folder=tmp_path, tracker=Tracker, rapl=rapl)
    remembered.cache_clear()


def test_rapl_through_the_library(powercap):
    counter = open_counter(torch.device("cpu"))
    assert counter.devices == ("CPU package-0", "DRAM of CPU package-0") and not counter.host
    before = counter.read()
    assert before.joules == {"CPU package-0": 5.0, "DRAM of CPU package-0": 5.0}
    (powercap.folder / "intel-rapl:0" / "energy_uj").write_text("1000000\n")
    powercap.tracker.wraps = 1
    after = counter.read()
    assert after.joules["CPU package-0"] == pytest.approx(262143.32885 + 1)
    assert after.seconds > before.seconds
    counter.wait(0.01)
    assert counter.read().seconds - after.seconds >= 0.01


def test_permission_denied(powercap, monkeypatch):
    real = open

    def refused(path, *arguments, **more):
        if str(path).endswith("energy_uj"):
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **more)

    monkeypatch.setattr(powercap.rapl, "open", refused, raising=False)
    with pytest.raises(NoCounter, match=r"of the CPU \(RAPL\) can be read: .*permission error"):
        open_counter(torch.device("cpu"))


def test_no_hardware(monkeypatch, caplog):
    rapl = pytest.importorskip("zeus.device.cpu.rapl")
    monkeypatch.setattr("zeus.device.cpu._cpus", None)
    monkeypatch.setattr("zeus.device.gpu._gpus", None)
    monkeypatch.setattr("zeus.device.gpu.nvml_is_available", lambda: False)
    monkeypatch.setattr("zeus.device.gpu.amdsmi_is_available", lambda: False)
    monkeypatch.setattr(rapl, "rapl_is_available", lambda: False)
    with caplog.at_level(logging.INFO):
        with pytest.raises(NoCounter, match=r"CPU \(RAPL\) can be read: this system shows none"):
            open_counter(torch.device("cpu"))
        with pytest.raises(NoCounter, match="of the GPU can be read: NVML"):
            open_counter(torch.device("cuda"))
    assert not caplog.records
    with pytest.raises(NoCounter, match="no energy counter of the device mps is read"):
        open_counter(torch.device("mps"))


def test_a_gpu_through_the_library(monkeypatch, powercap):
    class Gpus:
        def __init__(self, new=True):
            self.new = new

        def supports_get_total_energy_consumption(self, index):
            return self.new

        def get_name(self, index):
            return "Fake H100"

        def get_total_energy_consumption(self, index):
            return 1234 * (index + 1)  # mJ

    monkeypatch.setattr("zeus.device.gpu._gpus", Gpus())
    counter = open_counter(torch.device("cuda:1"))
    assert counter.devices == ("GPU 1 (Fake H100)",)
    assert counter.host == ("CPU package-0", "DRAM of CPU package-0")
    assert counter.read().joules["GPU 1 (Fake H100)"] == pytest.approx(2.468)
    monkeypatch.setattr(powercap.rapl, "rapl_is_available", lambda: False)
    counter = open_counter(torch.device("cuda:0"))
    assert counter.host == () and "this system shows none" in counter.no_host
    monkeypatch.setattr("zeus.device.gpu._gpus", Gpus(new=False))
    with pytest.raises(NoCounter, match="of the GPU can be read: it is older than Volta"):
        open_counter(torch.device("cuda:0"))


def test_no_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "zeus", None)
    monkeypatch.setitem(sys.modules, "zeus.device", None)
    with pytest.raises(NoCounter, match=r"not installed: pip install 'resprout\[energy\]'"):
        open_counter(torch.device("cpu"))
    model = build(configuration("llama-nano", vocab_size=64), seed=0)
    figures = measure_energy({"a": model}, SPEED, OPTIONS)["a"].figures
    assert all("zeus" in figure.reason for figure in figures.values())


def test_energy_does_not_depend_on_the_length_of_a_reading():
    for seconds in (0.5, 1.3):
        counter = FakeCounter()
        options = EnergyOptions(idle_seconds=1, reading_seconds=seconds)
        speed = dataclasses.replace(SPEED, batches=(1,), repeats=2)
        figures = measure_energy({"a": working(counter)}, speed, options, counter)["a"].figures
        assert figures["batch1/prompt6/new5/joules_per_token"].value == pytest.approx(3.0)
