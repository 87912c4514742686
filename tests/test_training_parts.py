"""The trainer's parts: speed figures, held-out windows, order of data, curves."""

import json

import numpy as np
import pytest
import torch

from resprout.data import windows
from resprout.measure.loss import window_losses
from resprout.models.cost import count_cost
from resprout.models.description import skeleton
from resprout.models.sizes import build, configuration
from resprout.report.training import read_training, training_curves
from resprout.train import throughput
from resprout.train.checkpoints import last_complete, mark_complete, read_weights, write_weights
from resprout.train.throughput import Meter, Peak, peak_of
from resprout.train.validation import Validation


@pytest.fixture
def clock(monkeypatch):
    """Time that stands still until it is moved."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(throughput.time, "perf_counter", lambda: Clock.now)
    return Clock


def test_the_meter_leaves_pauses_out(clock):
    meter = Meter(1000, 2e6, Peak(1e9, "made up"))
    meter.start(10)
    clock.now += 7
    meter.pause(2)
    figures = meter.look(15, 115)
    assert figures["tokens_per_second"] == pytest.approx(5 * 1000 / 5)
    assert figures["seconds_left"] == pytest.approx(100)
    assert figures["mfu"] == pytest.approx(1000 * 2e6 / 1e9)
    assert meter.look(15, 115) == {}
    clock.now += 1
    assert meter.look(16, 115)["tokens_per_second"] == pytest.approx(1000)


def test_an_unknown_model_or_device_has_no_mfu(clock):
    meter = Meter(10, None, None)
    meter.start(0)
    clock.now += 1
    assert set(meter.look(1, 2)) == {"tokens_per_second", "seconds_left"}


def test_operations_per_token_are_the_formulas():
    """A GPT-NeoX by hand: products of six layers and the head, and attention's two squares."""
    D, F, L, V, T = 96, 476, 6, 4096, 64
    per_layer = D * 3 * D + D * D + 2 * D * F
    expected = 2 * (L * (per_layer + 2 * T * D) + D * V)
    counted = count_cost(skeleton(configuration("gpt-neox-nano")), T)
    assert counted.flops_per_token == pytest.approx(expected, rel=1e-4)  # and the rotations


def test_a_cpu_is_measured_and_a_known_gpu_looked_up(monkeypatch):
    peak = peak_of(torch.device("cpu"), "fp32")
    assert 1e8 < peak.flops_per_second < 1e15
    assert "measured" in peak.source
    for name, expected in (("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12),
                           ("NVIDIA A100-SXM4-40GB", 312e12), ("NVIDIA L40S", 362e12),
                           ("NVIDIA L4", 121e12)):  # fmt: skip
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        assert peak_of(torch.device("cuda"), "bf16").flops_per_second == expected
    assert peak.times(4).flops_per_second == 4 * peak.flops_per_second


def test_validation_is_the_loss_measure_on_fixed_windows(tokens):
    model = build(configuration("gpt-neox-nano", vocab_size=300), seed=0)
    whole = window_losses(model, tokens.val, 16)
    figures = Validation(tokens.val, 16).figures(model)
    assert figures["eval_loss"] == pytest.approx(whole.nats.sum() / whole.tokens.sum())
    assert figures["eval_bits_per_byte"] == pytest.approx(whole.summary(0)["bits_per_byte"])
    part = Validation(tokens.val, 16, tokens=100)
    every = Validation(tokens.val, 16).windows
    assert len(part.windows) == 7  # as many as hold 100 tokens
    assert part.windows == Validation(tokens.val, 16, tokens=100).windows
    assert set(part.windows) <= set(every)
    chosen = [every.index(window) for window in part.windows]
    nats, counts = whole.nats[chosen], whole.tokens[chosen]
    assert part.figures(model)["eval_loss"] == pytest.approx(nats.sum() / counts.sum())
    assert Validation(tokens.val, 16, tokens=10**9).windows == every


def test_random_order_draws_anywhere_and_reproducibly():
    starts = windows.training_starts(1000, 10, 20000, seed=3, order="random")
    assert starts.min() == 0
    assert starts.max() == 989  # the last window whose targets are all there
    assert len(np.unique(starts)) == 990
    assert np.array_equal(starts, windows.training_starts(1000, 10, 20000, 3, "random"))
    assert np.array_equal(starts[:50], windows.training_starts(1000, 10, 50, 3, "random"))


@pytest.mark.parametrize("damage", ["flipped", "short", "missing", "marker"])
def test_damaged_checkpoints_are_set_aside(tmp_path, damage):
    for step in (1, 2):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "optimizer.pt").write_bytes(bytes(range(256)))
        mark_complete(folder)
    file = tmp_path / "checkpoint-2" / "optimizer.pt"
    if damage == "flipped":
        file.write_bytes(b"\1" + bytes(range(1, 256)))
    elif damage == "short":
        file.write_bytes(bytes(range(255)))
    elif damage == "missing":
        file.unlink()
    else:
        (tmp_path / "checkpoint-2" / "complete.json").write_text("{")
    (tmp_path / "checkpoint-3").mkdir()  # being written when the run died
    noticed = []
    assert last_complete(tmp_path, noticed.append) == tmp_path / "checkpoint-1"
    assert len(noticed) == 1
    assert "checkpoint-2.corrupt-1" in noticed[0]
    assert not (tmp_path / "checkpoint-3").exists()
    assert last_complete(tmp_path / "nowhere") is None


def test_tied_weights_are_written_once_and_read_back(tmp_path):
    config = configuration("gpt2-nano", vocab_size=64, tie_word_embeddings=True)
    model, other = build(config, seed=0), build(config, seed=1)
    write_weights(model.state_dict(), tmp_path / "w.safetensors")
    assert (tmp_path / "w.safetensors").stat().st_size < 4.1 * sum(
        p.numel() for p in model.parameters()
    )
    read_weights(other, tmp_path / "w.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(
        model.state_dict().values(), other.state_dict().values(), strict=True
    ))  # fmt: skip
    small = build(configuration("gpt-neox-nano", vocab_size=64), seed=0)
    with pytest.raises(ValueError, match="does not fit the model"):
        read_weights(small, tmp_path / "w.safetensors")


def test_curves_show_what_is_in_the_files(tmp_path):
    values = {"finished": True, "name": "a", "tokens_per_step": 500_000,
              "losses": [[1, 5.0], [2, 4.0]], "validation": [[2, 4.5]]}  # fmt: skip
    for name, changes in (("one", {}), ("two", {"finished": False})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "training.json").write_text(json.dumps(values | changes))
    runs = [read_training(tmp_path / name) for name in ("one", "two")]
    _, axes = training_curves(runs)
    lines = axes.get_lines()
    assert lines[0].get_xdata().tolist() == [0.5, 1.0]
    assert lines[1].get_ydata().tolist() == [4.5]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[0].startswith("a:")
    assert labels[1].startswith("a (so far):")
    (tmp_path / "one" / "training.json").write_text('{"finished": true}')
    with pytest.raises(ValueError, match=r"training\.json: name"):
        read_training(tmp_path / "one")
    with pytest.raises(ValueError, match=r"has no training\.json"):
        read_training(tmp_path)
