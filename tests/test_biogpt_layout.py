"""Layouts of pairs [branches, width]: any cut of branches and neurons is a plain configuration."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, StaticCache

from biogpt_models import MODES, tiny
from reference_biogpt import plain_copy
from resprout.models.biogpt import BioGPTConfig, BioGPTForCausalLM
from resprout.models.biogpt.layout import branch_total, branch_widths, branches_of, entry_of
from resprout.models.biogpt.published import write_published
from resprout.models.biogpt.start_values import SELF_SHARE
from resprout.models.cost import count_cost
from resprout.models.description import layout_lines, skeleton
from resprout.models.memory_plan import plan_memory
from resprout.models.sizes import build

LAYOUT = [[8, [3, 3]], [[5, 4]], [6, [1, 7], [2, 2]]]
SHAPE = {"hidden_size": 24, "num_hidden_layers": 3, "cortical_layout": LAYOUT}
modes = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


def mixed(**changes) -> BioGPTForCausalLM:
    return tiny(**(SHAPE | changes))


class ByHand:
    """Section 1 of the study, branch by branch and position by position, in fp64."""

    def __init__(self, model, layout):
        state = model.state_dict()
        self.state = {n.removeprefix("model."): t.double() for n, t in state.items()}
        self.layout, self.config = layout, model.config

    def norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.state[f"{name}.weight"],
                            self.state[f"{name}.bias"])  # fmt: skip

    def linear(self, x, name):
        return x @ self.state[f"{name}.weight"].T + self.state.get(f"{name}.bias", 0)

    def branch(self, h, name, n, d, i):
        """Branch i of n, each of width d: (T, D) -> (T, d)."""
        p = {key: self.state[f"{name}.{key}"] for key in (
            "qkv.weight", "nmda_decay", "temporal_conv.weight", "temporal_conv.bias",
            "ff_up.weight", "ff_up.bias", "ff_down.weight", "ff_down.bias",
            "branch_norm.weight", "branch_norm.bias",
        )}  # fmt: skip
        W, T, own = n * d, len(h), slice(i * d, (i + 1) * d)
        q, k, v = (h @ p["qkv.weight"][part * W : (part + 1) * W][own].T for part in range(3))
        if self.config.nmda == "trace":
            tau = p["nmda_decay"][0, i, 0].sigmoid()
            v = torch.stack([sum(tau ** (t - s) * v[s] for s in range(t + 1)) for t in range(T)])
        rows = []
        for t in range(T):
            share = (k[: t + 1] @ q[t] / math.sqrt(d)).softmax(0)
            rows.append(share @ v[: t + 1])
        a = torch.stack(rows)
        taps = p["temporal_conv.weight"][own]  # (d, d, 5), the last tap for this position
        c = a + p["temporal_conv.bias"][own]
        for back in range(5):
            c[back:] += a[: T - back] @ taps[:, :, 4 - back].T
        wide = slice(2 * i * d, 2 * (i + 1) * d)
        f = F.gelu(c @ p["ff_up.weight"][wide, :, 0].T + p["ff_up.bias"][wide])
        r = a + f @ p["ff_down.weight"][own, :, 0].T + p["ff_down.bias"][own]
        z = (r - r.mean(-1, keepdim=True)) / (r.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
        return z * p["branch_norm.weight"][own] + p["branch_norm.bias"][own]

    def layer(self, x, index):
        h = self.norm(x, f"layers.{index}.ln")
        share = self.state[f"layers.{index}.neuron_weights"].softmax(0)
        for i, (n, d) in enumerate(self.layout[index]):
            name = f"layers.{index}.neurons.{i}"
            z = torch.cat([self.branch(h, name, n, d, branch) for branch in range(n)], dim=-1)
            s = self.linear(z, f"{name}.soma_proj")
            hidden = F.gelu(self.linear(self.norm(s, f"{name}.ln_soma"), f"{name}.soma_ffn.0"))
            s = s + self.linear(hidden, f"{name}.soma_ffn.3")
            x = x + share[i] * self.linear(s, f"layers.{index}.neuron_projs.{i}")
        return x

    def one_pass(self, x):
        states = [x]
        for index in range(len(self.layout)):
            states.append(self.layer(states[-1], index))
        return states

    def logits(self, ids):
        """(T,) tokens -> (T, V)."""
        x = self.state["token_emb.weight"][ids] + self.state["pos_emb.weight"][: len(ids)]
        states = self.one_pass(x)
        out = states[-1]
        if self.config.n_passes == 2:
            for source, target in self.config.feedback_pairs:
                name = f"feedback_connections.fb_{source}_to_{target}"
                p = self.linear(states[source + 1], f"{name}.proj")
                gate = self.linear(torch.cat([x, p], dim=-1), f"{name}.gate.0").sigmoid()
                x = x + gate * self.norm(p, f"{name}.ln")
            share = self.state["pass_weights"].softmax(0)
            out = share[0] * out + share[1] * self.one_pass(x)[-1]
        return self.linear(self.norm(out, "ln_f"), "lm_head")


@modes
def test_mixed_entries_equal_the_formulas_by_hand(mode):
    model, ids = mixed(**mode), torch.randint(61, (2, 9))
    shapes = [[(8, 3), (3, 3)], [(5, 4)], [(6, 4), (1, 7), (2, 2)]]
    expected = torch.stack([ByHand(model, shapes).logits(row) for row in ids])
    with torch.inference_mode():
        got = model(input_ids=ids).logits
    torch.testing.assert_close(got, expected.float(), atol=1e-4, rtol=1e-4)


def test_shapes_are_those_of_the_inner_width():
    neuron = mixed(branch_expansion=3, conv_kernel_size=4).model.layers[1].neurons[0]
    assert {name: list(p.shape) for name, p in neuron.named_parameters()} == {
        "nmda_decay": [1, 5, 1, 4],
        "qkv.weight": [60, 24],
        "temporal_conv.weight": [20, 4, 4], "temporal_conv.bias": [20],
        "ff_up.weight": [60, 4, 1], "ff_up.bias": [60],
        "ff_down.weight": [20, 12, 1], "ff_down.bias": [20],
        "branch_norm.weight": [20], "branch_norm.bias": [20],
        "soma_proj.weight": [24, 20],
        "ln_soma.weight": [24], "ln_soma.bias": [24],
        "soma_ffn.0.weight": [72, 24], "soma_ffn.0.bias": [72],
        "soma_ffn.3.weight": [24, 72], "soma_ffn.3.bias": [24],
    }  # fmt: skip


@modes
def test_gradients_equal_the_plain_formulas(mode):
    model = mixed(max_position_embeddings=160, **mode).train()
    plain, ids = plain_copy(model), torch.randint(61, (2, 150))  # over the switches for length
    for program in (lambda x: model(input_ids=x).logits, plain):
        program(ids).square().mean().backward()
    names = dict(plain.named_parameters())
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            other = names[name.removeprefix("model.")].grad
            torch.testing.assert_close(parameter.grad, other, atol=1e-4, rtol=1e-3, msg=name)


entries = st.one_of(
    st.sampled_from([1, 2, 3, 6, 12]), st.lists(st.integers(1, 7), min_size=2, max_size=2)
)
layouts = st.lists(st.lists(entries, min_size=1, max_size=3), min_size=2, max_size=3)


@settings(max_examples=15)
@given(layout=layouts, mode=st.sampled_from(list(MODES.values())), length=st.integers(2, 12))
def test_any_layout_is_causal_and_cached_as_uncached(layout, mode, length):
    # In fp64: the norm of a branch of one or two channels enlarges rounding a few hundred times.
    shape = {"hidden_size": 12, "num_hidden_layers": len(layout), "cortical_layout": layout}
    model = tiny(**shape, **mode).double()
    plain, ids = plain_copy(model).double(), torch.randint(61, (1, length))
    changed = ids.clone()
    changed[0, -1] = (changed[0, -1] + 1) % 61
    close = {"atol": 1e-8, "rtol": 1e-8}
    with torch.inference_mode():
        whole = model(input_ids=ids, use_cache=False).logits
        torch.testing.assert_close(whole, plain(ids), **close)
        other = model(input_ids=changed).logits
        torch.testing.assert_close(other[:, :-1], whole[:, :-1], **close)
        past, got = None, []
        for token in ids.split(1, dim=1):
            out = model(input_ids=token, past_key_values=past)
            past = out.past_key_values
            got.append(out.logits)
    torch.testing.assert_close(torch.cat(got, dim=1), whole, **close)


@modes
def test_caches_padding_and_generation(mode):
    model, ids = mixed(**mode), torch.randint(1, 61, (2, 12))
    filler = torch.zeros(2, 3, dtype=torch.long)
    with torch.inference_mode():
        whole = model(input_ids=ids, use_cache=False).logits
        for cache in (None, StaticCache(config=model.config, max_cache_len=20)):
            got = []
            for piece in ids.split([5, 1, 4, 2], dim=1):
                out = model(input_ids=piece, past_key_values=cache, use_cache=True)
                cache = out.past_key_values
                got.append(out.logits)
            torch.testing.assert_close(torch.cat(got, dim=1), whole, atol=1e-4, rtol=1e-4)
        mask = torch.cat([filler, torch.ones_like(ids)], dim=1)
        left = model(input_ids=torch.cat([filler, ids], dim=1), attention_mask=mask).logits
        torch.testing.assert_close(left[:, 3:], whole, atol=1e-5, rtol=1e-5)
    options = {"max_new_tokens": 9, "do_sample": False, "eos_token_id": None, "pad_token_id": 0,
               "attention_mask": torch.ones_like(ids)}  # fmt: skip
    plain = model.generate(ids, use_cache=False, **options)
    for more in ({}, {"cache_implementation": "static", "disable_compile": True}):
        assert model.generate(ids, **options, **more).tolist() == plain.tolist()
    beams = [model.generate(ids, num_beams=3, use_cache=c, **options) for c in (False, True)]
    assert beams[0].tolist() == beams[1].tolist()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # dynamo's
def test_the_training_forward_compiles_whole():
    torch._dynamo.reset()
    layout = {"num_hidden_layers": 2, "cortical_layout": [[8, [3, 3]], [[1, 7]]]}
    model = mixed(**layout, **MODES["trace, two passes"]).train()
    ids = torch.randint(61, (2, 9))
    compiled = torch.compile(
        lambda x: model(input_ids=x, labels=x).loss, fullgraph=True, backend="aot_eager"
    )
    torch.testing.assert_close(compiled(ids), model(input_ids=ids, labels=ids).loss)


@pytest.mark.parametrize("init", ["published", "scaled"])
def test_saved_and_loaded_is_the_same(tmp_path, init):
    model, ids = mixed(init=init), torch.randint(61, (1, 7))
    model.save_pretrained(tmp_path)
    for code in (tmp_path / "modeling.py", tmp_path / "layout.py"):
        assert code.is_file()  # for `trust_remote_code`
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert again.config.cortical_layout == LAYOUT
    assert again.config.to_dict() | {"_name_or_path": ""} == (
        model.config.to_dict() | {"_name_or_path": ""}
    )
    for (name, a), b in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b), name
    assert torch.equal(model(input_ids=ids).logits, again(input_ids=ids).logits)


def channels(kept, d, copies=1):
    """The channels of the kept branches, of width d * copies each."""
    d = d * copies
    return torch.cat([torch.arange(i * d, (i + 1) * d) for i in kept])


@torch.no_grad()
def smaller(model, layer, index, kept):
    """The model in which a plain neuron is left with the branches `kept`, as pairs say it."""
    neuron = model.model.layers[layer].neurons[index]
    d, W, e = neuron.branch_width, neuron.soma_proj.in_features, model.config.branch_expansion
    own, wide = channels(kept, d), channels(kept, d, e)
    slices = {
        "qkv.weight": torch.cat([own + part * W for part in range(3)]),
        "temporal_conv.weight": own, "temporal_conv.bias": own,
        "ff_up.weight": wide, "ff_up.bias": wide,
        "ff_down.weight": own, "ff_down.bias": own,
        "branch_norm.weight": own, "branch_norm.bias": own,
    }  # fmt: skip
    layout = [list(entries) for entries in model.config.cortical_layout]
    layout[layer][index] = [len(kept), d]
    config = BioGPTConfig(**(model.config.to_dict() | {"cortical_layout": layout}))
    small, state = BioGPTForCausalLM(config).eval(), model.state_dict()
    place = f"model.layers.{layer}.neurons.{index}."
    for name, rows in slices.items():
        state[place + name] = state[place + name][rows]
    state[place + "soma_proj.weight"] = state[place + "soma_proj.weight"][:, own]
    state[place + "nmda_decay"] = state[place + "nmda_decay"][:, kept]
    small.load_state_dict(state)
    return small


@torch.no_grad()
def silence(model, layer, index, branches):
    """Set all of some branches to zero."""
    neuron = model.model.layers[layer].neurons[index]
    d, W, e = neuron.branch_width, neuron.soma_proj.in_features, model.config.branch_expansion
    own, wide = channels(branches, d), channels(branches, d, e)
    for part in range(3):
        neuron.qkv.weight[own + part * W] = 0
    for module in (neuron.temporal_conv, neuron.ff_down, neuron.branch_norm):
        module.weight[own], module.bias[own] = 0, 0
    neuron.ff_up.weight[wide], neuron.ff_up.bias[wide] = 0, 0
    neuron.soma_proj.weight[:, own] = 0


@modes
@pytest.mark.parametrize("gone", [[0], [2, 5], [0, 1, 2, 4, 5, 6, 7]])
def test_branches_of_zeros_are_branches_that_are_not_there(mode, gone):
    model = tiny(num_hidden_layers=3, **mode)  # neurons of 8 branches of width 6 come first
    ids = torch.randint(61, (2, 20))
    silence(model, 0, 1, gone)
    small = smaller(model, 0, 1, [i for i in range(8) if i not in gone])
    assert small.config.cortical_layout[0] == [8, [8 - len(gone), 6]]
    assert small.num_parameters() < model.num_parameters()
    with torch.inference_mode():
        got, expected = small(input_ids=ids).logits, model(input_ids=ids).logits
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_a_pair_of_the_whole_width_is_its_plain_count():
    config = BioGPTConfig(hidden_size=24, num_hidden_layers=1, cortical_layout=(((8, 3), (8, 2)),))
    assert config.cortical_layout == [[8, [8, 2]]]
    plain = BioGPTConfig(hidden_size=24, num_hidden_layers=2)
    pairs = BioGPTConfig(hidden_size=24, num_hidden_layers=2,
                         cortical_layout=[[[8, 3]] * 2, [[4, 6]] * 2])  # fmt: skip
    assert pairs.to_dict() == plain.to_dict()


def test_how_entries_are_read_and_shown():
    assert branches_of(8, 768) == (8, 96)
    assert branches_of([5, 96], 768) == (5, 96)
    assert entry_of(8, 96, 768) == 8
    assert entry_of(5, 96, 768) == [5, 96]
    assert branch_widths(768, [8, [5, 96], 4]) == ["8x96", "5x96", "4x192"]
    assert branch_total([8, [5, 96], 4]) == 17
    lines = layout_lines(BioGPTConfig(**SHAPE))
    assert "2 neurons | 11 branches | ['8x3', '3x3']" in lines[1]
    assert "1 neurons |  5 branches | ['5x4']" in lines[2]
    assert lines[4] == "  Total branches: 25"


def test_costs_and_plans_count_the_inner_width():
    V, D, T = 61, 24, 32
    model = skeleton(mixed().config)
    cost, per_token, inner = count_cost(model), D * V, 0
    for n, d in [(8, 3), (3, 3), (5, 4), (6, 4), (1, 7), (2, 2)]:
        W = n * d
        inner += W
        per_token += 3 * D * W + 2 * T * W + 5 * W * d + 2 * 2 * W * d
        per_token += W * D + 2 * 3 * D * D + D * D
    assert cost.flops_per_token == 2 * per_token
    assert cost.cache_bytes_per_token == 4 * 3 * inner
    assert plan_memory(model).parameters == model.num_parameters()


@torch.no_grad()
def test_scaled_start_values_set_the_score_whatever_the_inner_width():
    layout = [[8, [3, 24]], [[2, 96]], [[1, 48], [16, 24]]]
    config = BioGPTConfig(vocab_size=61, hidden_size=192, num_hidden_layers=3, init="scaled",
                          cortical_layout=layout)  # fmt: skip
    model, h = build(config, seed=0), torch.randn(400, 192)
    for layer in model.model.layers:
        for neuron in layer.neurons:
            q, k, _ = (h @ neuron.qkv.weight.T).view(400, 3, neuron.branches, -1).unbind(1)
            own = (q * k).sum(-1) / math.sqrt(q.shape[-1])
            expected = SELF_SHARE * math.log(config.max_position_embeddings)
            assert own.mean() == pytest.approx(expected, rel=0.05)


def test_the_published_program_knows_no_pairs(tmp_path):
    with pytest.raises(ValueError, match=r"cortical_layout: got a neuron of \[3, 3\].*only plain"):
        write_published(mixed(), tmp_path / "x.pt")
    assert list(tmp_path.iterdir()) == []


BAD_PAIRS = [
    [5, 0], [0, 4], [-1, 4], [5], [5, 4, 3], [], [5, 4.0], ["5", 4], [True, 4], [[5], 4], [5, None]
]  # fmt: skip


@pytest.mark.parametrize("entry", BAD_PAIRS, ids=str)
def test_bad_pairs_are_refused(entry):
    with pytest.raises(ValueError, match=r"layer 1 has a neuron of \[.*allowed is a pair") as error:
        mixed(cortical_layout=[[8], [4, entry], [4]])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("entry", [5, 0, -8, 8.0, "8", True, None, {"n": 8}], ids=str)
def test_bad_counts_are_refused(entry):
    with pytest.raises(ValueError, match=r"layer 2 has a neuron of .* branches, allowed") as error:
        mixed(cortical_layout=[[8], [4], [[5, 4], entry]])
    assert "\n" not in str(error.value)


def test_branches_of_width_1_decode():
    """torch's own norm refuses a single position of them."""
    model, ids = mixed(cortical_layout=[[[3, 1]], [24], [[1, 1], 8]]), torch.randint(61, (1, 5))
    with torch.inference_mode():
        past = model(input_ids=ids[:, :4]).past_key_values
        got = model(input_ids=ids[:, 4:], past_key_values=past).logits
        expected = model(input_ids=ids).logits[:, 4:]
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=1e-3)
