"""Text that a model itself believes in: stories drawn from it, as windows of token ids.

    python benchmarks/stories.py MODEL -o OUT [--stories 2000] [--seed 0] [--batch 100]

For a model whose training text is not at hand, such as stories260K. Each story begins with the
beginning of text and is drawn at temperature 1 from the whole distribution (no top-k, no top-p),
until the model ends it (with its end of text, or the beginning of the next) or has no position
left. The stories are joined, each with its beginning of text; one half of them becomes the windows
to calibrate on, the other those to measure on, so no story is in both.

Writes into OUT:
- stories.safetensors: `calibration` and `held_out`, (N, 256) int32 token ids each,
- stories.json: seed, the sha256 of the model's files, counts, digests of the windows, versions,
- sample.txt: three stories as text, to look at.

Prints the rate, and the loss of the model itself on the held-out windows: the entropy of its own
distribution, the least that any model can expect here, but for what it cannot know in a window
that begins within a story.

Equal seed, batch, machine and versions give equal stories. bf16 was no faster (one CPU core, one
batch of 100, stories260K: both 13.5 s); a static cache was (8.9 s).
"""

import sys
import time
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

import arguments
from resprout.data.calibration import as_windows
from resprout.files import file_sha256, new_file, write_json, write_text
from resprout.models.loss import logits_loss
from resprout.models.quiet import quiet_transformers
from resprout.models.subject import load

WINDOW_TOKENS = 256
SHOWN = 3
EVALUATION_BATCH = 16


def special_ids(model: PreTrainedModel) -> tuple[int, set[int]]:
    """The token that a story begins with, and those that end one: the next one's beginning too."""
    settings = model.generation_config
    given = settings.eos_token_id
    ends = set(given if isinstance(given, list) else [] if given is None else [given])
    begin = settings.bos_token_id
    if begin is None:
        begin = min(ends, default=None)
    if begin is None:
        raise ValueError("model: names neither a beginning nor an end of text; allowed is one")
    return begin, ends | {begin}


@torch.inference_mode()
def draw(model: PreTrainedModel, stories: int, batch: int) -> tuple[list[list[int]], int]:
    """Stories as ids, and how many were cut off by the context.

    A story has its beginning of text; its end is kept where it is not the beginning of the next.
    """
    begin, ends = special_ids(model)
    context = model.config.max_position_embeddings
    found: list[list[int]] = []
    cut_off = 0
    for start in tqdm(range(0, stories, batch), unit="batch", disable=not sys.stderr.isatty()):
        ids = torch.full((min(batch, stories - start), 1), begin)
        with quiet_transformers():
            rows = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_length=context,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                eos_token_id=sorted(ends),
                pad_token_id=begin,
                cache_implementation="static",
            )  # (B, up to the context)
        for row in rows.tolist():
            end = next((i for i, token in enumerate(row) if i and token in ends), None)
            cut_off += end is None
            if end is not None:
                row = row[: end + (row[end] != begin)]
            found.append(row)
    return found, cut_off


def windows(stories: list[list[int]]) -> Tensor:
    """(N, 256) adjoining windows of the joined stories; the remainder is dropped."""
    ids = torch.tensor([token for story in stories for token in story], dtype=torch.int32)
    N = len(ids) // WINDOW_TOKENS
    if N < 1:
        raise ValueError(f"stories: got {len(ids)} tokens in half of them, a window takes 256")
    return ids[: N * WINDOW_TOKENS].view(N, WINDOW_TOKENS)


@torch.inference_mode()
def mean_loss(model: PreTrainedModel, ids: Tensor) -> float:
    """Nats per token, over all tokens of all windows (N, T) but each window's first."""
    total = 0.0
    for part in ids.long().split(EVALUATION_BATCH):
        total += float(logits_loss(model, part[:, :-1], part[:, 1:])) * len(part)
    return total / len(ids)


def make(folder: Path, out: Path, stories: int, seed: int, batch: int) -> None:
    for name, value, least in (("stories", stories, 2), ("seed", seed, 0), ("batch", batch, 1)):
        if value < least:
            raise ValueError(f"{name}: got {value}, allowed is {least} or more")
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"model: {str(folder)!r} holds no safetensors; allowed is a model folder")
    with quiet_transformers():
        model, tokenizer = load(folder)
    torch.manual_seed(seed)
    started = time.perf_counter()
    found, cut_off = draw(model, stories, batch)
    seconds = time.perf_counter() - started
    tokens = sum(map(len, found))
    print(
        f"{len(found):,} stories, {tokens:,} tokens in {seconds:.0f} s: {tokens / seconds:,.0f} "
        f"tokens/s, {len(found) / seconds:.1f} stories/s ({torch.get_num_threads()} threads); "
        f"{cut_off} cut off by the context"
    )
    half = len(found) // 2
    halves = {"calibration": windows(found[:half]), "held_out": windows(found[half:])}
    loss = mean_loss(model, halves["held_out"])
    shape = " x ".join(map(str, halves["held_out"].shape))
    print(f"the model's own loss on held_out ({shape}): {loss:.4f} nats per token")
    out.mkdir(parents=True, exist_ok=True)
    with new_file(out / "stories.safetensors") as temporary:
        save_file(halves, temporary)
    if tokenizer is not None:
        shown = [tokenizer.decode(story, skip_special_tokens=True) for story in found[:SHOWN]]
        write_text(out / "sample.txt", "\n\n---\n\n".join(shown) + "\n")
    description = {
        "model": {file.name: file_sha256(file) for file in files},
        "seed": seed,
        "batch": batch,
        "stories": len(found),
        "stories_cut_off": cut_off,
        "tokens": tokens,
        "windows": {
            name: {
                "shape": list(ids.shape),
                "stories": half if name == "calibration" else len(found) - half,
                "digest": as_windows(ids).digest,
            }
            for name, ids in halves.items()
        },
        "held_out_nats_per_token": loss,
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    write_json(out / "stories.json", description)


def main() -> None:
    parser = arguments.Parser(__doc__)
    parser.add_argument("model", type=arguments.there, help="a model folder")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--stories", type=arguments.whole(), default=2000)
    parser.add_argument("--seed", type=arguments.whole(0), default=0)
    parser.add_argument("--batch", type=arguments.whole(), default=100)
    options = parser.parse_args()
    try:
        make(options.model, options.out, options.stories, options.seed, options.batch)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
