"""Why BioGPT's published start values learn slowly: one change at a time, then together.

    python benchmarks/start_values.py [--changes none tokens ...] [--rates 4e-3] [--seeds 0]

Grows the nano study's BioGPT from the study's own recipe, each time with the published start
values and the named change, and prints the held-out loss. With it, what the first layer sees at
the start: how much of the embeddings' variance is the token's, and how much of its attention a
position gives to itself (the mean over positions, branches and neurons).

Changes joined by `+` are made together, in order, and one may come twice (`queries+queries` makes
them four times as large). `scaled` takes the start values of `init="scaled"`; changes after it
(`scaled+kernels`) are made on top.
"""

import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

import arguments
from growing import grow
from resprout.models.biogpt import BioGPTForCausalLM
from resprout.models.device import resolve_device
from resprout.models.sizes import build
from resprout.study.spec import read_spec
from resprout.study.subjects import Subjects

STUDY = Path(__file__).parents[1] / "experiments" / "nano" / "biogpt.yaml"


def cells(model: BioGPTForCausalLM):
    for layer in model.model.layers:
        yield from layer.neurons


def tokens(model: BioGPTForCausalLM) -> None:
    """Token embeddings as large as position embeddings (Xavier makes the larger table smaller)."""
    model.model.token_emb.weight.mul_(
        model.model.pos_emb.weight.std() / model.model.token_emb.weight.std()
    )


def positions(model: BioGPTForCausalLM) -> None:
    """Position embeddings as small as token embeddings."""
    model.model.pos_emb.weight.mul_(
        model.model.token_emb.weight.std() / model.model.pos_emb.weight.std()
    )


def embeddings(model: BioGPTForCausalLM) -> None:
    """Token embeddings of standard deviation 1, large beside what the first layers add."""
    model.model.token_emb.weight.div_(model.model.token_emb.weight.std())


def projections(model: BioGPTForCausalLM) -> None:
    """What layers add is smaller: neuron projections over sqrt(2 L), as GPT-2's."""
    for layer in model.model.layers:
        for projection in layer.neuron_projs:
            projection.weight.div_(math.sqrt(2 * len(model.model.layers)))


def silent(model: BioGPTForCausalLM) -> None:
    """Layers start by adding nothing: neuron projections 0."""
    for layer in model.model.layers:
        for projection in layer.neuron_projs:
            projection.weight.zero_()


def somas(model: BioGPTForCausalLM) -> None:
    """Soma FFNs start by adding less: their second matrix over sqrt(2 L)."""
    for cell in cells(model):
        cell.soma_ffn[3].weight.div_(math.sqrt(2 * len(model.model.layers)))


def keys(model: BioGPTForCausalLM) -> None:
    """Keys start equal to queries: a position attends to itself and its like first."""
    for cell in cells(model):
        q, k, _ = cell.qkv.weight.chunk(3)
        k.copy_(q)


def queries(model: BioGPTForCausalLM) -> None:
    """Queries and keys of twice the size: sharper attention."""
    for cell in cells(model):
        q, k, _ = cell.qkv.weight.chunk(3)
        q.mul_(2)
        k.mul_(2)


def kernels(model: BioGPTForCausalLM) -> None:
    """Temporal convolutions at 0: a position is not mixed with its neighbours at first."""
    for cell in cells(model):
        cell.temporal_conv.weight.zero_()


def heads(model: BioGPTForCausalLM) -> None:
    """The language-model head at 0: every token equally likely at the start."""
    model.lm_head.weight.zero_()


def first_sight(model: BioGPTForCausalLM, ids: torch.Tensor) -> tuple[float, float]:
    """The token's share of the variance of embeddings, and a position's attention to itself.

    `ids` are (B, T) tokens.
    """
    network = model.model
    tokens = network.token_emb(ids)
    x = tokens + network.pos_emb.weight[: ids.shape[1]]
    layer = network.layers[0]
    own = []
    for cell in layer.neurons:
        q, k, _ = cell.qkv(layer.ln(x)).unflatten(-1, (3, cell.branches, -1)).unbind(2)
        q, k = q.transpose(1, 2), k.transpose(1, 2)  # (B, n, T, d)
        later = torch.full((ids.shape[1], ids.shape[1]), -torch.inf).triu(1)
        weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + later).softmax(-1)
        own.append(weights.diagonal(dim1=-2, dim2=-1).mean())
    return float(tokens.var() / x.var()), float(torch.stack(own).mean())


CHANGES: dict[str, Callable[[BioGPTForCausalLM], None]] = {
    f.__name__: f
    for f in (
        tokens, positions, embeddings, projections, silent, somas, keys, queries, kernels, heads
    )
}  # fmt: skip


def main() -> None:
    parser = arguments.Parser(__doc__)
    parser.add_argument("--changes", nargs="+", default=["none", *CHANGES])
    parser.add_argument("--rates", nargs="+", type=arguments.number(), default=[4e-3])
    parser.add_argument("--seeds", nargs="+", type=arguments.whole(0), default=[0])
    parser.add_argument("--device", type=arguments.device, default="auto")
    options = parser.parse_args()
    for name in {part for change in options.changes for part in change.split("+")}:
        if name not in ("none", "scaled", *CHANGES):
            parser.error(f"{name!r} is no change; there are none, scaled, {', '.join(CHANGES)}")
    spec = read_spec(STUDY)
    device = resolve_device(options.device)
    subject = next(s for s in spec.subjects if s.name == "biogpt-nano")
    for change in options.changes:
        print(f"{change}: " + " ".join((CHANGES[c].__doc__ or "") for c in change.split("+")
                                       if c in CHANGES))  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        subjects = Subjects(spec, Path(folder), device, notice=print)
        data = subjects.tokens(subject)
        for change in options.changes:
            for rate in options.rates:
                for seed in options.seeds:
                    tried = subject.model_copy(update={"learning_rate": rate})
                    config = subjects.configuration(tried)
                    if "scaled" in change.split("+"):
                        config.init = "scaled"
                    model = build(config, seed)
                    with torch.no_grad():
                        for name in change.split("+"):
                            if name in CHANGES:
                                CHANGES[name](model)
                        text = data.val.tokens[: 8 * spec.data.window].astype("int64")
                        seen = first_sight(model, torch.from_numpy(text).view(8, -1))
                    nats, _ = grow(subjects, tried, model, seed, device)
                    print(
                        f"{change:>32} at {rate}, seed {seed}: {nats:.3f} nats per token; "
                        f"token {seen[0]:.1%} of the variance, {seen[1]:.1%} attention to itself",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
