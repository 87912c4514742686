"""Training: reproducible, resumable to the bit, masks held, one loss for all."""

import pytest
import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback

import resprout
from resprout.models.loss import choose_loss, fused_loss, logits_loss
from resprout.models.sizes import build, configuration
from resprout.train.options import TrainingOptions
from resprout.train.running import Running
from resprout.train.trainer import train
from resprout.train.window_trainer import WindowDataset

CPU = torch.device("cpu")
OPTIONS = TrainingOptions(steps=6, batch_windows=2, learning_rate=3e-3, warmup_steps=2)


def small(name="gpt-neox-nano"):
    return build(configuration(name, vocab_size=300), seed=0)


def grow(model, tokens, folder, options=OPTIONS, seed=0, **how):
    return train(model, tokens.train.tokens, 16, options, seed, folder / "work", CPU, **how)


class At(TrainerCallback):
    """Does something at the end of each step."""

    def __init__(self, do):
        self.do = do

    def on_step_end(self, args, state, control, **kwargs):
        self.do(state.global_step, kwargs["model"])


def state(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", ["biogpt-nano", "gpt-neox-nano"])
def test_fused_loss_is_the_logits_loss(name):
    model = small(name)
    ids, targets = torch.randint(300, (2, 16)), torch.randint(300, (2, 16))
    losses, gradients = [], []
    for loss in (logits_loss, fused_loss):
        model.zero_grad()
        value = loss(model, ids, targets)
        value.backward()
        losses.append(value.detach())
        gradients.append(model.get_output_embeddings().weight.grad.clone())
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-4)
    expected = F.cross_entropy(model(input_ids=ids).logits.flatten(0, 1), targets.flatten())
    torch.testing.assert_close(losses[0], expected)
    assert choose_loss(model, ids, targets) is fused_loss


def test_a_head_that_is_no_plain_product_keeps_its_logits():
    class Capped(LlamaForCausalLM):
        def forward(self, *args, **kwargs):
            out = super().forward(*args, **kwargs)
            out.logits = 5 * torch.tanh(out.logits)
            return out

    model = Capped(LlamaConfig(vocab_size=50, hidden_size=16, intermediate_size=24,
                               num_hidden_layers=1, num_attention_heads=2))  # fmt: skip
    ids = torch.randint(50, (1, 8))
    assert choose_loss(model, ids, ids) is logits_loss


def test_the_loss_falls(tokens, tmp_path):
    model = small()
    options = OPTIONS.model_copy(update={"steps": 40})
    result = grow(model, tokens, tmp_path, options)
    assert result.tokens == 40 * 2 * 16
    assert result.losses[-1][1] < result.losses[0][1] - 0.5
    assert not model.training
    assert not (tmp_path / "work").exists()


def test_same_seed_same_weights_other_seed_others(tokens, tmp_path):
    models = [small(), small(), small()]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        grow(model, tokens, tmp_path, seed=seed)
    assert same(state(models[0]), state(models[1]))
    assert not same(state(models[0]), state(models[2]))


def test_resumed_equals_uninterrupted_to_the_bit(tokens, tmp_path):
    options = OPTIONS.model_copy(update={"checkpoint_every": 2})
    whole = small()
    grow(whole, tokens, tmp_path / "whole", options)

    def cut_the_power(step, model):
        if step == 5:
            half = tmp_path / "cut" / "work" / "checkpoint-5"
            half.mkdir()
            (half / "weights.safetensors").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        running = Running(callbacks=(At(cut_the_power),))
        grow(small(), tokens, tmp_path / "cut", options, running=running)
    assert (tmp_path / "cut" / "work" / "checkpoint-4" / "complete.json").is_file()
    resumed = small()
    result = grow(resumed, tokens, tmp_path / "cut", options)
    assert same(state(whole), state(resumed))
    assert result.losses[-1][0] == 6


def test_what_was_cut_stays_zero_to_the_bit(tokens, tmp_path):
    model = small("biogpt-nano")
    with torch.no_grad():  # one neuron that dies
        for parameter in model.model.layers[0].neurons[0].parameters():
            parameter.mul_(1e-4)
        model.model.layers[0].neuron_projs[0].weight.mul_(1e-4)
    cut = resprout.prune(model, "magnitude", 0.5, dead_threshold=0.95)
    assert cut.dead_units == ["layer 0 neuron 0"]
    before = state(model)
    seen = []

    def watch(step, model):
        held = [model.get_parameter(n)[~m] for n, m in cut.masks.items()]
        seen.append(all(bool((part.view(torch.int32) == 0).all()) for part in held))

    grow(model, tokens, tmp_path, masks=cut.masks, running=Running(callbacks=(At(watch),)))
    assert seen == [True] * 6
    assert not model.model.layers[0].neurons[0].soma_ffn[3].bias.any()
    after = state(model)
    moved = [name for name, mask in cut.masks.items() if mask.any()
             and not torch.equal(before[name][mask], after[name][mask])]  # fmt: skip
    assert len(moved) == sum(bool(mask.any()) for mask in cut.masks.values())


def test_only_matrices_decay(tokens, tmp_path):
    model = small("biogpt-nano")
    options = OPTIONS.model_copy(update={"learning_rate": 1e-9, "weight_decay": 1e7, "steps": 1,
                                         "warmup_steps": 0})  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    before = state(model)
    grow(model, tokens, tmp_path, options)
    for name, parameter in model.named_parameters():
        if "feedback" in name or "nmda" in name:
            continue  # unused with one pass and without the trace: no gradient, no step
        shrunk = (parameter / before[name]).mean().item()
        assert shrunk == pytest.approx(0.99 if before[name].ndim > 1 else 1, abs=2e-3), name


def test_what_training_hangs_on_a_model_is_taken_off(tokens, tmp_path):
    """A model trained in bf16, with recomputation, is measured in fp32 as one just loaded."""
    model = small("biogpt-nano")
    grow(model, tokens, tmp_path, running=Running(precision="bf16", gradient_checkpointing=True))
    model.save_pretrained(tmp_path / "saved")
    loaded = type(model).from_pretrained(tmp_path / "saved").eval()
    ids = torch.randint(300, (2, 16))
    with torch.inference_mode():
        assert torch.equal(model(input_ids=ids).logits, loaded(input_ids=ids).logits)
    assert not any(getattr(part, "gradient_checkpointing", False) for part in model.modules())


@pytest.mark.parametrize("use_cache", [True, False])
def test_the_configuration_says_of_the_cache_what_it_said_before(tokens, tmp_path, use_cache):
    """Others who load the saved folder would else be without past keys and values."""
    model = small()
    model.config.use_cache = use_cache
    grow(model, tokens, tmp_path)
    assert model.config.use_cache is use_cache


def test_a_loss_that_is_not_finite_stops(tokens, tmp_path):
    model = small()
    with torch.no_grad():
        model.gpt_neox.final_layer_norm.weight.fill_(float("inf"))
    with pytest.raises(FloatingPointError, match="step 1"):
        grow(model, tokens, tmp_path)


def test_windows_are_inputs_and_the_tokens_after_them(tokens):
    item = WindowDataset(tokens.train.tokens, 16, 5, seed=0)[3]
    assert torch.equal(item["input_ids"][1:], item["targets"][:-1])
    assert len(item["targets"]) == 16


def test_recover_lowers_the_loss(tokens, tmp_path):
    model = small()
    grow(model, tokens, tmp_path, OPTIONS.model_copy(update={"steps": 40}))
    cut = resprout.prune(model, "magnitude", 0.9)
    ids = torch.from_numpy(tokens.val.tokens[:65].astype("int64"))[None]
    with torch.inference_mode():
        before = logits_loss(model, ids[:, :-1], ids[:, 1:])
    resprout.recover(model, cut, tokens.path, 30, window=16, learning_rate=3e-3)
    with torch.inference_mode():
        after = logits_loss(model, ids[:, :-1], ids[:, 1:])
    assert after < before
    assert all(not model.get_parameter(n)[~m].any() for n, m in cut.masks.items())


def test_recover_takes_tokens_in_any_form(tokens):
    models = [small(), small(), small()]
    forms = (tokens, str(tokens.path), torch.from_numpy(tokens.train.tokens.astype("int64")))
    for model, form in zip(models, forms, strict=True):
        resprout.recover(model, None, form, 2, window=16)
    assert same(state(models[0]), state(models[1]))
    assert same(state(models[0]), state(models[2]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, "steps: got -1"),
        ({"steps": True}, "steps: got True"),
        ({"batch_windows": 0}, "batch_windows: got 0"),
        ({"learning_rate": 0}, "learning_rate: got 0"),
        ({"window": 129}, "window: got 129"),
        ({"tokens": "nowhere"}, "not prepared data"),
        ({"tokens": [[1, 2], [3, 4]]}, r"shape \(2, 2\)"),
        ({"tokens": [0.5, 1.5]}, "type float64"),
        ({"tokens": [3, -1]}, "ids, \\(n,\\) integers from 0"),
    ],
)
def test_recover_refuses_nonsense(tokens, options, message):
    arguments = {"tokens": tokens, "steps": 1} | options
    with pytest.raises(ValueError, match=message):
        resprout.recover(small(), None, **arguments)


def test_recover_wants_fp32_and_the_same_vocabulary(tokens):
    with pytest.raises(ValueError, match="needs fp32"):
        resprout.recover(small().bfloat16(), None, tokens, 1)
    narrow = build(configuration("gpt-neox-nano", vocab_size=100), seed=0)
    with pytest.raises(ValueError, match=r"allowed are the model's 0 to 99"):
        resprout.recover(narrow, None, tokens, 1)
