"""The training memory plan: against bytes worked out by hand, and against real steps."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd.graph import saved_tensors_hooks
from transformers import AutoConfig, GPTNeoXConfig

from resprout.models.biogpt import neurons
from resprout.models.description import memory_lines, parameter_total, skeleton
from resprout.models.memory_plan import NotCountableError, plan_memory
from resprout.models.sizes import build, configuration

# A GPT-NeoX: width, MLP, heads, layers, vocabulary, rotary width.
D, M, H, L, V, R = 64, 256, 4, 2, 100, 4
NEOX = GPTNeoXConfig(
    vocab_size=V, hidden_size=D, num_attention_heads=H, intermediate_size=M, num_hidden_layers=L,
    max_position_embeddings=32,
)  # fmt: skip


def plan_of(config, *arguments):
    return plan_memory(skeleton(config), *arguments)


@pytest.mark.parametrize(("B", "T"), [(1, 32), (3, 20)])
def test_activations_of_a_gpt_neox_by_hand(B, T):
    kept = plan_of(NEOX, 1, B, T).kept
    N = B * T
    norm = 2 * 4 * N  # a LayerNorm keeps its mean and deviation, fp32
    block = 2 * (norm + 2 * N * D)  # two of them, and the bf16 input of the product after each
    block += 2 * 3 * N * D  # queries, keys and values, of which the values are kept as they are,
    block += 2 * 2 * N * D  # the others once more, after the rotation
    block += 2 * N * D + 4 * N * H + 24  # attention's output, a figure per row, its random state
    block += 2 * N * D  # the same output, heads side by side
    block += 2 * 2 * N * M  # the MLP before and after its GELU
    rotation = 2 * 4 * T * R  # cosines and sines in fp32, of all sequences, in the first block
    assert kept.inputs == (4 * N * D,) * L  # the residual stream is fp32
    assert kept.insides == (block + rotation, block)
    assert kept.outside == 8 * N + norm + 4 * N * D  # ids, and the last LayerNorm with its input
    assert kept.weight_copies == 2 * (L * (4 * D * D + 2 * D * M + 5 * D + M))  # biases too
    assert kept.activations(False) == sum(kept.inputs) + sum(kept.insides) + kept.outside
    assert kept.activations(True) == sum(kept.inputs) + kept.insides[0] + kept.outside


def test_the_rest_of_the_plan_by_hand():
    layer = 4 * D * D + 2 * D * M + 5 * D + M + 4 * D
    total = 2 * V * D + L * layer + 2 * D
    one, eight = plan_of(NEOX, 1, 1, 32), plan_of(NEOX, 8, 1, 32)
    assert one.parameters == parameter_total(skeleton(NEOX)) == total
    assert eight.gathered == 8 * (2 * V * D + 2 * D + layer)
    assert one.parts(False, False) | {"activations": 0} == {
        "weights, gradients, moments (fp32)": 16 * total,
        "bf16 copies of weights": one.kept.weight_copies,
        "DDP's buckets of gradients": 0,
        "gathered: embeddings, head, a block": 0,
        "activations": 0,
        # All logits fit a chunk; the gradients of its inputs and of the head, and the head's copy.
        "loss": 6 * 32 * V + 2 * 32 * D + 4 * V * D + 2 * V * D,
    }
    ddp, fsdp = eight.parts(sharded=False, checkpointing=True), eight.parts(True, True)
    assert ddp["weights, gradients, moments (fp32)"] == 16 * total
    assert ddp["DDP's buckets of gradients"] == 4 * total
    assert fsdp["weights, gradients, moments (fp32)"] == 16 * total / 8
    assert fsdp["gathered: embeddings, head, a block"] == eight.gathered
    assert ddp["loss"] == fsdp["loss"] == 10 * 32 * V + 2 * V * D
    assert ddp["activations"] == fsdp["activations"] == one.kept.activations(True)
    assert eight.total(True, True) == sum(fsdp.values())


def like_a_gpu(monkeypatch):
    """A CPU that does in BioGPT what a GPU does: fused attention, convolutions as products, norms
    in fp32 under autocast.
    """
    monkeypatch.setattr(
        neurons,
        "causal_attention",
        lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    )
    monkeypatch.setattr(neurons, "LONG", 10**9)
    for name in ("layer_norm", "group_norm"):
        norm = getattr(F, name)
        monkeypatch.setattr(
            F, name, lambda x, *args, norm=norm, **kwargs: norm(x.float(), *args, **kwargs)
        )


@pytest.mark.parametrize("name", ["biogpt-nano", "gpt-neox-nano", "llama-nano", "gpt2-nano"])
def test_counted_activations_are_those_of_a_real_step(name, monkeypatch):
    """On a CPU, which has autocast and fused attention too; with and without checkpointing."""
    config = configuration(name, vocab_size=300)
    if name == "gpt2-nano":
        config.activation_function = "gelu"  # its own has a power, in fp32 on a GPU alone
    model = build(config, seed=0).train()
    kept = plan_of(config, 1, 2, 125).kept
    like_a_gpu(monkeypatch)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    matrices = {p.numel() for p in model.parameters()}
    ids = torch.zeros(2, 125, dtype=torch.long)
    for checkpointing in (False, True):
        if checkpointing:
            family = (
                "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
            )
            getattr(model, f"{family}_checkpointing_enable")()
        held = {}

        def note(tensor, held=held):
            held[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with saved_tensors_hooks(note, lambda tensor: tensor), torch.autocast("cpu"):
            model.base_model(input_ids=ids, use_cache=False)
        real = sum(
            tensor.untyped_storage().nbytes()
            for pointer, tensor in held.items()
            if pointer not in weights and not (tensor.ndim == 2 and tensor.numel() in matrices)
        )
        if checkpointing:  # nothing of the insides is kept before the backward pass
            assert real == pytest.approx(sum(kept.inputs) + kept.outside, rel=0.001)
        else:
            # Llama's keys and values are counted as repeated for each of the heads they serve.
            repeated = 6 * 2 * 2 * 2 * 125 * (96 - 32) if name == "llama-nano" else 0
            assert real == pytest.approx(kept.activations(False) - repeated, rel=0.001)


def test_a_second_pass_keeps_as_much_again():
    shape = {"hidden_size": 48, "num_hidden_layers": 6, "vocab_size": 61}
    once, twice = (
        plan_of(configuration("biogpt-nano", n_passes=passes, **shape)) for passes in (1, 2)
    )
    assert len(twice.kept.insides) == 2 * len(once.kept.insides) == 12
    assert twice.kept.insides[:6] == twice.kept.insides[6:] == once.kept.insides


def test_biogpt_1b():
    """The size that this project plans for, and does not train here."""
    config = configuration("biogpt-1b")
    model = skeleton(config)
    plans = {devices: plan_memory(model, devices) for devices in (1, 2, 4, 8)}
    assert 1.0e9 <= plans[1].parameters <= 1.2e9
    assert config.num_hidden_layers == len(plans[1].kept.insides) == 14
    assert plans[1].block_tokens == 2048
    for checkpointing in (False, True):
        sharded = [plans[n].total(True, checkpointing) for n in (2, 4, 8)]
        assert sharded == sorted(sharded, reverse=True)
        assert plans[8].total(True, checkpointing) < plans[8].total(False, checkpointing)
    for sharded in (False, True):
        assert plans[8].total(sharded, True) < plans[8].total(sharded, False)
    assert 18e9 < plans[1].total(False, True) < 24e9  # the state alone is 18.4 GB
    # Twice the sequences keep twice as much, but for the kernels' random states.
    double = plan_memory(model, 8, 2).kept
    assert double.activations(False) == pytest.approx(
        2 * plans[8].kept.activations(False), rel=0.01
    )
    lines = "\n".join(memory_lines(plans[8]))
    assert "8 devices, 1 sequence of 2,048 tokens" in lines
    assert "FSDP2" in lines and "FSDP2" not in "\n".join(memory_lines(plans[1]))


@pytest.mark.parametrize("family", ["opt", "qwen3", "mistral"])
def test_other_families(family):
    extra = {"opt": {"ffn_dim": 128, "word_embed_proj_dim": 64}}.get(
        family, {"intermediate_size": 128, "num_key_value_heads": 2, "head_dim": 16}
    )
    config = AutoConfig.for_model(
        family, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, vocab_size=100, **extra
    )
    plan = plan_of(config, 2, 1, 64)
    assert len(plan.kept.insides) == 2
    assert plan.kept.inputs == (4 * 64 * 64,) * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "devices: got 0, allowed is 1 or more"),
        ((1, -1), "batch_size: got -1, allowed is 1 or more"),
        ((1, 1, 0), "block_size: got 0, allowed is 1 or more"),
        ((1, 1, 33), "block_size: got 33, allowed are up to the model's 32 positions"),
    ],
)
def test_bad_figures_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        plan_of(NEOX, *arguments)


def test_what_cannot_be_counted_says_so():
    model = skeleton(NEOX)
    model.base_model.layers = torch.nn.ModuleList()
    with pytest.raises(NotCountableError, match="no head, or no blocks that can be checkpointed"):
        plan_memory(model)
