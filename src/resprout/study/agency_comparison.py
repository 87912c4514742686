"""The agency comparison as a study: one base, with agency and without, both really cut."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedConfig

from resprout.data import sources
from resprout.models.device import check_precision, resolve_device
from resprout.models.names import SIZES
from resprout.models.positions import position_limit
from resprout.models.sizes import configuration
from resprout.study.comparison_early import as_data, check_early, check_new_tokens, study_name
from resprout.study.comparison_effort import FULL, Effort, held_out_share
from resprout.study.comparison_flags import METHODS, Flags
from resprout.study.comparison_model import find_model
from resprout.study.spec import StudySpec

Notice = Callable[[str], None]
BASELINE, AGENCY = "baseline", "agency"
WINDOW_TOKENS = 128
PROMPT_TOKENS = 32  # of the prompts that are timed
NEW_TOKENS = 100
# What a grown size learns at: of `nano` found by a search, of the larger ones the usual.
_LEARNING_RATES = {"nano": 4e-3, "30m": 1e-3, "294m": 6e-4, "1b": 2e-4}


@dataclass(frozen=True)
class Planned:
    """A comparison that can be run."""

    spec: StudySpec
    device: torch.device


def plan_comparison(flags: Flags, notice: Notice, effort: Effort = FULL) -> Planned:
    """The study that the flags ask for; nothing is trained or written.

    Args:
        flags: see `read_flags`.
        notice: told what was decided that the flags do not say.
        effort: how much is done of what they do not say.

    Raises:
        ValueError: the model, the device, its precision, a length or the folder is not to be had;
            the message names the flag.
    """
    check_early(flags)
    device = resolve_device(flags.device)
    precision = best_precision(device) if flags.precision == "auto" else flags.precision
    check_precision(precision, device)
    name = study_name(flags)
    config = find_model(flags.model_name)
    limit = position_limit(config)
    check_new_tokens(flags, limit)
    new_tokens = _new_tokens(flags, limit, notice)
    documents = as_data(lambda: sources.read_source(flags.data))
    grown = flags.model_name in SIZES
    least = effort.held_out_characters if grown else effort.trained_held_out_characters
    for line in remarks(flags):
        notice(line)
    values = {
        "study": name,
        "question": question(flags),
        "protocol": "fair",
        "seeds": [flags.seed + i for i in range(flags.iterations)],
        "precision": precision,
        "data": {
            "source": flags.data,
            "held_out": held_out_share(documents, least),
            "train_tokenizer": _vocabulary(flags, effort) if grown else None,
            "window": min(WINDOW_TOKENS, limit or WINDOW_TOKENS),
        },
        "subjects": _subjects(flags, effort),
        "cuts": _cuts(flags, effort),
        "recovery": _training(flags.recover_steps, flags, effort),
        "measures": ["loss", "speed", "text"],
        "text": {
            "prompts": {category: list(texts) for category, texts in flags.prompts.items()},
            "new_tokens": new_tokens,
            "temperature": flags.temperatures[0],
            "also_temperatures": list(flags.temperatures[1:]),
        },
        "speed": {
            "batches": [flags.batch_size],
            "prompt_tokens": [max(1, min(PROMPT_TOKENS, (limit or 2**20) - new_tokens))],
            "new_tokens": [new_tokens],
            "repeats": effort.repeats,
            "warmup": effort.warmup,
        },
    }
    if grown:
        values["training"] = {
            "steps": effort.growing_steps,
            "batch_windows": 8,
            "warmup_steps": effort.growing_steps // 20,
            "weight_decay": 0.1,
        }
    if flags.adapt_steps:
        values["adaptation"] = _training(flags.adapt_steps, flags, effort)
    return Planned(StudySpec.model_validate(values), device)


def best_precision(device: torch.device) -> str:
    """What a GPU computes in fastest by itself: bfloat16, else float16; elsewhere float32."""
    if device.type != "cuda":
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def question(flags: Flags) -> str:
    """What the comparison asks, and how both are cut."""
    return (
        f"Does {flags.model_name} keep its quality and speed better when attention heads are "
        f"removed, if they carry agency? {method_words(flags.pruning_method)}"
    )


def method_words(method: str) -> str:
    """How both subjects are cut, in a sentence."""
    baseline, agency = METHODS[method]
    if baseline == agency:
        return f"Both are cut by {baseline}."
    return (
        f"Agency is cut by {agency}, its most closed gates first; the baseline has no gates and is "
        f"cut by {baseline}, the first-order effect of a gate at 1."
    )


def remarks(flags: Flags) -> list[str]:
    """What somebody who reads the figures should know of the flags."""
    found = [method_words(flags.pruning_method)]
    if not flags.adapt_steps:
        found.append("adapt_steps 0: no gate is learned, agency's heads differ by state alone")
    if not flags.recover_steps:
        found.append("recover_steps 0: neither subject is trained after a cut")
    return found


def _new_tokens(flags: Flags, limit: int | None, notice: Notice) -> int:
    if flags.num_tokens is None:
        fitting = min(NEW_TOKENS, limit // 2) if limit is not None else NEW_TOKENS
        if fitting < NEW_TOKENS:
            notice(f"num_tokens: {fitting}, for {flags.model_name} has {limit} positions")
        return fitting
    return flags.num_tokens


def _vocabulary(flags: Flags, effort: Effort) -> int:
    config: PreTrainedConfig = configuration(flags.model_name)
    return effort.vocabulary or int(config.vocab_size)


def _subjects(flags: Flags, effort: Effort) -> list[dict[str, Any]]:
    base: dict[str, Any] = {"model": flags.model_name}
    if flags.model_name in SIZES:
        base["learning_rate"] = _LEARNING_RATES[flags.model_name.rpartition("-")[2]]
    agency: dict[str, Any] = {"calibration_windows": effort.calibration_windows}
    if flags.adapt_steps and flags.gate_penalty is not None:
        agency["gate_penalty"] = flags.gate_penalty
    return [{"name": BASELINE, **base}, {"name": AGENCY, **base, "agency": agency}]


def _cuts(flags: Flags, effort: Effort) -> list[dict[str, Any]]:
    amounts = [level / 100 for level in flags.pruning_levels]
    baseline, agency = METHODS[flags.pruning_method]
    shared: dict[str, Any] = {"amounts": amounts, "cut": "remove"}
    shared["calibration_windows"] = effort.scored_windows
    if baseline == agency:
        return [{"method": baseline, **shared}]
    return [
        {"method": baseline, **shared, "subjects": [BASELINE]},
        {"method": agency, **shared, "subjects": [AGENCY]},
    ]


def _training(steps: int, flags: Flags, effort: Effort) -> dict[str, Any]:
    """Adaptation or recovery: what was trained before on much text moves by smaller steps."""
    grown = flags.model_name in SIZES
    return {
        "steps": steps,
        "batch_windows": effort.batch_windows if grown else effort.trained_batch_windows,
        "learning_rate": 5e-4 if grown else 5e-5,
        "warmup_steps": steps // 10,
        "weight_decay": 0.01,
    }
