"""The text measure: what a model writes, its figures, and the verdicts on it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from resprout.measure.figure import Measured
from resprout.measure.text.baseline import Baseline
from resprout.measure.text.code import code_parses
from resprout.measure.text.lengths import encode, room
from resprout.measure.text.options import TextOptions
from resprout.measure.text.prompts import named_prompts
from resprout.measure.text.reference import Reference, Scored, same_tokens, score
from resprout.measure.text.repetition import (
    COMPRESSION_BYTES,
    compression_ratio,
    distinct_n,
    is_looping,
    longest_run,
    repetition_n,
)
from resprout.measure.text.summary import figures_of
from resprout.measure.text.verdict import judge, of_all
from resprout.measure.text.writing import Text, write


def measure_text(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    options: TextOptions | None = None,
    reference: Reference | None = None,
    uncut: Measured | Mapping[str, Any] | None = None,
) -> Measured:
    """Have a model continue prompts, and measure and judge what it writes.

    Args:
        model: on its device; put in evaluation mode here.
        tokenizer: its own; not changed.
        options: prompts and how they are continued; default all defaults.
        reference: a model that judges the texts, usually the uncut subject; None = no perplexity.
        uncut: what this function found of the uncut subject with the same options and reference
            (or its details): verdicts then see nonsense in good words too.

    Returns:
        Figures over texts, and details: `samples` (each text with its own figures and verdict),
        `verdicts`, `thresholds`, and the options.

    Raises:
        ValueError: a prompt does not fit, or `uncut` was measured otherwise.
        FloatingPointError: a logit, or the reference's loss, is not a number.
    """
    options = options or TextOptions()
    baseline = (
        Baseline(uncut, options.temperature, options.top_k, reference)
        if uncut is not None
        else None
    )
    encoded = encode(model, tokenizer, named_prompts(options.prompts))
    new_tokens = room(model, encoded, options.new_tokens)
    texts, batches = write(
        model,
        tokenizer,
        encoded,
        new_tokens,
        options.temperature,
        options.top_k,
        options.seeds,
        options.batch_texts,
    )
    began = time.perf_counter()
    scored: list[Scored] | list[None] = [None] * len(texts)
    if reference is not None:
        scored = score(reference, tokenizer, texts)
    scoring_seconds = time.perf_counter() - began
    samples = [
        _sample(text, own, options, baseline) for text, own in zip(texts, scored, strict=True)
    ]
    judged = None
    if reference is not None:
        same = same_tokens(tokenizer, reference.tokenizer)
        judged = {"name": reference.name, "tokens": "as written" if same else "its own"}
    details = {
        "distinct_1": distinct_n([text.ids for text in texts], 1),
        "distinct_2": distinct_n([text.ids for text in texts], 2),
        "distinct_3": distinct_n([text.ids for text in texts], 3),
        "repetition_3": repetition_n([text.ids for text in texts], 3),
        "new_tokens": new_tokens,
        "new_tokens_asked": options.new_tokens,
        "temperature": options.temperature,
        "top_k": options.top_k,
        "seed": options.seeds[0],
        "seeds": list(options.seeds),
        "batch_texts": options.batch_texts,
        "code_categories": list(options.code_categories),
        "reference": judged,
        "thresholds": asdict(options.thresholds),
        "verdicts": _verdicts(samples, options, judged, baseline),
        "samples": samples,
    }
    figures = figures_of(texts, samples, batches, details, scoring_seconds)
    return Measured(figures, details)


def generate_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Mapping[str, str | Sequence[str]],
    new_tokens: int | None,
    temperature: float,
    top_k: int,
    seed: int,
) -> dict[str, Any]:
    """The details of `measure_text` without a reference: nothing in them depends on the clock."""
    options = TextOptions(prompts, new_tokens, temperature, top_k, (seed,))
    return measure_text(model, tokenizer, options).details


def _sample(
    text: Text, scored: Scored | None, options: TextOptions, baseline: Baseline | None
) -> dict[str, Any]:
    """A text with its own figures and verdict, as plain JSON."""
    code = text.prompt.category in options.code_categories
    run = longest_run(text.ids)
    compressible = len(text.text.encode("utf-8", "surrogatepass")) >= COMPRESSION_BYTES
    ratio = baseline.ratio(text.prompt.text, scored) if baseline and scored else None
    verdict = judge(text.text, code, options.thresholds, ratio)
    return {
        "category": text.prompt.category,
        "name": text.prompt.name,
        "prompt": text.prompt.text,
        "text": text.text,
        "tokens": len(text.ids),
        "ended": text.ended,
        "seed": text.seed if options.temperature > 0 else None,
        **{f"distinct_{n}": distinct_n([text.ids], n) for n in (1, 2, 3)},
        **{f"repetition_{n}": repetition_n([text.ids], n) for n in (1, 2, 3, 4)},
        "longest_run_tokens": run.tokens,
        "longest_run_period": run.period,
        "looping": is_looping(text.ids),
        "compression_ratio": compression_ratio(text.text) if compressible else None,
        "code_parses": code_parses(text.prompt.text, text.text, text.ended) if code else None,
        "reference_nats": scored.nats if scored else None,
        "reference_tokens": scored.tokens if scored else None,
        "perplexity_ratio": ratio,
        "verdict": verdict.verdict,
        "why": verdict.why,
    }


def _verdicts(
    samples: Sequence[dict[str, Any]],
    options: TextOptions,
    judged: dict[str, str] | None,
    baseline: Baseline | None,
) -> dict[str, Any]:
    """The verdicts on all texts and on each category, and what they rest on."""
    share = options.thresholds.level_share
    by_category: dict[str, list[str]] = {}
    for sample in samples:
        by_category.setdefault(sample["category"], []).append(sample["verdict"])
    found = [sample["verdict"] for sample in samples]
    basis = "repetition and characters alone: nonsense in good words is not seen"
    if judged is not None and baseline is not None:
        basis = (
            "repetition, characters, and perplexity under the reference "
            f"{judged['name']!r} over that of the uncut subject's texts"
        )
    return {
        "all": of_all(found, share),
        "categories": {name: of_all(own, share) for name, own in by_category.items()},
        "texts": {verdict: found.count(verdict) for verdict in sorted(set(found))},
        "rule": f"the worst that at least {share:.3g} of the texts have, worse ones counted in",
        "basis": basis,
    }
