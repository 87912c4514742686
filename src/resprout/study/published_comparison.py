"""The published BioGPT comparison as a study: a trained BioGPT against Pythia, on prepared text."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from transformers import PreTrainedConfig

from resprout.data.tokens import TokenSet
from resprout.files import read_json
from resprout.measure.text.prompts import TWELVE, named_prompts
from resprout.models.device import resolve_device
from resprout.models.positions import position_limit
from resprout.models.subject import load_configuration
from resprout.study.converted_checkpoint import model_folder
from resprout.study.published_request import FINAL, Request, check_request, under_flag
from resprout.study.spec import StudySpec
from resprout.study.spec_errors import one_line
from resprout.train.run_folder import RECIPE

Notice = Callable[[str], None]

STUDY = "biogpt-comparison"
BIOGPT = "BioGPT"
WINDOW_TOKENS = 1024
NEW_TOKENS = 120  # the published texts have 40 to 120, by prompt; the engine has one number
# The published levels, each subject's own.
BIOGPT_AMOUNTS = (0.0, 0.25, 0.45, 0.7, 0.9)
CONTROL_AMOUNTS = (0.0, 0.25, 0.5, 0.7, 0.9)
DEAD_THRESHOLD = 0.95


@dataclass(frozen=True)
class Planned:
    """A comparison that can be run.

    Attributes:
        spec: the study.
        device: where.
        control: the name of the subject that BioGPT is compared with.
    """

    spec: StudySpec
    device: torch.device
    control: str


def plan_comparison(request: Request, notice: Notice) -> Planned:
    """The study that the flags ask for. A `.pt` checkpoint is converted; nothing is trained.

    Args:
        request: the flags.
        notice: told what was decided that the flags do not say.

    Raises:
        ValueError: data, checkpoint, control, device or folder is not to be had, or they do not
            fit one another; the message names the flag.
    """
    check_request(request)
    device = resolve_device(request.device)
    tokens = under_flag("data_dir", lambda: TokenSet.open(request.data_dir))
    biogpt_name, (control, revision) = str(request.biogpt_ckpt), request.control
    shapes = {
        "biogpt_ckpt": under_flag("biogpt_ckpt", lambda: load_configuration(biogpt_name)),
        "pythia": under_flag("pythia", lambda: load_configuration(control, revision)),
    }
    _check_vocabularies(tokens, shapes)
    limits = [limit for limit in map(position_limit, shapes.values()) if limit is not None]
    window = min([WINDOW_TOKENS, *limits])
    new_tokens = _new_tokens(tokens, limits)
    if window < WINDOW_TOKENS:
        notice(f"windows of {window} tokens: no more fit both models")
    if new_tokens < NEW_TOKENS:
        notice(f"texts of {new_tokens} new tokens: no more fit both models with their prompts")
    name = control_name(control)
    biogpt = model_folder(request.biogpt_ckpt, tokens, request.output_dir, notice)
    values = {
        "study": STUDY,
        "question": f"Does BioGPT survive the cutting of single weights better than {name}?",
        "protocol": list(request.protocols),
        "seeds": [request.seed],
        "data": {"source": str(request.data_dir), "window": window},
        "subjects": [
            {"name": BIOGPT, "model": biogpt},
            {"name": name, "model": control, "revision": revision},
        ],
        "cuts": [_cut(BIOGPT, BIOGPT_AMOUNTS), _cut(name, CONTROL_AMOUNTS)],
        "recovery": published_recovery(request.finetune_steps),
        "measures": ["loss", "text"],
        "text": {"prompts": "twelve", "new_tokens": new_tokens, "temperature": 0.7, "top_k": 40},
    }
    try:
        return Planned(StudySpec.model_validate(values), device, name)
    except ValidationError as error:
        raise ValueError(one_line(error, StudySpec)) from error


def published_recovery(steps: int) -> dict[str, Any]:
    """The published fine-tuning: AdamW at a constant rate, on windows that begin anywhere."""
    return {
        "steps": steps,
        "batch_windows": 4,
        "order": "random",
        "learning_rate": 1e-4,
        "min_learning_rate_ratio": 1.0,
        "weight_decay": 0.01,
        "beta2": 0.999,
    }


def control_name(control: str) -> str:
    """How a control is called: by what was trained in it, its folder, or its name on the Hub."""
    path = Path(control)
    named = path.name
    if named == FINAL and path.parent.name:
        named = path.parent.name
        recipe = read_json(path.parent / RECIPE) if (path.parent / RECIPE).is_file() else None
        if isinstance(recipe, dict):  # a run of `train`, which says what it trained
            named = Path(str(recipe.get("model", named))).name
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", named).strip("-._")[:64]
    return name if name and name != BIOGPT else "control"


def _cut(subject: str, amounts: tuple[float, ...]) -> dict[str, Any]:
    return {
        "method": "magnitude",
        "amounts": list(amounts),
        "dead_threshold": DEAD_THRESHOLD,
        "subjects": [subject],
    }


def _check_vocabularies(tokens: TokenSet, shapes: dict[str, PreTrainedConfig]) -> None:
    """Every id of the data has a row in each model's embedding.

    Raises:
        ValueError: it has not.
    """
    needed = tokens.manifest["vocab_size"]
    for flag, shape in shapes.items():
        if shape.vocab_size < needed:
            raise ValueError(
                f"data_dir: its tokenizer has {needed} tokens, the model of {flag} knows only "
                f"{shape.vocab_size}; allowed is data prepared with the model's own tokenizer"
            )


def _new_tokens(tokens: TokenSet, limits: list[int]) -> int:
    """How long texts are: as published, or what the longest prompt leaves."""
    encoder = tokens.tokenizer()
    longest = max(len(encoder.encode(prompt.text).ids) for prompt in named_prompts(TWELVE))
    room = min(limits, default=NEW_TOKENS + longest) - longest
    if room < 1:
        raise ValueError(
            f"data_dir: the longest prompt has {longest} of its tokens, and a model only "
            f"{min(limits)} positions; allowed is a tokenizer of more entries"
        )
    return min(NEW_TOKENS, room)
