"""A tiny random model of each family that has an adapter, in fp32."""

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
)

from resprout.models.biogpt import BioGPTConfig

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
    "gemma2": lambda: Gemma2Config(**_GLU, head_dim=6, sliding_window=8),
    "gemma3_text": lambda: Gemma3TextConfig(
        **_GLU, head_dim=6, sliding_window=8,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "phi3": lambda: Phi3Config(**_GLU),
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


def some_ids(seed=1, batch=2, length=T):
    return torch.randint(3, V, (batch, length), generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def logits(model, ids=None):
    return model(input_ids=some_ids() if ids is None else ids, use_cache=False).logits
