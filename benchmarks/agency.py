"""What gates on heads cost: the same model with agency (gates 1, all active) and without, in turn.

    python benchmarks/agency.py [--models gpt2 gpt-neox llama nano] [--rounds 15] [--device cuda]

For each shape (random weights): a prefill of 512 tokens, decoding at batch 1 with a cache, and a
training step (forward, backward) whose gates get gradients, with and without the observation that
moves utilisation, alignment and states. Each round times both models one after the other; the
figure is the median of the ratios of the rounds, with the middle half of them. Before that the
logits of both are compared: to the bit on a CPU.
"""

import copy
import statistics
import sys
import time
from collections.abc import Callable

import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedModel,
)

import arguments
from resprout.models import agency
from resprout.models.device import device_name, resolve_device, synchronise
from resprout.models.quiet import quiet_transformers
from resprout.models.sizes import configuration

SHAPES = {
    "gpt2": lambda: GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0),
    "gpt-neox": lambda: GPTNeoXConfig(  # Pythia-160M
        hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072,
        vocab_size=50304, max_position_embeddings=2048,
    ),
    "llama": lambda: LlamaConfig(  # a quarter of Llama-3.2-1B: half the layers, half the width
        hidden_size=1024, num_hidden_layers=8, num_attention_heads=16, num_key_value_heads=4,
        intermediate_size=4096, vocab_size=32000, max_position_embeddings=2048,
    ),
    "nano": lambda: configuration("gpt2-nano"),
}  # fmt: skip


def prefill(model: PreTrainedModel, ids: torch.Tensor) -> None:
    with torch.inference_mode():
        model.base_model(input_ids=ids, use_cache=False)


def decoding(tokens: int) -> Callable[[PreTrainedModel, torch.Tensor], None]:
    def decode(model: PreTrainedModel, ids: torch.Tensor) -> None:
        with torch.inference_mode():
            found = model(input_ids=ids[:, :32], use_cache=True)
            for _ in range(tokens):
                following = found.logits[:, -1:].argmax(-1)
                found = model(
                    input_ids=following, past_key_values=found.past_key_values, use_cache=True
                )

    return decode


def training(model: PreTrainedModel, ids: torch.Tensor) -> None:
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    hidden.float().square().mean().backward()
    model.zero_grad(set_to_none=True)


def compare(
    name: str,
    work: Callable[[PreTrainedModel, torch.Tensor], None],
    plain: PreTrainedModel,
    gated: PreTrainedModel,
    ids: torch.Tensor,
    rounds: int,
) -> None:
    seconds: dict[int, list[float]] = {0: [], 1: []}
    for turn in range(rounds + 2):
        for which in (0, 1) if turn % 2 else (1, 0):  # neither is always the first
            synchronise(ids.device)
            start = time.perf_counter()
            work((plain, gated)[which], ids)
            synchronise(ids.device)
            if turn >= 2:
                seconds[which].append(time.perf_counter() - start)
    ratios = sorted(g / p for p, g in zip(seconds[0], seconds[1], strict=True))
    low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
    print(
        f"  {name:34} {1e3 * statistics.median(seconds[0]):9.2f} ms plain  "
        f"{1e3 * statistics.median(seconds[1]):9.2f} ms gated  "
        f"ratio {statistics.median(ratios):.4f} ({low:.4f} to {high:.4f})",
        flush=True,
    )


def main() -> None:
    parser = arguments.Parser(__doc__)
    parser.add_argument("--models", nargs="+", type=arguments.one_of(SHAPES), default=list(SHAPES))
    parser.add_argument("--rounds", type=arguments.whole(), default=15)
    parser.add_argument("--device", type=arguments.device, default="cpu")
    asked = parser.parse_args()
    device = resolve_device(asked.device)
    print(f"{device_name(device)}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for name in asked.models:
        torch.manual_seed(0)
        with quiet_transformers():
            plain = AutoModelForCausalLM.from_config(SHAPES[name](), dtype=torch.float32)
        plain = plain.to(device).eval()
        gated = agency.enable(copy.deepcopy(plain))
        limit = min(512, plain.config.max_position_embeddings)
        ids = torch.randint(0, plain.config.vocab_size, (1, limit), device=device)
        with torch.inference_mode():
            same = torch.equal(plain(ids).logits, gated(ids).logits)
        print(f"{name}, {plain.num_parameters():,} parameters, logits to the bit: {same}")
        if device.type == "cpu" and not same:
            sys.exit("the logits differ")
        compare(f"prefill, 1 x {limit}", prefill, plain, gated, ids, asked.rounds)
        compare("decoding 16 tokens, batch 1", decoding(16), plain, gated, ids, asked.rounds)
        batch = ids[:, :128].expand(4, -1)
        compare("forward and backward, gates", training, plain, gated, batch, asked.rounds)
        plain.train()
        gated.train()
        compare("the same, heads observed", training, plain, gated, batch, asked.rounds)


if __name__ == "__main__":
    main()
