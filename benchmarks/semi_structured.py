"""2:4 on a GPU: the same masked model with dense and with semi-structured products, in turn.

    python benchmarks/semi_structured.py [--dtype bfloat16] [--tokens 2048] [--repeats 20]

A Llama of 1.24 B parameters with random weights, cut by `2:4`. Prefill of one sequence of --tokens,
and one token at batch 1 (a sequence of one). Medians and the range of the ratio of neighbouring
runs; a ratio of 1 or more is no gain, and is printed as that. Needs a CUDA device of compute
capability 8.0.
"""

import copy

import torch

import arguments
import resprout
from prune import llama_1b
from removal import in_turn
from resprout.pruning.semi_structured import to_semi_structured


@torch.no_grad()
def main() -> None:
    parser = arguments.Parser(__doc__)
    parser.add_argument("--dtype", type=arguments.dtype, default="bfloat16")
    parser.add_argument("--tokens", type=arguments.whole(), default=2048)
    parser.add_argument("--repeats", type=arguments.whole(), default=20)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("needs a CUDA device")
    dense = llama_1b().to(getattr(torch, options.dtype))
    resprout.prune(dense, "2:4")
    dense = dense.to("cuda")
    sparse = copy.deepcopy(dense)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {options.dtype}")
    print(f"{to_semi_structured(sparse)} weights turned")
    for tokens in (options.tokens, 1):
        ids = torch.randint(0, 1000, (1, tokens), device="cuda")
        runs = [
            lambda model=model, ids=ids: model(input_ids=ids, use_cache=False, logits_to_keep=1)
            for model in (dense, sparse)
        ]
        expected, got = (run().logits.float() for run in runs)
        error = float((got - expected).abs().max() / expected.abs().max())
        first, second, ratios = in_turn("cuda", *runs, options.repeats)
        gain = "no gain" if second >= first else f"{first / second:.2f}x as fast"
        print(
            f"{tokens:>6} tokens: dense {first * 1e3:8.2f} ms, 2:4 {second * 1e3:8.2f} ms, {gain}, "
            f"ratio [{min(ratios):.3f}, {max(ratios):.3f}], logits differ by {error:.1e} relative"
        )


if __name__ == "__main__":
    main()
