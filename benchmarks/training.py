"""A training step of biogpt-nano and gpt-neox-nano, with the chunked loss and from all logits.

    python benchmarks/training.py [--windows 8] [--steps 20]

All four run in turn in one process; prints median tokens/s. The chunked loss (our own) is what
the trainer uses where a model's head is a plain product.
"""

import statistics
import time

import torch
from torch import nn

import arguments
from resprout.models.loss import fused_loss, logits_loss
from resprout.models.sizes import build, configuration

WINDOW = 128


def main() -> None:
    parser = arguments.Parser(__doc__)
    parser.add_argument("--windows", type=arguments.whole(), default=8)
    parser.add_argument("--steps", type=arguments.whole(), default=20)
    options = parser.parse_args()
    losses = {"all logits": logits_loss, "chunked": fused_loss}
    runs = {}
    for name in ("biogpt-nano", "gpt-neox-nano"):
        for kind, loss in losses.items():
            model = build(configuration(name), seed=0).train()
            optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
            runs[name, kind] = (model, optimiser, loss)
    ids = torch.randint(4096, (options.windows, WINDOW + 1))
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    for _ in range(options.steps):
        for key, (model, optimiser, loss) in runs.items():
            started = time.perf_counter()
            loss(model, ids[:, :-1], ids[:, 1:]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
            seconds[key].append(time.perf_counter() - started)
    tokens = options.windows * WINDOW
    print(f"{options.windows} windows of {WINDOW}, fp32, {torch.get_num_threads()} threads")
    for (name, kind), values in seconds.items():
        print(f"{name:>14}, {kind:>10}: {tokens / statistics.median(values):8,.0f} tokens/s")


if __name__ == "__main__":
    main()
