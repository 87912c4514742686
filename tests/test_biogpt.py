"""The dendritic model: exact to the published program and to its formulas, and a good citizen."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from biogpt_models import MODES, tiny
from reference_biogpt import plain_copy
from resprout.models.biogpt import BioGPTConfig, BioGPTForCausalLM
from resprout.models.biogpt.layout import cortical_layout, feedback_pairs, zone_of
from resprout.models.description import parameter_total, skeleton


@pytest.mark.parametrize("name", ["biogpt_original_tiny", "biogpt_original_tiny_two_pass"])
def test_equals_the_original_program(shared, name):
    checkpoint = torch.load(shared / "fixtures" / f"{name}.pt", weights_only=True)
    expected = load_file(shared / "fixtures" / f"{name}.safetensors")
    published = checkpoint["config"]
    config = BioGPTConfig(
        vocab_size=published["vocab_size"],
        hidden_size=published["d_model"],
        num_hidden_layers=published["n_layers"],
        max_position_embeddings=published["max_seq_len"],
        n_passes=published["n_passes"],
    )
    model = BioGPTForCausalLM(config).eval()
    state = {
        (name if name.startswith("lm_head") else f"model.{name}"): tensor
        for name, tensor in checkpoint["model_state_dict"].items()
    }
    model.load_state_dict(state)  # strict: every published name is there, and no other
    with torch.inference_mode():
        logits = model(input_ids=expected["input_ids"]).logits
    torch.testing.assert_close(logits, expected["logits"], atol=1e-4, rtol=0)
    loss = F.cross_entropy(logits.flatten(0, 1), expected["targets"].flatten())
    torch.testing.assert_close(loss, expected["loss"][0], atol=1e-4, rtol=0)


layouts = st.lists(
    st.lists(st.sampled_from([1, 2, 4]), min_size=1, max_size=3), min_size=2, max_size=4
)
shapes = {
    "width": st.sampled_from([12, 20, 48]),
    "layout": layouts,
    "passes": st.sampled_from([1, 2]),
    "nmda": st.sampled_from(["off", "trace"]),
}


def of_shape(width, layout, passes, nmda) -> BioGPTForCausalLM:
    return tiny(
        hidden_size=width,
        num_hidden_layers=len(layout),
        cortical_layout=layout,
        feedback_pairs=[[len(layout) - 1, 0]],
        n_passes=passes,
        nmda=nmda,
    )


@settings(max_examples=15)
@given(**shapes, length=st.integers(1, 13))
def test_equals_the_plain_formulas(width, layout, passes, nmda, length):
    model = of_shape(width, layout, passes, nmda)
    ids = torch.randint(61, (2, length))
    with torch.inference_mode():
        got = model(input_ids=ids).logits
        expected = plain_copy(model)(ids)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("length", [127, 128, 129, 300])
def test_long_texts_equal_the_plain_formulas(length):
    """Longer than the blocks and the convolution's switch: outputs and gradients."""
    model = tiny(num_hidden_layers=2, max_position_embeddings=300, nmda="trace").train()
    plain, ids = plain_copy(model), torch.randint(61, (1, length))
    got, expected = model(input_ids=ids).logits, plain(ids)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    got.square().mean().backward()
    expected.square().mean().backward()
    names = dict(plain.named_parameters())
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            other = names[name.removeprefix("model.")].grad
            torch.testing.assert_close(parameter.grad, other, atol=1e-4, rtol=1e-3, msg=name)


def test_gradients_equal_the_plain_formulas():
    model = tiny(nmda="trace", n_passes=2)
    plain = plain_copy(model)
    ids, targets = torch.randint(61, (2, 9)), torch.randint(61, (2, 9))
    for program in (lambda x: model(input_ids=x).logits, plain):
        F.cross_entropy(program(ids).flatten(0, 1), targets.flatten()).backward()
    expected = dict(plain.named_parameters())
    for name, parameter in model.named_parameters():
        other = expected[name.removeprefix("model.")].grad
        torch.testing.assert_close(parameter.grad, other, atol=1e-5, rtol=1e-3, msg=name)


def test_published_size():
    assert parameter_total(skeleton(BioGPTConfig())) == 294_532_636


def test_feedback_size():
    model = skeleton(BioGPTConfig())
    assert parameter_total(model.model.feedback_connections) == 7_087_104


def test_layout_of_the_published_model():
    layout = cortical_layout(768, 12)
    assert layout == [[8, 8]] * 4 + [[8, 6, 4]] * 4 + [[4, 4]] * 4
    assert sum(map(sum, layout)) == 168
    assert feedback_pairs(12) == [[8, 0], [9, 1], [10, 2], [11, 3]]


def test_layouts_of_tuples_are_layouts(tmp_path):
    layout, pairs = ((8, 8), (4,), (6, 3)), ((2, 0), (1, 0))
    config = BioGPTConfig(hidden_size=48, num_hidden_layers=3, cortical_layout=layout,
                          feedback_pairs=pairs)  # fmt: skip
    assert config.cortical_layout == [[8, 8], [4], [6, 3]]
    assert config.feedback_pairs == [[2, 0], [1, 0]]
    config.save_pretrained(tmp_path)
    assert BioGPTConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()


def test_the_published_names_of_fields_are_understood():
    theirs = BioGPTConfig(d_model=48, n_layers=3, max_seq_len=64, soma_ffn_expansion=2.0)
    ours = BioGPTConfig(
        hidden_size=48, num_hidden_layers=3, max_position_embeddings=64, soma_expansion=2.0
    )
    assert theirs.to_dict() == ours.to_dict()
    assert len(theirs.cortical_layout) == 3
    assert theirs.d_model == 48
    with pytest.raises(ValueError, match="num_hidden_layers: got 0"):
        BioGPTConfig(n_layers=0)


def test_layout_lowers_counts_that_do_not_divide():
    assert cortical_layout(10, 3) == [[5, 5], [5, 5, 2], [2, 2]]
    assert cortical_layout(7, 1) == [[7, 7]]
    assert zone_of(0, 1) == "EARLY"


def assert_causal(model, length):
    ids = torch.randint(61, (1, length))
    with torch.inference_mode():
        before = model(input_ids=ids).logits
        for position in range(length):
            changed = ids.clone()
            changed[0, position] = (changed[0, position] + 1) % 61
            after = model(input_ids=changed).logits
            torch.testing.assert_close(after[:, :position], before[:, :position])
            assert not torch.allclose(after[:, position], before[:, position])


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_causal(mode):
    assert_causal(tiny(**mode), 12)


@settings(max_examples=10)
@given(**shapes, length=st.integers(1, 9))
def test_causal_whatever_the_layout(width, layout, passes, nmda, length):
    assert_causal(of_shape(width, layout, passes, nmda), length)


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_causal_in_training_over_several_blocks(mode):
    model = tiny(num_hidden_layers=2, max_position_embeddings=300, **mode)
    embeds = torch.randn(1, 290, 48, requires_grad=True)
    model(inputs_embeds=embeds).logits[0, 150].sum().backward()
    reached = embeds.grad[0].abs().sum(-1)
    assert (reached[:151] > 0).all()
    assert (reached[151:] == 0).all()


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_padding_changes_nothing(mode):
    model = tiny(**mode)
    ids, filler = torch.randint(61, (1, 7)), torch.zeros(1, 4, dtype=torch.long)
    with torch.inference_mode():
        plain = model(input_ids=ids).logits
        left = model(
            input_ids=torch.cat([filler, ids], dim=1),
            attention_mask=torch.tensor([[0] * 4 + [1] * 7]),
        ).logits[:, 4:]
        right = model(
            input_ids=torch.cat([ids, filler], dim=1),
            attention_mask=torch.tensor([[1] * 7 + [0] * 4]),
        ).logits[:, :7]
    for got in (left, right):
        torch.testing.assert_close(got, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_padding_takes_part_in_no_gradient(mode):
    model = tiny(**mode).train()
    ids = torch.randint(1, 61, (1, 9))
    gradients = []
    for pad in (0, 5):
        model.zero_grad()
        padded = torch.cat([torch.zeros(1, pad, dtype=torch.long), ids], dim=1)
        mask = torch.tensor([[0] * pad + [1] * 9])
        labels = padded.masked_fill(mask == 0, -100)
        labels[:, pad] = -100  # the first token would be predicted from padding
        model(input_ids=padded, attention_mask=mask, labels=labels).loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
        assert all(grad.isfinite().all() for grad in gradients[-1].values())
    for name, grad in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], grad, atol=1e-5, rtol=1e-3, msg=name)


@pytest.mark.parametrize("use_cache", [False, True])
def test_generate_is_the_loop_by_hand(use_cache):
    model = tiny()
    ids = torch.randint(1, 61, (1, 5))
    by_hand = ids
    with torch.inference_mode():
        for _ in range(8):
            following = model(input_ids=by_hand).logits[:, -1:].argmax(-1)
            by_hand = torch.cat([by_hand, following], dim=1)
    got = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=8,
        do_sample=False,
        use_cache=use_cache,
        eos_token_id=None,
        pad_token_id=0,
    )
    assert got.tolist() == by_hand.tolist()


def test_saved_and_loaded_is_the_same(tmp_path):
    from transformers import AutoModelForCausalLM

    model = tiny(cortical_layout=[[2, 4]] * 6)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.config.cortical_layout == [[2, 4]] * 6
    for (name, a), b in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_gradient_checkpointing_gives_the_same_gradients(mode):
    model = tiny(**mode).train()
    ids = torch.randint(61, (2, 9))
    model(input_ids=ids, labels=ids).loss.backward()
    plain = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    # transformers renamed the switch; both versions that we support are served.
    switch = getattr(model, "activation_checkpointing_enable", None)
    (switch or model.gradient_checkpointing_enable)()
    out = model(input_ids=ids, labels=ids, use_cache=True)
    assert out.past_key_values is None  # a recomputed layer would write it twice
    out.loss.backward()
    for name, parameter in model.named_parameters():
        if name in plain:
            torch.testing.assert_close(parameter.grad, plain[name], msg=name)


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_every_parameter_of_its_mode_is_trained(mode):
    model = tiny(**mode).train()
    ids = torch.randint(61, (2, 9))
    model(input_ids=ids, labels=ids).loss.backward()
    still = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    expected = set()
    for name, _ in model.named_parameters():
        unused = "nmda_decay" in name and model.config.nmda == "off"
        if unused or ("feedback" in name and model.config.n_passes == 1):
            expected.add(name)
    assert still == expected


def test_labels_shift_and_ignore():
    model = tiny()
    ids = torch.randint(61, (1, 9))
    labels = ids.clone()
    labels[0, 4] = -100
    with torch.inference_mode():
        out = model(input_ids=ids, labels=labels)
    per_token = F.cross_entropy(out.logits[0, :-1], ids[0, 1:], reduction="none")
    kept = torch.arange(8) != 3  # the ignored label is the target of position 3
    torch.testing.assert_close(out.loss, per_token[kept].mean())


def test_too_many_positions_names_the_limit():
    with pytest.raises(ValueError, match=r"33 positions.*max_position_embeddings=32"):
        tiny()(input_ids=torch.zeros(1, 33, dtype=torch.long))
    with pytest.raises(ValueError, match=r"34 positions.*max_position_embeddings=32"):
        tiny()(
            input_ids=torch.zeros(1, 4, dtype=torch.long), position_ids=torch.arange(30, 34)[None]
        )
    with pytest.raises(ValueError, match="got 0 positions"):
        tiny()(input_ids=torch.zeros(1, 0, dtype=torch.long))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 0}, "hidden_size: got 0"),
        ({"hidden_size": 48.0}, "hidden_size: got 48.0"),
        ({"vocab_size": "61"}, "vocab_size: got '61'"),
        ({"max_position_embeddings": True}, "max_position_embeddings: got True"),
        ({"branch_expansion": -2}, "branch_expansion: got -2"),
        ({"conv_kernel_size": 0}, "conv_kernel_size: got 0"),
        ({"hidden_size": 2**24 + 1}, "hidden_size: got 16777217, .* up to 16777216"),
        ({"vocab_size": 10**5000}, "vocab_size: got int beyond words"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers: got 1000000000, .* up to 4096"),
        ({"max_position_embeddings": 10**15}, "max_position_embeddings: got 1000"),
        ({"branch_expansion": 1025}, "branch_expansion: got 1025, .* up to 1024"),
        ({"soma_expansion": 1024}, r"soma_expansion: got 1024, .* up to \(not with\) 1024"),
        ({"cortical_layout": [[1] * 3000] * 6}, "got 18000 neurons, allowed are up to 16384"),
        ({"soma_expansion": float("nan")}, "soma_expansion: got nan"),
        ({"soma_expansion": 0.001}, "soma_expansion: got 0.001"),
        ({"layer_norm_eps": -1e-5}, "layer_norm_eps: got -1e-05"),
        ({"nmda": "on"}, "nmda: got 'on', allowed are off, trace"),
        ({"init": "best"}, "init: got 'best', allowed are published, scaled"),
        ({"num_hidden_layers": 0}, "num_hidden_layers: got 0"),
        ({"soma_expansion": -1.0}, "soma_expansion: got -1.0"),
        ({"dropout": 1.0}, "dropout: got 1.0"),
        ({"n_passes": 3}, "n_passes: got 3"),
        ({"n_passes": True}, "n_passes: got True"),
        ({"n_passes": 2.0}, "n_passes: got 2.0"),
        ({"soma_expansion": True}, "soma_expansion: got True"),
        ({"feedback_pairs": [[True, False]]}, "feedback_pairs: got \\[True, False\\]"),
        ({"cortical_layout": [[5]] * 6}, "5 branches"),
        ({"cortical_layout": [[4]] * 5}, "got 5 layers"),
        ({"cortical_layout": [[]] * 6}, "no neuron"),
        ({"cortical_layout": [[0]] * 6}, "0 branches"),
        ({"cortical_layout": [8] * 6}, "list of branch counts"),
        ({"cortical_layout": [["8"]] * 6}, "'8' branches"),
        ({"feedback_pairs": [5, 0]}, "feedback_pairs: got 5"),
        ({"feedback_pairs": [["a", 0]]}, r"\['a', 0\]"),
        ({"feedback_pairs": [[6, 0]]}, r"\[6, 0\]"),
        ({"feedback_pairs": [[0, 5]]}, r"\[0, 5\]"),
        ({"feedback_pairs": [[5, 0], [5, 0]]}, "each pair once"),
    ],
)
def test_bad_configurations_name_field_and_value(change, message):
    with pytest.raises(ValueError, match=message):
        tiny(**change)
