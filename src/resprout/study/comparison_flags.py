"""The flags of the agency comparison, read and checked: light, so a mistake is told at once."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resprout.files import unwritable
from resprout.hints import did_you_mean
from resprout.models.sampling import TEMPERATURES, is_temperature

# As published -> (what cuts the baseline, what cuts the subject with agency).
METHODS = {
    "entropy": ("heads-entropy", "heads-entropy"),
    "random": ("heads-random", "heads-random"),
    "magnitude": ("heads-magnitude", "heads-magnitude"),
    "taylor": ("heads-taylor", "heads-taylor"),
    "gate": ("heads-taylor", "heads-gate"),
}
PRECISIONS = ("float32", "bfloat16", "float16", "auto")


@dataclass(frozen=True)
class Flags:
    """What a comparison was asked for; the names are the published flags.

    Attributes:
        pruning_levels: per cent of the heads, ascending, each once.
        num_tokens: None = 100, or half of the positions of a model that has fewer than 200.
        prompts: category -> prompts.
        gate_penalty: None = gates are plain parameters, learned at the adaptation's own rate.
    """

    model_name: str
    device: str
    precision: str
    pruning_levels: tuple[float, ...]
    pruning_method: str
    num_tokens: int | None
    temperatures: tuple[float, ...]
    prompts: Mapping[str, tuple[str, ...]]
    iterations: int
    batch_size: int
    output_dir: Path
    recover_steps: int
    adapt_steps: int
    gate_penalty: float | None
    data: str
    seed: int


def read_flags(given: Mapping[str, Any]) -> Flags:
    """The words of a command line as what they mean.

    Args:
        given: flag -> its text; `num_tokens` and `prompt_file` may be None.

    Raises:
        ValueError: one line that names the flag, what it got and what is allowed.
    """
    method = given["pruning_method"]
    if method not in METHODS:
        hint = did_you_mean(method, METHODS)
        raise ValueError(f"pruning_method: got {method!r}, allowed are {', '.join(METHODS)}{hint}")
    precision = given["precision"]
    if precision not in PRECISIONS:
        hint = did_you_mean(precision, PRECISIONS)
        raise ValueError(f"precision: got {precision!r}, allowed are {', '.join(PRECISIONS)}{hint}")
    tokens = given["num_tokens"]
    most = _count("max_prompts", given["max_prompts"], 1)
    return Flags(
        model_name=given["model_name"],
        device=given["device"],
        precision=precision,
        pruning_levels=_levels(given["pruning_levels"]),
        pruning_method=method,
        num_tokens=None if tokens is None else _count("num_tokens", tokens, 1),
        temperatures=_temperatures(given["temperatures"]),
        prompts=_prompts(given["prompt_file"], most),
        iterations=_count("iterations", given["iterations"], 1),
        batch_size=_count("batch_size", given["batch_size"], 1),
        output_dir=_folder(given["output_dir"]),
        recover_steps=_count("recover_steps", given["recover_steps"], 0),
        adapt_steps=_count("adapt_steps", given["adapt_steps"], 0),
        gate_penalty=_penalty(given["gate_penalty"]),
        data=given["data"],
        seed=_count("seed", given["seed"], 0),
    )


def _count(flag: str, text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise ValueError(f"{flag}: got {text!r}, allowed is a whole number") from None
    if not least <= value < 2**20:
        raise ValueError(f"{flag}: got {value}, allowed is {least} to {2**20 - 1}")
    return value


def _numbers(flag: str, text: str) -> list[float]:
    """Comma-separated numbers, each once."""
    found = []
    for word in text.split(","):
        try:
            value = float(word)
        except ValueError:
            raise ValueError(
                f"{flag}: got {word.strip()!r}, allowed are numbers, comma-separated"
            ) from None
        if not math.isfinite(value):
            raise ValueError(f"{flag}: got {word.strip()}, allowed are numbers that are finite")
        if value in found:
            raise ValueError(f"{flag}: got {value:g} twice, allowed is each once")
        found.append(value + 0.0)  # -0 is 0
    return found


def _levels(text: str) -> tuple[float, ...]:
    levels = sorted(_numbers("pruning_levels", text))
    for level in levels:
        if level >= 100:
            raise ValueError(
                f"pruning_levels: got {level:g}, allowed is 0 to below 100 per cent: it would "
                "remove every head of a layer"
            )
        if level < 0:
            raise ValueError(f"pruning_levels: got {level:g}, allowed is 0 to below 100 per cent")
    return tuple(levels)


def _temperatures(text: str) -> tuple[float, ...]:
    found = _numbers("temperatures", text)
    for temperature in found:
        if not is_temperature(temperature):
            raise ValueError(f"temperatures: got {temperature:g}, allowed is {TEMPERATURES}")
    return tuple(found)


def _penalty(text: str) -> float | None:
    if text == "none":
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"gate_penalty: got {text!r}, allowed is a number from 0, or none")
    return value


def _folder(text: str) -> Path:
    """A folder that is there or can be made."""
    folder = Path(text)
    if os.path.lexists(folder) and not folder.is_dir():
        raise ValueError(f"output_dir: got {text!r}, a file; allowed is a folder")
    if (blocked := unwritable(folder)) is not None:
        raise ValueError(f"output_dir: got {text!r}, allowed is a folder that can be written: "
                         f"{str(blocked)!r} cannot")  # fmt: skip
    return folder


def _prompts(file: str | None, most: int) -> dict[str, tuple[str, ...]]:
    """The first prompts of the house's twelve, or of a file with one prompt per line."""
    if file is not None:
        return {"prompt": _prompt_lines(file)[:most]}
    from resprout.measure.text.prompts import TWELVE, named_prompts

    chosen: dict[str, tuple[str, ...]] = {}
    for prompt in named_prompts(TWELVE)[:most]:
        chosen[prompt.category] = (*chosen.get(prompt.category, ()), prompt.text)
    return chosen


def _prompt_lines(file: str) -> tuple[str, ...]:
    try:
        text = Path(file).read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"prompt_file: {file!r} is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise ValueError(f"prompt_file: {file!r} cannot be read ({error.strerror})") from error
    lines = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not lines:
        raise ValueError(f"prompt_file: {file!r} is empty, allowed is one prompt per line")
    return lines
