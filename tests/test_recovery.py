"""Recovery: masks through every way of training, a teacher, work that goes on, cycles."""

import copy
import math
import os
import subprocess
import sys
from functools import wraps
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

import resprout
from resprout.data.tokens import TokenSet
from resprout.models.loss import logits_loss
from resprout.models.sizes import build, configuration
from resprout.pruning.cut import Cut
from resprout.train import cycles as cycles_module
from resprout.train.cycles import prune_and_recover
from resprout.train.distillation import DistillationLoss
from resprout.train.masks import HoldMasks, read_masks, write_masks
from resprout.train.options import TrainingOptions
from resprout.train.running import Running
from resprout.train.trainer import train

CPU = torch.device("cpu")
OPTIONS = TrainingOptions(steps=4, batch_windows=2, learning_rate=1e-3, warmup_steps=2)


def small(name="gpt-neox-nano", seed=0):
    return build(configuration(name, vocab_size=300), seed=seed)


def state(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def zero_to_the_bit(weights, masks):
    return all(bool((weights[n][~m].view(torch.int32) == 0).all()) for n, m in masks.items())


class At(TrainerCallback):
    """Does something at the end of each step."""

    def __init__(self, do):
        self.do = do

    def on_step_end(self, args, state, control, **kwargs):
        self.do(state.global_step, kwargs["model"])


def stop_at(stop):
    def do(step, model):
        if step == stop:
            raise KeyboardInterrupt

    return do


def cut_with_a_dead_neuron():
    model = small("biogpt-nano")
    with torch.no_grad():
        for parameter in model.model.layers[0].neurons[0].parameters():
            parameter.mul_(1e-4)
        model.model.layers[0].neuron_projs[0].weight.mul_(1e-4)
    cut = resprout.prune(model, "magnitude", 0.5, dead_threshold=0.95)
    assert cut.dead_units == ["layer 0 neuron 0"]
    return model, cut


def whole(parameter):
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter


def train_cut(tokens, work, batch_windows, sharding="ddp", options=OPTIONS, callbacks=()):
    """A cut model with a dead neuron after training: its weights; zeros were checked each step."""
    model, cut = cut_with_a_dead_neuron()
    seen = []

    def watch(step, model):
        weights = {name: whole(p).detach() for name, p in model.named_parameters()}
        seen.append(zero_to_the_bit(weights, cut.masks))

    options = options.model_copy(update={"batch_windows": batch_windows})
    running = Running(sharding=sharding, callbacks=(At(watch), *callbacks))
    result = train(
        model, tokens.train.tokens, 16, options, 0, work, CPU, masks=cut.masks, running=running
    )
    weights = result.state or model.state_dict()
    assert all(seen)
    assert len(seen) == options.steps or callbacks
    return {name: tensor.detach().clone() for name, tensor in weights.items()}, cut


def in_two_processes(script, *arguments):
    """Run a test file's main part in two gloo processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
    launcher += ["--master_port=0", "--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0"]
    done = subprocess.run(
        [*launcher, str(script), *map(str, arguments)],
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_two_processes_hold_what_one_holds(tokens, tmp_path, sharding):
    one, cut = train_cut(tokens, tmp_path / "one", 2)
    in_two_processes(__file__, sharding, tokens.path, tmp_path)
    two = load_file(tmp_path / "two.safetensors")
    assert zero_to_the_bit(two, cut.masks)
    assert two.keys() == one.keys()
    for name in one:
        assert torch.allclose(one[name], two[name], rtol=0, atol=1e-5), name


def test_zeros_hold_through_a_kill(tokens, tmp_path):
    options = OPTIONS.model_copy(update={"checkpoint_every": 1})
    whole, cut = train_cut(tokens, tmp_path / "whole", 2, options=options)
    with pytest.raises(KeyboardInterrupt):
        train_cut(tokens, tmp_path / "cut", 2, options=options, callbacks=(At(stop_at(3)),))
    resumed, _ = train_cut(tokens, tmp_path / "cut", 2, options=options, callbacks=(At(print),))
    assert same(whole, resumed)
    assert zero_to_the_bit(resumed, cut.masks)


def test_minus_zero_and_nan_do_not_survive():
    model = torch.nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-0.0, math.nan, -3.0]]))
    holder = HoldMasks({"weight": torch.tensor([[False, False, True]])})
    holder.on_train_begin(None, None, None, model=model)
    assert model.weight.detach().view(torch.int32).tolist()[0][:2] == [0, 0]
    assert model.weight[0, 2] == -3
    with torch.no_grad():
        model.weight.fill_(-math.inf)
    holder.on_optimizer_step(None, None, None)
    assert model.weight.tolist() == [[0, 0, -math.inf]]


def test_masks_on_disk_are_one_bit_per_weight(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(13, 7), torch.nn.Linear(7, 2))
    masks = {name: torch.rand_like(p) < 0.5 for name, p in model.named_parameters()}
    write_masks(masks, tmp_path / "masks.safetensors")
    assert same(masks, read_masks(model, tmp_path / "masks.safetensors"))
    assert load_file(tmp_path / "masks.safetensors")["0.weight"].numel() == 12  # 91 bits
    with pytest.raises(ValueError, match="does not fit Linear"):
        read_masks(torch.nn.Linear(13, 7), tmp_path / "masks.safetensors")
    with pytest.raises(ValueError, match="has no nothing"):
        read_masks(model, tmp_path / "nothing")


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"nowhere": torch.ones(1, dtype=torch.bool)}, "'nowhere' is not a parameter"),
        ({"gpt_neox.final_layer_norm.bias": torch.ones(3, dtype=torch.bool)}, r"has shape \(3,\)"),
        ({"gpt_neox.final_layer_norm.bias": torch.ones(96)}, r"allowed is torch\.bool"),
    ],
)
def test_masks_that_do_not_fit_are_refused_before_training(tokens, tmp_path, masks, message):
    with pytest.raises(ValueError, match=message):
        train(small(), tokens.train.tokens, 16, OPTIONS, 0, tmp_path / "work", CPU, masks=masks)
    assert not (tmp_path / "work").exists()


def test_distillation_is_the_formula():
    student, teacher = small().eval(), small(seed=1).train()
    ids, targets = torch.randint(300, (2, 8)), torch.randint(300, (2, 8))
    loss = DistillationLoss(teacher, temperature=3.0, weight=0.7)
    assert not teacher.training
    with torch.no_grad():
        got = loss(student, ids, targets)
        z, t = student(input_ids=ids).logits.double(), teacher(input_ids=ids).logits.double()
    p, q = (torch.exp(x / 3) / torch.exp(x / 3).sum(-1, keepdim=True) for x in (t, z))
    divergence = (p * (p / q).log()).sum(-1).mean()
    torch.testing.assert_close(
        divergence, F.kl_div(q.log(), p, reduction="none").sum(-1).mean(), rtol=1e-9, atol=0
    )
    plain = -torch.log_softmax(z, -1).gather(-1, targets[..., None]).mean()
    expected = 0.7 * 9 * divergence + 0.3 * plain
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-6)


def test_distillation_without_weight_is_the_plain_loss():
    student, teacher = small(), small(seed=1)
    ids, targets = torch.randint(300, (2, 8)), torch.randint(300, (2, 8))
    assert torch.equal(
        DistillationLoss(teacher, weight=0)(student, ids, targets),
        logits_loss(student, ids, targets),
    )


def test_the_gradient_goes_to_the_student_only():
    student, teacher = small(), small(seed=1)
    before = state(teacher)
    ids = torch.randint(300, (2, 8))
    DistillationLoss(teacher, weight=1)(student, ids, ids).backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert any(parameter.grad is not None for parameter in student.parameters())
    assert same(before, state(teacher))
    student.zero_grad()
    DistillationLoss(copy.deepcopy(student), weight=1)(student, ids, ids).backward()
    assert all(p.grad is None or p.grad.abs().max() < 1e-5 for p in student.parameters())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_student_comes_nearer_to_its_teacher(tokens, precision):
    model, teacher = small(), small(seed=1)
    before = state(teacher)
    cut = resprout.prune(model, "magnitude", 0.5)
    held_out = torch.from_numpy(tokens.val.tokens[:65].astype("int64"))[None]
    distance = DistillationLoss(teacher, weight=1)
    with torch.no_grad():
        first = distance(model, held_out[:, :-1], held_out[:, 1:])
    result = resprout.recover(
        model, cut, tokens, 30, window=16, learning_rate=3e-3, teacher=teacher,
        distillation_weight=1.0, precision=precision,
    )  # fmt: skip
    with torch.no_grad():
        last = distance(model, held_out[:, :-1], held_out[:, 1:])
    assert last < first / 2
    assert result.losses[-1][1] < result.losses[0][1] / 2  # what is logged is this loss
    assert result.cut is cut
    assert same(before, state(teacher))
    assert zero_to_the_bit(state(model), cut.masks)


def test_a_loss_of_ones_own_is_checked_too(tokens, tmp_path):
    def broken(model, inputs, targets):
        return logits_loss(model, inputs, targets) * math.inf

    with pytest.raises(FloatingPointError, match="step 1"):
        train(small(), tokens.train.tokens, 16, OPTIONS, 0, tmp_path / "work", CPU,
              loss_function=broken)  # fmt: skip


def test_recovery_goes_on_where_it_was_killed(tokens, tmp_path, monkeypatch):
    def recovered(folder, **changes):
        model = small()
        cut = resprout.prune(model, "magnitude", 0.5)
        options = {"window": 16, "learning_rate": 1e-3, "checkpoint_every": 2} | changes
        resprout.recover(model, cut, tokens, 6, work_folder=folder, **options)
        return state(model)

    whole = recovered(tmp_path / "whole")
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "thesis.tex").write_text("years of work")
    with monkeypatch.context() as patched:
        patched.setattr(HoldMasks, "on_step_end", lambda self, args, state, control, **kwargs: (
            stop_at(5)(state.global_step, None)))  # fmt: skip
        with pytest.raises(KeyboardInterrupt):
            recovered(tmp_path / "cut")
    assert (tmp_path / "cut" / "recovery" / "checkpoint-4").is_dir()
    with pytest.raises(ValueError, match=r"of another request \(window differs\)"):
        recovered(tmp_path / "cut", window=8)
    steps = []
    monkeypatch.setattr(HoldMasks, "on_step_end", lambda self, args, state, control, **kwargs: (
        steps.append(state.global_step)))  # fmt: skip
    assert same(whole, recovered(tmp_path / "cut"))
    assert steps == [5, 6]
    left = sorted(path.name for path in (tmp_path / "cut").iterdir() if path.name != ".lock")
    assert left == ["thesis.tex"]
    (tmp_path / "cut" / "recovery").mkdir()
    with pytest.raises(ValueError, match="not by us"):
        recovered(tmp_path / "cut")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed: got -1"),
        ({"precision": "fp16"}, "precision: got 'fp16', allowed are auto, bf16, fp32"),
        ({"checkpoint_every": 2}, "checkpoint_every: needs a work_folder"),
        ({"checkpoint_every": 0, "work_folder": "w"}, "checkpoint_every: got 0"),
        ({"temperature": 0, "teacher": True}, "temperature: got 0"),
        ({"temperature": math.inf, "teacher": True}, "temperature: got inf"),
        ({"distillation_weight": 1.5, "teacher": True}, "distillation_weight: got 1.5"),
        ({"teacher": "wide"}, "has a vocabulary of 320, allowed is the model's own of 300"),
        ({"teacher": "itself"}, "shares weights with the model"),
        ({"schedule": "cubik"}, "did you mean 'cubic'"),
        ({"schedule": "cubic", "amount": 0.5}, "needs recut too"),
        ({"schedule": "linear", "recut": print}, "needs amount too"),
        ({"amount": 0.5}, "amount: only a schedule linear or cubic has it"),
        ({"schedule": "cubic", "recut": print, "amount": 50}, "did you mean 0.5"),
        ({"schedule": "cubic", "recut": print, "amount": 0.5, "ramp_steps": 9}, "at most the 8"),
        ({"schedule": "cubic", "recut": print, "amount": 0.5, "ramp_steps": 0}, "ramp_steps: got"),
        ({"schedule": "cubic", "recut": print, "amount": 0.5, "every": 7}, "every: got 7, allowed"),
        ({"schedule": "cubic", "recut": print, "amount": 0.5, "every": 1.5}, "every: got 1.5"),
    ],
)
def test_recover_refuses_nonsense_first(tokens, options, message):
    model = small()
    before = state(model)
    teachers = {
        True: small(seed=1),
        "wide": build(configuration("gpt-neox-nano", vocab_size=320), seed=1),
        "itself": model,
    }
    if "teacher" in options:
        options = options | {"teacher": teachers[options["teacher"]]}
    with pytest.raises(ValueError, match=message):
        resprout.recover(model, None, tokens, 8, window=16, **options)
    assert same(before, state(model))


def test_a_teacher_of_another_vocabulary_is_refused_where_heads_cannot_tell():
    wide = build(configuration("gpt-neox-nano", vocab_size=320), seed=1)
    ids = torch.randint(300, (1, 4))
    with pytest.raises(ValueError, match="has a vocabulary of 320"):
        DistillationLoss(wide)(small(), ids, ids)


def prune_by_sorting(model, method, amount, *, previous=None):
    """What `prune` does, plainly: magnitudes of all matrices sorted, what went before first."""
    blocks = {n: p for n, p in model.named_parameters() if "layers." in n and p.ndim == 2}
    scores = torch.cat([p.detach().abs().flatten() for p in blocks.values()])
    if previous is not None:
        scores[~torch.cat([previous.masks[n].flatten() for n in blocks])] = -1
    kept = torch.ones_like(scores, dtype=torch.bool)
    kept[scores.argsort(stable=True)[: round(amount * len(scores))]] = False
    parts = kept.split([p.numel() for p in blocks.values()])
    masks = {n: part.view_as(blocks[n]) for n, part in zip(blocks, parts, strict=True)}
    with torch.no_grad():
        for name, mask in masks.items():
            blocks[name].masked_fill_(~mask, 0)
    return Cut(
        "magnitude", "weight", "fair", amount, masks, list(blocks), prunable_parameters=len(scores)
    )


SMALL = {"window": 16, "batch_windows": 2, "learning_rate": 1e-3}


@pytest.fixture
def calls(monkeypatch):
    """What `prune_and_recover` cut and how long it trained, in order."""
    made = []

    @wraps(resprout.prune)
    def prune(model, method, amount, **options):
        made.append(("prune", amount, options.get("previous") is not None))
        return resprout.prune(model, method, amount, **options)

    @wraps(resprout.recover)
    def recover(model, cut, tokens, steps, **options):
        made.append(("recover", steps, options["seed"]))
        return resprout.recover(model, cut, tokens, steps, **options)

    monkeypatch.setattr(cycles_module, "prune", prune)
    monkeypatch.setattr(cycles_module, "recover", recover)
    return made


def test_one_cycle_is_prune_then_recover(tokens, calls):
    models = small(), small()
    cut = prune_and_recover(models[0], "magnitude", 0.6, tokens, 5, **SMALL)
    by_hand = prune_by_sorting(models[1], "magnitude", 0.6)
    resprout.recover(models[1], by_hand, tokens, 5, **SMALL)
    assert same(state(models[0]), state(models[1]))
    assert same(cut.masks, by_hand.masks)


def test_cycles_cut_more_each_time(tokens, calls):
    model = small()
    cut = prune_and_recover(model, "magnitude", 0.6, tokens, 8, cycles=3, **SMALL)
    assert calls[::2] == [
        ("prune", pytest.approx(0.2), False),
        ("prune", pytest.approx(0.4), True),
        ("prune", 0.6, True),
    ]
    assert [steps for _, steps, _ in calls[1::2]] == [2, 2, 4]
    seeds = [seed for _, _, seed in calls[1::2]]
    assert seeds[0] == 0
    assert len(set(seeds)) == 3
    assert cut.achieved == pytest.approx(0.6, abs=1e-4)
    assert zero_to_the_bit(state(model), cut.masks)


@pytest.mark.slow
def test_cycles_go_on_where_they_were_killed(tokens, tmp_path, calls, monkeypatch):
    def cycled(folder):
        model = small()
        cut = prune_and_recover(
            model, "magnitude", 0.6, tokens, 12, cycles=3, work_folder=folder,
            checkpoint_every=2, prune_options={"seed": 3}, **SMALL,
        )  # fmt: skip
        return state(model), cut

    whole, expected = cycled(tmp_path / "whole")
    plain = small()
    prune_and_recover(plain, "magnitude", 0.6, tokens, 12, cycles=3, **SMALL)
    assert same(whole, state(plain))
    seen = []

    def stop(self, args, state, control, **kwargs):
        seen.append(state.global_step)
        if len(seen) == 7:  # the third step of the second cycle
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(HoldMasks, "on_step_end", stop)
        with pytest.raises(KeyboardInterrupt):
            cycled(tmp_path / "cut")
    with pytest.raises(ValueError, match=r"of another request \(amount differs\)"):
        prune_and_recover(small(), "magnitude", 0.7, tokens, 12, cycles=3, checkpoint_every=2,
                          work_folder=tmp_path / "cut", **SMALL)  # fmt: skip
    calls.clear()
    resumed, cut = cycled(tmp_path / "cut")
    assert [call[0] for call in calls] == ["prune", "recover"] * 2
    assert same(whole, resumed)
    assert same(expected.masks, cut.masks)
    assert [path.name for path in (tmp_path / "cut").iterdir()] == [".lock"]


def test_a_ramp_ends_at_its_amount(tokens, calls):
    model = small()
    cut = prune_and_recover(model, "magnitude", 0.8, tokens, 8, schedule="cubic", every=2, **SMALL)
    expected = [0.8 - 0.8 * (1 - step / 6) ** 3 for step in (2, 4, 6)]
    assert [amount for kind, amount, _ in calls if kind == "prune"] == pytest.approx(expected)
    assert cut.requested == 0.8
    assert cut.achieved == pytest.approx(0.8, abs=1e-4)
    assert zero_to_the_bit(state(model), cut.masks)


def test_a_ramp_with_text_to_score_on(tokens, calls):
    """Units, whose masks reach over several parameters, scored on what the model is by then."""
    model = small("llama-nano")
    ids = torch.from_numpy(tokens.train.tokens[:128].astype("int64")).view(4, 32)
    cut = prune_and_recover(
        model, "glu-activation", 0.5, tokens, 4, schedule="linear", every=1,
        prune_options={"calibration": ids}, **SMALL,
    )  # fmt: skip
    assert [amount for kind, amount, _ in calls if kind == "prune"] == pytest.approx(
        [1 / 6, 1 / 3, 0.5]
    )
    assert cut.achieved == pytest.approx(0.5, abs=0.01)
    assert zero_to_the_bit(state(model), cut.masks)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"cycles": 0}, ValueError, "cycles: got 0"),
        ({"cycles": 2, "schedule": "linear"}, ValueError, "cycles: got 2 with schedule 'linear'"),
        ({"cycles": 9}, ValueError, "steps: got 8, allowed is a whole number from 9"),
        ({"steps": 0, "schedule": "cubic"}, ValueError, "steps: got 0"),
        ({"amount": 40}, ValueError, "did you mean 0.4"),
        ({"method": "magnitud"}, ValueError, "did you mean 'magnitude'"),
        ({"schedule": "cube"}, ValueError, "schedule: got 'cube'"),
        ({"prune_options": {"previous": None}}, ValueError, "prune_options: got 'previous'"),
        ({"prune_options": {"protocol": "unfair"}}, ValueError, "protocol: got 'unfair'"),
        ({"prune_options": {"amuont": 1}}, TypeError, "amuont"),
        ({"method": "2:4", "cycles": 2}, ValueError, "whose amount cannot grow"),
        ({"method": "wanda", "schedule": "cubic"}, ValueError, "calibration: missing"),
        ({"method": "mlp-random", "prune_options": {"cut": "remove"}}, ValueError, "cut: got"),
        ({"learning_rate": 0}, ValueError, "learning_rate: got 0"),
        ({"every": 2}, ValueError, "every: only a schedule"),
        ({"lerning_rate": 1}, TypeError, "lerning_rate"),
    ],
)
def test_cycles_refuse_nonsense_before_the_first_cut(tokens, calls, options, error, message):
    model = small()
    before = state(model)
    arguments = {"method": "magnitude", "amount": 0.5, "tokens": tokens, "steps": 8} | options
    with pytest.raises(error, match=message):
        prune_and_recover(model, **arguments)
    assert same(before, state(model))


if __name__ == "__main__":  # one of the two processes above
    sharding, data, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    found, _ = train_cut(TokenSet.open(data), out / "two", 1, sharding)
    if os.environ["RANK"] == "0":
        save_file({n: t.contiguous() for n, t in found.items()}, out / "two.safetensors")
