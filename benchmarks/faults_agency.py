"""What the faults of the published agency comparison do, each alone, on one GPT-2 of nano size.

    python benchmarks/faults_agency.py [--run runs/nano-agency] [--seed 0]

The model is the base of experiments/nano/agency.yaml: taken from its run, or grown there first.
"""

import copy
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

import arguments
import resprout
from growing import held_out_loss
from resprout.data.calibration import read_calibration
from resprout.data.tokens import TokenSet
from resprout.measure.text.repetition import distinct_n, repetition_n
from resprout.models import agency
from resprout.models.quiet import quiet_transformers
from resprout.study.spec import read_spec
from resprout.study.subjects import Subjects

STUDY = Path(__file__).parents[1] / "experiments" / "nano" / "agency.yaml"
WINDOW = 128


def loss(model: PreTrainedModel, tokens: TokenSet) -> float:
    """Nats per token over the whole held-out set."""
    return held_out_loss(model, tokens, WINDOW)


def unpruned_baseline(model: PreTrainedModel, tokens: TokenSet) -> None:
    """The baseline kept all its heads at every level."""
    print("\n| heads cut (entropy) | published: baseline uncut | cut alike |")
    print("| --- | --: | --: |")
    windows = read_calibration(tokens.path, None, samples=32, length=WINDOW)
    for amount in (0.2, 0.5, 0.8):
        cut = copy.deepcopy(model)
        resprout.prune(cut, "heads-entropy", amount, calibration=windows)
        print(f"| {amount:.0%} | {loss(model, tokens):.3f} | {loss(cut, tokens):.3f} |")


def gate_for_entropy(model: PreTrainedModel, tokens: TokenSet) -> None:
    """ "Entropy" was the gate's value; gates that were never trained are all 1."""
    print("\n| heads cut | by attention's entropy | by untrained gates | at random, five seeds |")
    print("| --- | --: | --: | --: |")
    windows = read_calibration(tokens.path, None, samples=32, length=WINDOW)
    gated = copy.deepcopy(model)
    agency.enable(gated)
    for amount in (0.2, 0.5, 0.8):
        found = []
        for source, method in ((model, "heads-entropy"), (gated, "heads-gate")):
            cut = copy.deepcopy(source)
            resprout.prune(cut, method, amount, calibration=windows)
            found.append(loss(cut, tokens))
        at_random = []
        for seed in range(5):
            cut = copy.deepcopy(model)
            resprout.prune(cut, "heads-random", amount, seed=seed)
            at_random.append(loss(cut, tokens))
        print(
            f"| {amount:.0%} | {found[0]:.3f} | {found[1]:.3f} | "
            f"{min(at_random):.3f} to {max(at_random):.3f} |"
        )


def another_model(model: PreTrainedModel, tokens: TokenSet) -> None:
    """Head outputs were divided by the number of heads: GPT-2 no more."""
    divided = copy.deepcopy(model)
    agency.enable(divided)
    heads = model.config.num_attention_heads
    for layer in range(model.config.num_hidden_layers):
        agency.set_gates(divided, layer, 1 / heads)
    print(
        f"\nHead outputs divided by their number ({heads}): {loss(divided, tokens):.3f} nats per "
        f"token, untouched {loss(model, tokens):.3f}."
    )


def helped_generation(model: PreTrainedModel, tokens: TokenSet, seed: int) -> None:
    """Only the model with agency wrote with a repetition penalty."""
    print("\n| texts of one model | distinct-2 | repetition-3 |")
    print("| --- | --: | --: |")
    starts = torch.randint(len(tokens.val.tokens) - 16, (32,), generator=_drawn(seed))
    prompts = torch.stack([torch.as_tensor(tokens.val.tokens[s : s + 16].astype("int64"))
                           for s in starts.tolist()])  # fmt: skip
    for told, penalty in (("as it is", 1.0), ("with a repetition penalty of 1.2", 1.2)):
        torch.manual_seed(seed)
        written: Tensor = model.generate(
            prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=60, min_new_tokens=60,
            do_sample=True, temperature=0.7, repetition_penalty=penalty, pad_token_id=0,
        )  # fmt: skip
        texts = written[:, 16:].tolist()
        two, three = distinct_n(texts, 2), repetition_n(texts, 3)
        print(f"| {told} | {two:.3f} | {three:.3f} |")


def _drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def main() -> None:
    """Print every table."""
    parser = arguments.Parser(__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/nano-agency"))
    parser.add_argument("--seed", type=arguments.whole(0), default=0)
    given = parser.parse_args()
    spec = read_spec(STUDY)
    plain = next(subject for subject in spec.subjects if subject.agency is None)
    with quiet_transformers():
        subjects = Subjects(spec, given.run, torch.device("cpu"), print)
        model = subjects.get(plain, given.seed).model.eval()
        tokens = subjects.tokens(plain)
        unpruned_baseline(model, tokens)
        gate_for_entropy(model, tokens)
        another_model(model, tokens)
        helped_generation(model, tokens, given.seed)


if __name__ == "__main__":
    main()
