"""A tiny random model of each family that has an adapter, in fp32, and every unit it has."""

import copy
from functools import cache

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

import resprout
from places import SHARED
from resprout.models.biogpt import BioGPTConfig
from resprout.pruning.adapters import FAMILIES

V, L, D, T = 61, 3, 32, 12
_GLU = {
    "vocab_size": V,
    "hidden_size": D,
    "intermediate_size": 20,
    "num_hidden_layers": L,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGURATIONS = {
    "gpt2": lambda: GPT2Config(
        vocab_size=V, n_embd=D, n_layer=L, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2
    ),
    "gpt_neox": lambda: GPTNeoXConfig(
        vocab_size=V, hidden_size=D, num_hidden_layers=L, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=64,
    ),
    "opt": lambda: OPTConfig(
        vocab_size=V, hidden_size=D, num_hidden_layers=L, num_attention_heads=4, ffn_dim=48,
        max_position_embeddings=64, word_embed_proj_dim=D, pad_token_id=1,
    ),
    "llama": lambda: LlamaConfig(**_GLU),
    "llama_bias": lambda: LlamaConfig(
        **(_GLU | {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 8,
                   "tie_word_embeddings": True})
    ),
    "mistral": lambda: MistralConfig(**_GLU, sliding_window=8),
    "qwen2": lambda: Qwen2Config(**_GLU),
    "qwen3": lambda: Qwen3Config(**_GLU, head_dim=6),
    "gemma": lambda: GemmaConfig(**_GLU, head_dim=6),
    "gemma2": lambda: Gemma2Config(**_GLU, head_dim=6, sliding_window=8),
    "gemma3_text": lambda: Gemma3TextConfig(
        **_GLU, head_dim=6, sliding_window=8,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    # The second of its layers does without positions.
    "smollm3": lambda: SmolLM3Config(**_GLU, no_rope_layers=[1, 0, 1]),
    "phi3": lambda: Phi3Config(**_GLU, sliding_window=8),
    "dendritic_biogpt": lambda: BioGPTConfig(
        vocab_size=V, hidden_size=24, num_hidden_layers=L, max_position_embeddings=64
    ),
    "dendritic_biogpt_two_pass": lambda: BioGPTConfig(
        vocab_size=V, hidden_size=24, num_hidden_layers=4, max_position_embeddings=64, n_passes=2,
        nmda="trace",
    ),
}  # fmt: skip


def tiny(family, seed=0, dtype=torch.float32):
    """The model, every parameter random: also biases, norms and gates, which start at 0 or 1."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(CONFIGURATIONS[family]()).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@cache
def _made(name):
    return tiny(name) if name in CONFIGURATIONS else resprout.load(SHARED / "models" / name)[0]


def subject(name):
    """A model of its own for each caller: a tiny one, or the real one of the shared folder."""
    if name not in CONFIGURATIONS and not SHARED.is_dir():
        pytest.skip("needs ../shared (real models), which is not here")
    return copy.deepcopy(_made(name))


def _units(kin_are_slow=False):
    """Every model with every unit it has: (name, kind, head_unit)."""
    for name in NAMES:
        marks = pytest.mark.slow if kin_are_slow and name in KIN else ()
        model_type = "llama" if name == STORIES else CONFIGURATIONS[name]().model_type
        for kind in FAMILIES[model_type].kinds:
            yield pytest.param(name, kind, "group", marks=marks, id=f"{name}-{kind}")
            if kind == "head" and name in GROUPED:
                yield pytest.param(name, kind, "query", marks=marks, id=f"{name}-query_head")


STORIES = "stories260K"
NAMES = (*CONFIGURATIONS, STORIES)
# Those in which query heads share keys and values.
GROUPED = {"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "smollm3",
           "phi3", STORIES}  # fmt: skip
# Those that go the very way of another through our code, so that the costly tests leave them out.
KIN = {"mistral", "qwen2", "gemma", "gemma2", "smollm3", "llama_bias"}
RANDOM = {
    "head": "heads-random",
    "glu_neuron": "glu-random",
    "mlp_neuron": "mlp-random",
    "branch": "branches-random",
    "neuron": "neurons-random",
    "layer": "layers-random",
}
each_unit = pytest.mark.parametrize(("name", "kind", "head_unit"), list(_units()))
each_different_unit = pytest.mark.parametrize(
    ("name", "kind", "head_unit"), list(_units(kin_are_slow=True))
)
each_name = pytest.mark.parametrize("name", NAMES)


def some_ids(seed=1, batch=2, length=T):
    return torch.randint(3, V, (batch, length), generator=torch.Generator().manual_seed(seed))


def parameters(model):
    """How many; a tied tensor once."""
    return sum(parameter.numel() for parameter in model.parameters())


def bits(model):
    """A copy of all that the model's forward pass reads: (name, tensor)."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same_bits(first, second):
    """Whether two such copies (or models) are equal, -0 and 0 not alike."""
    a, b = (m if isinstance(m, dict) else m.state_dict() for m in (first, second))
    views = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return a.keys() == b.keys() and all(
        a[n].shape == b[n].shape
        and a[n].dtype == b[n].dtype
        and torch.equal(
            a[n].view(views[a[n].element_size()]), b[n].view(views[a[n].element_size()])
        )
        for n in a
    )


def kept(cut):
    """The indices of the units that stay, per group."""
    return [group.kept.tolist() for group in cut.groups]


@torch.inference_mode()
def logits(model, ids=None):
    return model(input_ids=some_ids() if ids is None else ids, use_cache=False).logits
