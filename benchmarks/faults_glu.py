"""What the faults of the published GLU measurements do: one model and its cuts, measured both ways.

    python benchmarks/faults_glu.py MODEL [--amounts 0 0.2 0.4] [--new-tokens 450] [--end ID]

MODEL is any GLU model with a tokenizer. For each amount (`glu-maw`, neurons removed): the time to
the first token as published (the whole generation was timed) and as it is; how long a text ran
until its end token; the throughput of a batch with and without the padding behind the end.
"""

import statistics
import time

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import arguments
import resprout
from resprout.measure.speed.decoding import Decoder
from resprout.models.quiet import quiet_transformers

OPENINGS = [
    f"Once upon a time, there was a {who}"
    for who in ("girl", "boy", "dog", "cat", "tree", "red car", "big house", "little bird")
]


def generated(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: list[str],
    most: int,
    end: int,
) -> tuple[float, list[int], int]:
    """Seconds of a sampled generation, each text's tokens to its end, and all columns counted."""
    tokenizer.padding_side = "left"
    inputs = tokenizer(texts, return_tensors="pt", padding=True)
    inputs.pop("token_type_ids", None)
    T = inputs["input_ids"].shape[1]
    torch.manual_seed(0)
    started = time.perf_counter()
    found = model.generate(
        **inputs, max_new_tokens=most, do_sample=True, eos_token_id=end, pad_token_id=end
    )
    seconds = time.perf_counter() - started
    lengths = []
    for row in found[:, T:].tolist():
        lengths.append(row.index(end) + 1 if end in row else len(row))
    return seconds, lengths, found[:, T:].numel()


def main() -> None:
    """Print the table."""
    parser = arguments.Parser(__doc__)
    parser.add_argument("model")
    parser.add_argument("--amounts", nargs="+", type=arguments.amount, default=[0, 0.2, 0.4])
    parser.add_argument("--new-tokens", type=arguments.whole(), default=450)
    parser.add_argument(
        "--end", type=arguments.whole(0), help="token that ends a text; default the tokenizer's"
    )
    given = parser.parse_args()
    print(
        "| cut | first token, as published | as it is | tokens per text | tokens/s, padding too |"
    )
    print("| --- | --: | --: | --: | --: |")
    with quiet_transformers():
        for amount in given.amounts:
            model, tokenizer = resprout.load(given.model)
            assert tokenizer is not None, "it is a model with a tokenizer"
            tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
            end = tokenizer.eos_token_id if given.end is None else given.end
            if amount > 0:
                resprout.prune(model, "glu-maw", amount, cut="remove")
            model.eval()
            whole, lengths, first = [], [], []
            decoder = Decoder(model)
            for text in OPENINGS:
                seconds, [length], _ = generated(model, tokenizer, [text], given.new_tokens, end)
                whole.append(1e3 * seconds)
                lengths.append(length)
                ids = tokenizer(text, return_tensors="pt")["input_ids"]
                with torch.inference_mode():
                    first.append(1e3 * decoder.run(ids, 2).first_seconds)
            seconds, ends, columns = generated(model, tokenizer, OPENINGS, given.new_tokens, end)
            print(
                f"| {amount:.0%} | {statistics.median(whole):.1f} ms | "
                f"{statistics.median(first):.2f} ms | {statistics.mean(lengths):.0f} | "
                f"{sum(ends) / seconds:,.0f}, {columns / seconds:,.0f} "
                f"({columns / sum(ends) - 1:+.0%}) |"
            )


if __name__ == "__main__":
    main()
