"""Gradual cuts: the published schedule, cuts that grow and hold, kills, several processes."""

import os
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import resprout
from resprout.data.tokens import TokenSet
from resprout.pruning.cut import Cut
from resprout.train.gradual import GradualCut, GradualMasks
from resprout.train.masks import MASKS
from resprout.train.options import TrainingOptions
from resprout.train.running import Running
from resprout.train.schedules import SCHEDULES, amount_at
from resprout.train.trainer import train
from test_recovery import (
    CPU,
    At,
    in_two_processes,
    prune_by_sorting,
    same,
    small,
    state,
    stop_at,
    zero_to_the_bit,
)  # fmt: skip

OPTIONS = TrainingOptions(steps=8, batch_windows=2, learning_rate=1e-3, warmup_steps=2)

SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("one-shot", [0.9, 0.9, 0.9, 0.9, 0.9, 0.9]),
        ("linear", [0.1, 0.3, 0.5, 0.7, 0.9, 0.9]),
        # 0.9 - 0.8 * (1, 27/64, 1/8, 1/64, 0): equation 1 by hand.
        ("cubic", [0.1, 0.5625, 0.8, 0.8875, 0.9, 0.9]),
    ],
)
def test_schedules_by_hand(schedule, expected):
    steps = [0, 25, 50, 75, 100, 150]
    got = [amount_at(schedule, 0.1, 0.9, step, 100) for step in steps]
    assert got == pytest.approx(expected, abs=1e-12)
    assert got[-2] == 0.9


@given(
    schedule=st.sampled_from(SCHEDULES),
    amounts=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    steps=st.integers(1, 1000),
    step=st.integers(0, 1000),
)
def test_amounts_only_grow_and_end_exactly(schedule, amounts, steps, step):
    start, final = sorted(amounts)
    here = amount_at(schedule, start, final, step, steps)
    assert start - 1e-12 <= here <= final + 1e-12
    assert here <= amount_at(schedule, start, final, step + 1, steps) + 1e-12
    assert amount_at(schedule, start, final, steps, steps) == final


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("square", 0, 0.5, 1, 2), "schedule: got 'square', allowed are one-shot, linear, cubic"),
        (("linear", 0, 1.5, 1, 2), "amount: got 1.5"),
        (("linear", -0.1, 0.5, 1, 2), "amount: got -0.1"),
        (("linear", 0.6, 0.5, 1, 2), "allowed is at least the 0.6 cut before"),
        (("linear", 0, 0.5, -1, 2), "step: got -1"),
        (("linear", 0, 0.5, 1, 0), "steps: got 0"),
        (("linear", 0, 0.5, True, 2), "step: got True"),
    ],
)
def test_schedules_refuse_nonsense(arguments, message):
    with pytest.raises(ValueError, match=message):
        amount_at(*arguments)


class Sorted:
    """`cut_at` by sorting, without looking at earlier masks: what was cut is smallest anyhow."""

    def __init__(self, model):
        self.model, self.asked = model, []

    def __call__(self, amount, masks):
        self.asked.append(amount)
        self.model.eval()
        return prune_by_sorting(self.model, "magnitude", amount).masks


def grow(model, tokens, work, gradual, callbacks=(), **changes):
    running = Running(callbacks=callbacks)
    options = OPTIONS.model_copy(update=changes)
    train(model, tokens.train.tokens, 16, options, 0, work, CPU, masks=gradual, running=running)
    return state(model)


def fraction_cut(masks):
    return sum(int((~m).sum()) for m in masks.values()) / sum(m.numel() for m in masks.values())


def test_a_ramp_cuts_and_holds(tokens, tmp_path):
    model = small()
    cut_at = Sorted(model)
    gradual = GradualMasks(cut_at, "cubic", 0.8, ramp_steps=5, every=2)
    held = []

    def watch(step, model):
        assert zero_to_the_bit(state(model), gradual.masks)
        assert model.training
        held.append(gradual.masks)

    after = grow(model, tokens, tmp_path / "work", gradual, callbacks=(At(watch),))
    assert cut_at.asked == pytest.approx([0.8 - 0.8 * (1 - t / 5) ** 3 for t in (2, 4, 5)])
    assert cut_at.asked[-1] == 0.8
    cut = [fraction_cut(masks) if masks else 0 for masks in held]
    expected = [0, *cut_at.asked[:1] * 2, *cut_at.asked[1:], 0.8, 0.8, 0.8]
    assert cut == pytest.approx(expected, abs=1e-4)
    for earlier, later in pairwise(held):
        assert not any(bool((later[name] & ~earlier[name]).any()) for name in earlier)
    assert zero_to_the_bit(after, gradual.masks)


def test_one_shot_is_a_cut_before_the_first_step(tokens, tmp_path):
    models = small(), small()
    one = grow(models[0], tokens, tmp_path / "a", GradualMasks(Sorted(models[0]), "one-shot", 0.5))
    cut = prune_by_sorting(models[1], "magnitude", 0.5)
    assert same(one, grow(models[1], tokens, tmp_path / "b", cut.masks))


def test_a_ramp_from_an_earlier_cut(tokens, tmp_path):
    model = small()
    cut = prune_by_sorting(model, "magnitude", 0.4)
    cut_at = Sorted(model)
    gradual = GradualMasks(cut_at, "linear", 0.8, 4, 2, start=0.4, masks=cut.masks)
    held = []
    watch = At(lambda step, m: held.append(zero_to_the_bit(state(m), cut.masks)))
    grow(model, tokens, tmp_path / "work", gradual, callbacks=(watch,))
    assert held == [True] * 8
    assert cut_at.asked == pytest.approx([0.6, 0.8])


def test_what_was_cut_does_not_come_back(tokens, tmp_path):
    model = small()
    turn = []

    def random(amount, masks):
        turn.append(amount)
        generator = torch.Generator().manual_seed(len(turn))
        return {n: torch.rand(p.shape, generator=generator) >= amount
                for n, p in model.named_parameters() if p.ndim == 2}  # fmt: skip

    with pytest.raises(ValueError, match=r"cut_at: at amount 0\.\d+ \d+ weights of .* are back"):
        grow(model, tokens, tmp_path / "work", GradualMasks(random, "linear", 0.5, 4, 1))


# Before, within (twice) and after the ramp.
@pytest.mark.parametrize(
    "stop",
    [pytest.param(1, marks=SLOW), 3, pytest.param(5, marks=SLOW), pytest.param(7, marks=SLOW)],
)
def test_resumed_equals_uninterrupted_to_the_bit(tokens, tmp_path, stop):
    def gradual(model):
        return GradualMasks(Sorted(model), "cubic", 0.7, ramp_steps=5, every=2)

    model = small()
    expected = gradual(model)
    whole = grow(model, tokens, tmp_path / "whole", expected, checkpoint_every=1)
    killed = small()
    with pytest.raises(KeyboardInterrupt):
        grow(killed, tokens, tmp_path / "cut", gradual(killed), (At(stop_at(stop + 1)),),
             checkpoint_every=1)  # fmt: skip
    marker = (tmp_path / "cut" / f"checkpoint-{stop}" / "complete.json").read_text()
    assert MASKS in marker
    model = small()
    again = gradual(model)
    assert same(whole, grow(model, tokens, tmp_path / "cut", again, checkpoint_every=1))
    assert same(expected.masks, again.masks)
    assert again.cut_at.asked == expected.cut_at.asked[-len(again.cut_at.asked) or 3 :]


@pytest.mark.slow
@pytest.mark.parametrize("stop", [1, 3, 7])
def test_recover_returns_the_cut_that_is_held(tokens, tmp_path, monkeypatch, stop):
    def recovered(folder):
        model = small()
        result = resprout.recover(
            model, None, tokens, 8, window=16, batch_windows=2, schedule="linear", amount=0.6,
            recut=lambda m, amount, before: prune_by_sorting(m, "magnitude", amount,
                                                             previous=before),
            every=2, work_folder=folder, checkpoint_every=1,
        )  # fmt: skip
        assert zero_to_the_bit(state(model), result.cut.masks)
        return state(model), result.cut

    whole, cut = recovered(tmp_path / "whole")
    assert cut.achieved == pytest.approx(0.6, abs=1e-4)
    own = GradualCut.on_step_end
    with monkeypatch.context() as patched:

        def until(self, args, state, control, **kwargs):
            stop_at(stop + 1)(state.global_step, None)
            own(self, args, state, control, **kwargs)

        patched.setattr(GradualCut, "on_step_end", until)
        with pytest.raises(KeyboardInterrupt):
            recovered(tmp_path / "cut")
    resumed, again = recovered(tmp_path / "cut")
    assert same(whole, resumed)
    assert isinstance(again, Cut)
    assert again.requested == 0.6
    assert same(again.masks, cut.masks)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ramp_steps": 9}, "ramp_steps: got 9, allowed is at most the 8 steps"),
        ({"ramp_steps": 4, "every": 5}, "every: got 5, allowed is at most the 4 of the ramp"),
        ({"ramp_steps": 2.5}, "ramp_steps: got 2.5"),
        ({"every": 0}, "every: got 0"),
        ({"start": 0.9}, "amount: got 0.5, allowed is at least the 0.9"),
    ],
)
def test_ramps_refuse_nonsense(tokens, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        grow(small(), tokens, tmp_path / "w", GradualMasks(print, "linear", 0.5, **changes))


def test_a_ramp_is_refused_where_no_process_has_all_weights():
    with pytest.raises(ValueError, match="allowed is sharding ddp"):
        GradualMasks(print, "linear", 0.5).check(small(), 8, sharded=True)


@pytest.mark.slow
def test_two_processes_cut_alike(tokens, tmp_path):
    in_two_processes(__file__, tokens.path, tmp_path)
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert same(*(one["masks"] for one in found))
    assert same(*(one["weights"] for one in found))
    assert fraction_cut(found[0]["masks"]) == pytest.approx(0.7, abs=1e-4)
    assert zero_to_the_bit(found[0]["weights"], found[0]["masks"])
    assert all(one["told"] == "cut_at: the processes' masks differ at amount 0.7" for one in found)


if __name__ == "__main__":  # one of the two processes above
    opened, out, rank = TokenSet.open(Path(sys.argv[1])), Path(sys.argv[2]), os.environ["RANK"]
    found = small()
    ramp = GradualMasks(Sorted(found), "cubic", 0.7, ramp_steps=3, every=2)
    weights = grow(found, opened, out / "two", ramp, steps=4, batch_windows=1)
    told = "nothing"
    other = small()

    def differing(amount, masks):
        return {"gpt_neox.final_layer_norm.bias": torch.arange(96) != int(rank)}

    try:
        grow(other, opened, out / "bad", GradualMasks(differing, "one-shot", 0.7), steps=2)
    except RuntimeError as error:
        told = str(error)
    torch.save({"weights": weights, "masks": ramp.masks, "told": told}, out / f"{rank}.pt")
