"""The figures of the text measure, each with its protocol."""

import math
from collections.abc import Sequence
from typing import Any

from resprout.measure.figure import Figure
from resprout.measure.text.figures import (
    count_figure,
    distinct_figure,
    mean_figure,
    ratio_figure,
)
from resprout.measure.text.repetition import COMPRESSION_BYTES, LOOP_REPEATS, LOOP_TOKENS
from resprout.measure.text.verdict import COLLAPSED, FINE
from resprout.measure.text.writing import Batch, Text

_OVER = "; mean over texts, jackknife over prompts"
_COUNTED = "; Wilson's interval"


def figures_of(
    texts: Sequence[Text],
    samples: Sequence[dict[str, Any]],
    batches: Sequence[Batch],
    details: dict[str, Any],
    scoring_seconds: float,
) -> dict[str, Figure]:
    """All figures of the texts.

    Args:
        texts: as written.
        samples: the same with their own figures, in the same order.
        batches: as written.
        details: of the measure: how the texts were written and judged.
        scoring_seconds: what the reference took.
    """
    prompts = [text.prompt.name for text in texts]
    seconds = sum(batch.seconds for batch in batches)
    how = _written(details)

    def mean(key: str, unit: str, protocol: str, absent: str = "no text") -> Figure:
        values = [None if sample[key] is None else float(sample[key]) for sample in samples]
        return mean_figure(values, prompts, unit, f"{protocol}{_OVER}; {how}", seconds, absent)

    def share(hits: Sequence[bool | None], protocol: str, absent: str = "no text") -> Figure:
        return count_figure(hits, prompts, f"{protocol}{_COUNTED}; {how}", seconds, absent)

    ids = [text.ids for text in texts]
    figures = {
        f"distinct_{n}": distinct_figure(
            ids,
            prompts,
            n,
            f"different over all {n}-grams of tokens, all texts together (Li et al. 2016): the "
            f"more tokens, the lower, here {sum(map(len, ids))}; jackknife over prompts; {how}",
            seconds,
        )
        for n in (1, 2, 3)
    }
    for n in (1, 2, 3, 4):
        figures[f"repetition_{n}"] = mean(
            f"repetition_{n}",
            "share",
            f"share of {n}-grams of tokens already seen in the text (Welleck et al. 2019, seq-rep)",
            f"no text has {n} tokens",
        )
    figures["longest_run"] = mean(
        "longest_run_tokens", "tokens", "tokens in the longest stretch that repeats one period"
    )
    figures["looping_share"] = share(
        [sample["looping"] for sample in samples],
        f"share of texts whose last {LOOP_TOKENS} tokens or more are one period "
        f"{LOOP_REPEATS} times or more",
    )
    short = f"no text has {COMPRESSION_BYTES} bytes: short ones compress badly whatever they say"
    figures["compression_ratio"] = mean(
        "compression_ratio",
        "bytes per byte",
        f"UTF-8 bytes over those of zlib at level 9, texts of {COMPRESSION_BYTES} bytes or more",
        short,
    )
    figures["code_parses_share"] = share(
        [sample["code_parses"] for sample in samples],
        "share of code texts whose whole lines, with the prompt, ast.parse accepts",
        f"no prompt of the category {' or '.join(details['code_categories'])}",
    )
    figures |= _reference(samples, prompts, details, scoring_seconds)
    judged = [sample["verdict"] for sample in samples]
    rule = f"by the thresholds beside it, resting on {details['verdicts']['basis']}"
    figures["degraded_share"] = share(
        [verdict != FINE for verdict in judged], f"share of repetitive or collapsed texts {rule}"
    )
    figures["collapsed_share"] = share(
        [verdict == COLLAPSED for verdict in judged], f"share of collapsed texts {rule}"
    )
    figures["tokens_per_text"] = mean("tokens", "tokens", "new tokens without the end of text")
    figures["tokens_per_second"] = ratio_figure(
        [batch.tokens for batch in batches],
        [batch.seconds for batch in batches],
        [str(number) for number in range(len(batches))],
        "tokens/s",
        f"real new tokens, ends of text among them, over the time of generation; batches of up to "
        f"{details['batch_texts']} texts, {len(texts)} in all, no warm-up; jackknife over batches; "
        f"{how}",
        seconds,
        "no text",
        alone="one batch, which has no spread",
    )
    return figures


def _written(details: dict[str, Any]) -> str:
    """How the texts were written, in a few words."""
    if details["temperature"] == 0:
        return f"up to {details['new_tokens']} new tokens, greedy"
    top = f"top-{details['top_k']}" if details["top_k"] else "all tokens"
    seeds = ", ".join(map(str, details["seeds"]))
    return (
        f"up to {details['new_tokens']} new tokens, temperature {details['temperature']:g}, {top}, "
        f"seed {seeds}"
    )


def _reference(
    samples: Sequence[dict[str, Any]],
    prompts: Sequence[str],
    details: dict[str, Any],
    seconds: float,
) -> dict[str, Figure]:
    """The texts' perplexity under the reference."""
    judged = details["reference"]
    absent = "no reference was given" if judged is None else "nothing was written"
    protocol = "cross-entropy of the continuations given their prompts, over all their tokens"
    if judged is not None:
        protocol += f"; reference {judged['name']!r}, tokens {judged['tokens']}"
    protocol += f"; jackknife over prompts; {_written(details)}"
    there = [(s, name) for s, name in zip(samples, prompts, strict=True) if s["reference_tokens"]]
    totals = [float(sample["reference_nats"]) for sample, _ in there]
    sizes = [float(sample["reference_tokens"]) for sample, _ in there]
    names = [name for _, name in there]
    return {
        "reference_nats_per_token": ratio_figure(
            totals, sizes, names, "nats per token", protocol, seconds, absent
        ),
        "reference_perplexity": ratio_figure(
            totals, sizes, names, "perplexity", protocol, seconds, absent, through=math.exp
        ),
    }
