"""The dendritic model: exact to the published program and to its formulas, and a good citizen."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from reference_biogpt import plain_copy
from resprout.models.biogpt import BioGPTConfig, BioGPTForCausalLM
from resprout.models.biogpt.layout import cortical_layout, feedback_pairs, zone_of
from resprout.models.description import parameter_total, skeleton
from resprout.models.sizes import build


def tiny(**changes) -> BioGPTForCausalLM:
    shape = {"vocab_size": 61, "hidden_size": 48, "num_hidden_layers": 6,
             "max_position_embeddings": 32}  # fmt: skip
    model = build(BioGPTConfig(**(shape | changes)), seed=1).eval()
    with torch.no_grad():  # start values leave much at 0 and 1: move everything
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


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


@settings(max_examples=12, deadline=None)
@given(
    width=st.sampled_from([12, 40, 48]),
    layout=st.lists(
        st.lists(st.sampled_from([1, 2, 4]), min_size=1, max_size=3), min_size=2, max_size=4
    ),
    passes=st.sampled_from([1, 2]),
    length=st.integers(1, 13),
)
def test_equals_the_plain_formulas(width, layout, passes, length):
    pairs = [[len(layout) - 1, 0]]
    model = tiny(
        hidden_size=width,
        num_hidden_layers=len(layout),
        cortical_layout=layout,
        feedback_pairs=pairs,
        n_passes=passes,
    )
    ids = torch.randint(61, (2, length))
    with torch.inference_mode():
        got = model(input_ids=ids).logits
        expected = plain_copy(model)(ids)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


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


def test_layout_lowers_counts_that_do_not_divide():
    assert cortical_layout(10, 3) == [[5, 5], [5, 5, 2], [2, 2]]
    assert cortical_layout(7, 1) == [[7, 7]]
    assert zone_of(0, 1) == "EARLY"


@pytest.mark.parametrize("passes", [1, 2])
def test_causal(passes):
    model = tiny(n_passes=passes)
    ids = torch.randint(61, (1, 12))
    with torch.inference_mode():
        before = model(input_ids=ids).logits
        for position in range(12):
            changed = ids.clone()
            changed[0, position] = (changed[0, position] + 1) % 61
            after = model(input_ids=changed).logits
            torch.testing.assert_close(after[:, :position], before[:, :position])
            assert not torch.allclose(after[:, position], before[:, position])


@pytest.mark.parametrize("passes", [1, 2])
def test_left_padding_changes_nothing(passes):
    model = tiny(n_passes=passes)
    ids = torch.randint(61, (1, 7))
    padded = torch.cat([torch.zeros(1, 4, dtype=torch.long), ids], dim=1)
    mask = torch.tensor([[0] * 4 + [1] * 7])
    with torch.inference_mode():
        plain = model(input_ids=ids).logits
        got = model(input_ids=padded, attention_mask=mask).logits[:, 4:]
    torch.testing.assert_close(got, plain, atol=1e-5, rtol=1e-5)


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


def test_gradient_checkpointing_gives_the_same_gradients():
    model = tiny().train()
    ids = torch.randint(61, (2, 9))
    model(input_ids=ids, labels=ids).loss.backward()
    plain = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    # transformers renamed the switch; both versions that we support are served.
    switch = getattr(model, "activation_checkpointing_enable", None)
    (switch or model.gradient_checkpointing_enable)()
    model(input_ids=ids, labels=ids).loss.backward()
    for name, parameter in model.named_parameters():
        if name in plain:
            torch.testing.assert_close(parameter.grad, plain[name], msg=name)


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 0}, "hidden_size: got 0"),
        ({"num_hidden_layers": 0}, "num_hidden_layers: got 0"),
        ({"soma_expansion": -1.0}, "soma_expansion: got -1.0"),
        ({"dropout": 1.0}, "dropout: got 1.0"),
        ({"n_passes": 3}, "n_passes: got 3"),
        ({"cortical_layout": [[5]] * 6}, "5 branches"),
        ({"cortical_layout": [[4]] * 5}, "got 5 layers"),
        ({"cortical_layout": [[]] * 6}, "no neuron"),
        ({"feedback_pairs": [[6, 0]]}, r"\[6, 0\]"),
        ({"feedback_pairs": [[0, 5]]}, r"\[0, 5\]"),
        ({"feedback_pairs": [[5, 0], [5, 0]]}, "each pair once"),
    ],
)
def test_bad_configurations_name_field_and_value(change, message):
    with pytest.raises(ValueError, match=message):
        tiny(**change)
