"""What the single faults of the published BioGPT program do, each alone, at nano size.

    python benchmarks/faults_biogpt.py [--run runs/nano-biogpt] [--seed 0]

Subjects are those of experiments/nano/biogpt.yaml: taken from its run, or grown there first.
docs/FAULTS.md reads the figures; `unfair_choices.py` has the choices that are unfair without being
faults.
"""

import copy
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

import arguments
import resprout
from growing import held_out_loss
from resprout.data.tokens import TokenSet
from resprout.measure.loss import window_losses
from resprout.models.loss import logits_loss
from resprout.models.quiet import quiet_transformers
from resprout.study.kept_subjects import Grown
from resprout.study.spec import read_spec
from resprout.study.subjects import Subjects

STUDY = Path(__file__).parents[1] / "experiments" / "nano" / "biogpt.yaml"
WINDOW = 128
STEPS, BATCH, RATE = 500, 4, 1e-4  # the published recovery
PARTS = ["bf16", "validation", "prunable", "regrowth"]
DRAWN = 200  # windows of the published validation: 204,800 tokens in windows of 1,024


def loss(model: PreTrainedModel, tokens: TokenSet) -> float:
    """Nats per token over the whole held-out set."""
    return held_out_loss(model, tokens, WINDOW)


def batches(tokens: TokenSet, seed: int) -> Iterator[Tensor]:
    """(BATCH, WINDOW + 1) windows that start anywhere, as published."""
    drawn = torch.Generator().manual_seed(seed)
    stream = torch.from_numpy(tokens.train.tokens[:].astype("int64"))
    while True:
        starts = torch.randint(len(stream) - WINDOW, (BATCH,), generator=drawn)
        yield torch.stack([stream[start : start + WINDOW + 1] for start in starts])


def published_recovery(
    model: PreTrainedModel, masks: dict[str, Tensor], tokens: TokenSet, seed: int
) -> None:
    """Recover in the model's own precision: AdamW at a constant rate, masks after each step."""
    torch.manual_seed(seed)
    model.train()
    parameters = dict(model.named_parameters())
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    stream = batches(tokens, seed)
    for _ in range(STEPS):
        optimizer.zero_grad()
        windows = next(stream)
        logits_loss(model, windows[:, :-1], windows[:, 1:]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for name, kept in masks.items():
                parameters[name].mul_(kept)
    model.eval()


def bf16_weights(subject: Grown, tokens: TokenSet, seed: int) -> None:
    """The control was loaded and recovered in bf16: how many weights can move at all?"""
    print("\n| gpt-neox-nano cut by 50 %, recovered | loss | kept matrix weights that moved |")
    print("| --- | --: | --: |")
    model = copy.deepcopy(subject.model)
    cut = resprout.prune(model, "magnitude", 0.5, protocol="paper")
    print(f"| not | {loss(model, tokens):.3f} | |")
    for precision in (torch.float32, torch.bfloat16):
        tried = copy.deepcopy(model).to(precision)
        before = {name: p.detach().clone() for name, p in tried.named_parameters()}
        published_recovery(tried, cut.masks, tokens, seed)
        moved = kept = 0
        for name, mask in cut.masks.items():
            now = dict(tried.named_parameters())[name].detach()
            moved += int((now != before[name])[mask].sum())
            kept += int(mask.sum())
        name = str(precision).removeprefix("torch.")
        print(f"| in {name} weights | {loss(tried.float(), tokens):.3f} | {moved / kept:.1%} |")


def drawn_validation(subject: Grown, tokens: TokenSet) -> None:
    """Validation drew 200 windows anew for each point: how far does that alone move a loss?"""
    found = window_losses(subject.model, tokens.val, WINDOW)
    each = torch.as_tensor(found.nats / found.tokens)
    spread = float(each.std()) / math.sqrt(DRAWN)
    print(
        f"\nLoss of one model over {DRAWN} windows drawn anew: standard deviation {spread:.3f} "
        f"(one window's {float(each.std()):.3f}); the difference of two points' losses moves by "
        f"{1.96 * math.sqrt(2) * spread:.3f} in 95 % of cases."
    )


def where_cuts_fall(subject: Grown) -> None:
    """The prunable set by name took the head and feedback that one pass never uses."""
    cut = resprout.prune(copy.deepcopy(subject.model), "magnitude", 0.45, protocol="paper")
    gone = {"feedback (unused)": 0, "head": 0, "blocks": 0}
    size = dict.fromkeys(gone, 0)
    for name, mask in cut.masks.items():
        part = "feedback (unused)" if "feedback" in name else "head" if "head" in name else "blocks"
        gone[part] += int((~mask).sum())
        size[part] += mask.numel()
    print("\n| biogpt-nano, 45 % cut under `paper` | weights | cut | share |")
    print("| --- | --: | --: | --: |")
    for part, count in gone.items():
        print(f"| {part} | {size[part]:,} | {count:,} | {count / size[part]:.1%} |")


def regrowth(subject: Grown, tokens: TokenSet, seed: int) -> None:
    """Dead neurons were zeroed after the mask was made: what grows back in recovery?

    As published, the layer's projection of such a neuron (`neuron_projs`) is left as it is.
    """
    print("\n| biogpt-nano | dead neurons | their weights back | loss, grown back | kept dead |")
    print("| --- | --: | --: | --: | --: |")
    for amount in (0.9, 0.95):
        plain, held = copy.deepcopy(subject.model), copy.deepcopy(subject.model)
        whole = resprout.prune(held, "magnitude", amount, protocol="paper", dead_threshold=0.95)
        weights = resprout.prune(plain, "magnitude", amount, protocol="paper")
        dead = {
            name: ~mask & weights.masks.get(name, torch.ones_like(mask))
            for name, mask in whole.masks.items()
            if ".neurons." in name
        }
        with torch.no_grad():
            for name, parameter in plain.named_parameters():
                if name in dead:
                    parameter.masked_fill_(dead[name], 0)
        published_recovery(plain, weights.masks, tokens, seed)
        published_recovery(held, whole.masks, tokens, seed)
        now = dict(plain.named_parameters())
        back = sum(int((now[name][gone] != 0).sum()) for name, gone in dead.items())
        all_dead = sum(int(gone.sum()) for gone in dead.values())
        print(
            f"| {amount:.0%} cut | {len(whole.dead_units)} | {back:,} of {all_dead:,} | "
            f"{loss(plain, tokens):.3f} | {loss(held, tokens):.3f} |"
        )


def main() -> None:
    """Print every table."""
    parser = arguments.Parser(__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/nano-biogpt"))
    parser.add_argument("--seed", type=arguments.whole(0), default=0)
    parser.add_argument("--parts", nargs="+", type=arguments.one_of(PARTS), default=PARTS)
    given = parser.parse_args()
    spec = read_spec(STUDY)
    with quiet_transformers():
        subjects = Subjects(spec, given.run, torch.device("cpu"), print)
        bio, neox = (subjects.get(one, given.seed) for one in spec.subjects)
        tokens = subjects.tokens(spec.subjects[0])
        for told, subject in zip(spec.subjects, (bio, neox), strict=True):
            print(f"{told.name}: {loss(subject.model, tokens):.3f} nats per token uncut")
        if "bf16" in given.parts:
            bf16_weights(neox, tokens, given.seed)
        if "validation" in given.parts:
            drawn_validation(neox, tokens)
        if "prunable" in given.parts:
            where_cuts_fall(bio)
        if "regrowth" in given.parts:
            regrowth(bio, tokens, given.seed)


if __name__ == "__main__":
    main()
