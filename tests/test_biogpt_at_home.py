"""BioGPT among transformers' users: registration, folders, adapters, compilation, harness."""

import json
import subprocess
import sys

import pytest
import torch
import transformers

from biogpt_models import MODES, tiny

LOAD = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained({folder!r}, trust_remote_code=True)
assert "resprout" not in sys.modules
ids = torch.arange(1, 9)[None]
with torch.inference_mode():
    print(model(input_ids=ids).logits.double().sum().item())
text = model.generate(ids, max_new_tokens=6, do_sample=False, eos_token_id=None, pad_token_id=0)
print(text.tolist())
model.save_pretrained({again!r})
"""


def python(code, *arguments):
    done = subprocess.run([sys.executable, *arguments, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "first",
    [
        "import resprout; from transformers import AutoConfig, AutoModelForCausalLM",
        pytest.param("import transformers; import resprout", marks=pytest.mark.slow),
        pytest.param(
            "from transformers import AutoConfig, AutoModelForCausalLM; import resprout",
            marks=pytest.mark.slow,
        ),
        pytest.param("import resprout; from transformers import Trainer", marks=pytest.mark.slow),
    ],
)
def test_import_resprout_registers(first):
    code = f"""{first}
from transformers import AutoConfig, AutoModelForCausalLM
config = AutoConfig.for_model("dendritic_biogpt", hidden_size=24, vocab_size=8)
print(type(AutoModelForCausalLM.from_config(config)).__module__)"""
    assert python(code, "-W", "error") == ["resprout.models.biogpt.modeling"]


def test_import_resprout_imports_nothing_heavy():
    code = "import resprout, sys; print({'torch', 'transformers'} & set(sys.modules))"
    assert python(code) == ["set()"]


# What all parts together do, the published ones do too.
PUBLISHED_AND_ALL = [
    pytest.param({}, id="published", marks=pytest.mark.slow),
    pytest.param(MODES["trace, two passes"], id="all"),
]


@pytest.mark.parametrize("mode", PUBLISHED_AND_ALL)
def test_a_folder_loads_without_resprout(tmp_path, monkeypatch, mode):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    model = tiny(**mode)
    model.save_pretrained(tmp_path / "model")
    hide = "import sys; sys.modules['resprout'] = None\n"
    # A `None` entry makes every import of resprout fail, as where it is not installed.
    code = hide + LOAD.format(folder=str(tmp_path / "model"), again=str(tmp_path / "again"))
    code = code.replace('assert "resprout" not in sys.modules\n', "")
    total, text = python(code)
    ids = torch.arange(1, 9)[None]
    with torch.inference_mode():
        expected = model(input_ids=ids).logits.double().sum().item()
    assert float(total) == pytest.approx(expected, abs=1e-3)
    got = model.generate(ids, max_new_tokens=6, do_sample=False, eos_token_id=None, pad_token_id=0)
    assert json.loads(text) == got.tolist()
    # What they save again still carries the code.
    assert (tmp_path / "again" / "modeling.py").is_file()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's
def test_lora_on_linear_layers_takes_effect():
    peft = pytest.importorskip("peft")
    model = tiny()
    ids = torch.randint(61, (2, 9))
    with torch.inference_mode():
        before = model(input_ids=ids).logits
    adapted = peft.get_peft_model(
        model, peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    with torch.inference_mode():
        torch.testing.assert_close(adapted(input_ids=ids).logits, before)  # B starts at 0
    optimiser = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.5)
    losses = []
    for _ in range(5):
        loss = adapted(input_ids=ids, labels=ids).loss
        losses.append(loss.item())
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    assert losses[-1] < losses[0]
    for name, parameter in adapted.named_parameters():
        # Every adapter of a layer that one pass uses has learnt something.
        if "lora_B" in name and "feedback" not in name:
            assert parameter.abs().sum() > 0, name
    merged = adapted.merge_and_unload()
    with torch.inference_mode():
        assert not torch.allclose(merged(input_ids=ids).logits, before, atol=1e-3)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # dynamo's
@pytest.mark.parametrize("mode", PUBLISHED_AND_ALL)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.slow
def test_the_training_forward_compiles_whole(mode, masked):
    torch._dynamo.reset()
    model = tiny(hidden_size=24, num_hidden_layers=2, **mode).train()
    ids = torch.randint(61, (2, 9))
    mask = torch.ones_like(ids) if masked else None
    if masked:
        mask[0, :3] = 0

    def forward(ids):
        return model(input_ids=ids, attention_mask=mask, labels=ids).loss

    expected = forward(ids)
    expected.backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    # The graph is what fullgraph is about; building C++ from it would take minutes.
    compiled = torch.compile(forward, fullgraph=True, backend="aot_eager")
    got = compiled(ids)
    got.backward()
    torch.testing.assert_close(got, expected)
    for name, parameter in model.named_parameters():
        if name in gradients:
            torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-5, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_training_forward_compiles_with_inductor():
    torch._dynamo.reset()
    model = tiny(num_hidden_layers=3, nmda="trace").train()
    ids = torch.randint(61, (2, 9))
    compiled = torch.compile(lambda x: model(input_ids=x, labels=x).loss, fullgraph=True)
    torch.testing.assert_close(compiled(ids), model(input_ids=ids, labels=ids).loss)


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_bf16(mode):
    model = tiny(**mode)
    ids = torch.randint(61, (2, 9))
    with torch.inference_mode():
        expected = model(input_ids=ids).logits
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(input_ids=ids).logits
        pure = model.to(torch.bfloat16)(input_ids=ids).logits
    for got in (mixed, pure):
        assert got.dtype == torch.bfloat16
        assert (got - expected).abs().mean() < 0.05 * expected.std()
    text = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=4,
                          do_sample=False, pad_token_id=0)  # fmt: skip
    assert text.shape[1] > 9


def test_hidden_states():
    model = tiny()
    ids = torch.randint(61, (2, 9))
    with torch.inference_mode():
        out = model(input_ids=ids, output_hidden_states=True)
        positions = model.model.pos_emb.weight[:9]
        torch.testing.assert_close(out.hidden_states[0], model.model.token_emb(ids) + positions)
        torch.testing.assert_close(model.lm_head(out.hidden_states[-1]), out.logits)
    assert len(out.hidden_states) == 7
    with pytest.raises(ValueError, match="output_attentions"):
        model(input_ids=ids, output_attentions=True)


def test_embeddings_in_place_of_ids():
    model = tiny()
    ids = torch.randint(61, (2, 9))
    with torch.inference_mode():
        got = model(inputs_embeds=model.get_input_embeddings()(ids)).logits
        torch.testing.assert_close(got, model(input_ids=ids).logits)
    with pytest.raises(ValueError, match="exactly one"):
        model()


def test_auto_model_is_the_model_without_its_head(tmp_path):
    model, ids = tiny(), torch.tensor([[1, 2, 3]])
    model.save_pretrained(tmp_path)
    bare = transformers.AutoModel.from_pretrained(tmp_path)
    expected = model.base_model(ids).last_hidden_state
    assert torch.equal(bare(ids).last_hidden_state, expected)


def test_the_vocabulary_can_grow():
    model = tiny()
    model.resize_token_embeddings(70)
    assert model(input_ids=torch.full((1, 3), 69)).logits.shape == (1, 3, 70)
    assert model.config.vocab_size == 70


def test_the_harness_of_lm_eval_takes_it(tmp_path):
    pytest.importorskip("lm_eval")
    from lm_eval.models.huggingface import HFLM
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {f"w{i}": i for i in range(61)}
    inner = Tokenizer(models.WordLevel(words, unk_token="w0"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="w0", pad_token="w0"
    )
    model = tiny()
    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=2, device="cpu")
    from lm_eval.api.instance import Instance

    texts = [("w5 w6 w7", " w8 w9"), ("w3", " w4")]
    requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(texts)]
    for (context, continuation), (got, _) in zip(
        texts, harness.loglikelihood(requests), strict=True
    ):
        ids = torch.tensor([[int(word[1:]) for word in (context + continuation).split()]])
        start = len(context.split())
        with torch.inference_mode():
            logs = model(input_ids=ids).logits.log_softmax(-1)[0]
        expected = sum(logs[i - 1, ids[0, i]] for i in range(start, ids.shape[1]))
        assert got == pytest.approx(float(expected), abs=1e-3)
    asked = Instance("generate_until", {}, ("w5 w6 w7", {"until": ["zzz"], "max_gen_toks": 5}), 0)
    assert len(harness.generate_until([asked])[0].split()) >= 1
