"""Hard-concrete gates: their formulas, what a price on open heads does, and a kill in between."""

import copy
import math

import pytest
import torch

import resprout
from families import kept, logits, same_bits, some_ids, subject
from resprout.models import agency
from resprout.models.modeling_head_agency import HIGHEST, LOWEST, TEMPERATURE
from resprout.train.gates import GateLoss, check_gates, learning_gates
from resprout.train.recovery import recover
from resprout.train.window_trainer import WindowTrainer

TOKENS = some_ids(7, 1, 2000)[0].numpy()
QUICK = {"window": 16, "batch_windows": 2, "learning_rate": 1e-3}


def gated(name="gpt2"):
    return agency.enable(subject(name), agency.AgencyOptions(states=False))


def draws(opening, count=200_000):
    """Gates by the paper's own words: s = sigmoid((log u - log(1 - u) + log alpha) / beta), ..."""
    u = torch.rand(count, generator=torch.Generator().manual_seed(0)).double()
    s = ((u.log() - (1 - u).log() + opening) / (2 / 3)).sigmoid()
    return (s * 1.2 - 0.1).clamp(0, 1)


@pytest.mark.parametrize("opening", [-3.0, -0.5, 0.0, 1.0, 3.0])
def test_drawn_gates_and_their_price(opening):
    """Frequencies of the drawn gates, against the formulas."""
    model = gated().train()
    with learning_gates(model, penalty=0.3) as loss:
        heads = agency.heads_of(model)[0]
        heads.opening.data.fill_(opening)
        found = torch.stack([heads.gate_values().detach() for _ in range(3000)]).flatten().double()
        truth = draws(opening)
        for part in (lambda g: g, lambda g: g > 0, lambda g: g == 1):
            expected = float(part(truth).double().mean())
            assert float(part(found).double().mean()) == pytest.approx(expected, abs=0.02)
        for other in agency.heads_of(model):
            other.opening.data.fill_(opening)
        share = float((truth > 0).double().mean())
        assert float(loss.open_share().detach()) == pytest.approx(share, abs=0.005)
        model.eval()
        fixed = min(1, max(0, 1.2 / (1 + math.exp(-opening)) - 0.1))
        assert heads.gate_values().tolist() == pytest.approx([fixed] * 4)
        assert heads.gate_values().tolist() == heads.gate_values().tolist()
    assert (TEMPERATURE, LOWEST, HIGHEST) == (2 / 3, -0.1, 1.1)


def test_gates_begin_where_they_are():
    model = gated()
    agency.set_gates(model, 0, [0.0, 0.3, 0.8, 1.0])
    before = logits(model)
    with learning_gates(model, 0.1):
        torch.testing.assert_close(logits(model), before, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        agency.heads_of(model)[0].gates.detach(), torch.tensor([0.0, 0.3, 0.8, 1.0])
    )
    report = agency.agency_report(model)
    assert report.layers[0].states == ["withdrawn", "active", "active", "active"]


def test_the_loss_is_the_plain_one_and_the_price():
    model = gated()
    ids = some_ids()
    with learning_gates(model, 0.7) as loss:
        found = loss(model, ids[:, :-1], ids[:, 1:])
        plain = torch.nn.functional.cross_entropy(
            model(ids[:, :-1]).logits.flatten(0, 1), ids[:, 1:].flatten()
        )
        torch.testing.assert_close(found, plain + 0.7 * loss.open_share())
        assert 0.98 < float(loss.open_share().detach()) < 1


def open_heads(model):
    return sum(gate > 0 for layer in agency.agency_report(model).layers for gate in layer.gates)


def test_heads_withdraw_by_themselves_and_go_first():
    closed = {}
    for penalty in (0.0, 3.0):
        model = gated()
        recover(
            model, None, TOKENS, 40, gate_penalty=penalty, gate_learning_rate=0.3, **QUICK
        )  # fmt: skip
        closed[penalty] = 12 - open_heads(model)
    assert closed[3.0] > closed[0.0]
    report = agency.agency_report(model)
    for layer in report.layers:
        assert [gate == 0 for gate in layer.gates] == [s == "withdrawn" for s in layer.states]
    assert all(h.opening is None and h.gates.requires_grad for h in agency.heads_of(model))
    assert not any("opening" in name for name in model.state_dict())
    before = logits(model)
    least = min(sum(s == "withdrawn" for s in layer.states) for layer in report.layers)
    assert least >= 1
    cut = resprout.prune(model, "heads-gate", least / 4, scope="per_layer", cut="remove")
    for layer, stays in zip(report.layers, kept(cut), strict=True):
        gone = set(range(4)) - set(stays)
        assert all(layer.states[head] == "withdrawn" for head in gone)
    torch.testing.assert_close(logits(model), before, rtol=1e-4, atol=1e-4)


def test_gates_have_their_own_learning_rate(monkeypatch):
    seen = []
    create = WindowTrainer.create_optimizer

    def look(self, *args, **kwargs):
        seen.append(create(self, *args, **kwargs))
        return seen[-1]

    monkeypatch.setattr(WindowTrainer, "create_optimizer", look)
    model = gated()
    recover(model, None, TOKENS, 2, gate_penalty=0.1, gate_learning_rate=0.2, **QUICK)
    own = seen[0].param_groups[-1]
    assert own["initial_lr"] == 0.2
    assert own["weight_decay"] == 0
    assert [tuple(p.shape) for p in own["params"]] == [(4,)] * 3
    ids = [id(p) for group in seen[0].param_groups for p in group["params"]]
    assert len(ids) == len(set(ids))
    for group in seen[0].param_groups[:-1]:
        assert group["initial_lr"] == 1e-3


def test_recovery_after_a_cut_learns_the_gates_that_are_left():
    model = gated("llama")
    cut = resprout.prune(model, "heads-random", 0.5, scope="per_layer", cut="remove")
    recover(model, cut, TOKENS, 3, gate_penalty=0.1, **QUICK)
    assert [len(heads.gates) for heads in agency.heads_of(model)] == [4, 4, 4]
    assert any(gate != 1 for heads in agency.heads_of(model) for gate in heads.gates.tolist())


def test_distillation_and_gates_together():
    model, teacher = gated(), subject("gpt2")
    result = recover(model, None, TOKENS, 3, gate_penalty=0.1, teacher=teacher, **QUICK)
    assert all(math.isfinite(loss) for _, loss in result.losses)


@pytest.mark.parametrize("states", [False, True])
def test_resumed_is_uninterrupted(states, tmp_path, monkeypatch):
    """Gates, averages, states and weights, to the bit."""
    options = agency.AgencyOptions(states=states, overloaded_above=0.3, recovery_steps=2)
    first = agency.enable(subject("gpt2"), options)
    second = copy.deepcopy(first)
    how = {"gate_penalty": 0.5, "gate_learning_rate": 0.1, **QUICK}
    recover(first, None, TOKENS, 8, **how)

    killed = copy.deepcopy(second)
    step = WindowTrainer.compute_loss

    def dies(self, *args, **kwargs):
        if self.state.global_step == 5:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    work = {"work_folder": tmp_path / "work", "checkpoint_every": 2}
    with monkeypatch.context() as patch:
        patch.setattr(WindowTrainer, "compute_loss", dies)
        with pytest.raises(KeyboardInterrupt):
            recover(killed, None, TOKENS, 8, **how, **work)
    assert all(h.opening is None and h.gates.requires_grad for h in agency.heads_of(killed))
    torch.testing.assert_close(
        [h.gates.detach() for h in agency.heads_of(killed)], [torch.ones(4)] * 3
    )
    recover(second, None, TOKENS, 8, **how, **work)
    assert same_bits(first, second)
    assert agency.agency_report(first) == agency.agency_report(second)
    assert agency.agency_report(first).step == 8


@pytest.mark.parametrize(("how", "words"), [
    ({"penalty": -0.1}, "gate_penalty: got -0.1, allowed is a number 0 or more"),
    ({"penalty": float("nan")}, "gate_penalty: got nan"),
    ({"penalty": "x"}, "gate_penalty: got 'x'"),
    ({"penalty": True}, "gate_penalty: got True"),
    ({"penalty": 1, "learning_rate": 0}, "gate_learning_rate: got 0, allowed is a number above 0"),
    ({"penalty": 1, "learning_rate": math.inf}, "gate_learning_rate: got inf"),
])  # fmt: skip
def test_refused(how, words):
    model = gated()
    with pytest.raises(ValueError, match=words), learning_gates(model, **how):
        pass
    more = {f"gate_{name}": value for name, value in how.items()}
    with pytest.raises(ValueError, match=words):
        recover(model, None, TOKENS, 2, **more, **QUICK)


def test_refused_models():
    with pytest.raises(ValueError, match="has no agency"):
        recover(subject("gpt2"), None, TOKENS, 2, gate_penalty=0.1, **QUICK)
    model = gated()
    with learning_gates(model, 0.1):
        with pytest.raises(ValueError, match="its gates are being learned already"):
            check_gates(model, 0.1, 0.1)
        with pytest.raises(ValueError, match="sharding: got fsdp"):
            GateLoss(model, 0.1, 0.1).check(sharded=True)
