"""What a subject may be called, and whether it can be had. No torch: a wrong name fails at once."""

import os
from pathlib import Path
from typing import Any

from resprout.files import read_json
from resprout.hints import did_you_mean
from resprout.hub import ask_for_model, cached_file, gated, hub_reason

MANIFEST = "cut.json"
CHECKPOINT_SUFFIXES = (".pt", ".pth", ".ckpt")  # of the published BioGPT program
CONTROLS = ("gpt-neox", "llama", "gpt2")
SIZES = tuple(
    f"{family}-{size}" for family in ("biogpt", *CONTROLS) for size in ("nano", "30m", "294m", "1b")
)
# What the configuration of each family of sizes calls itself.
_MODEL_TYPES = {"biogpt": "dendritic_biogpt", "gpt-neox": "gpt_neox"}


def is_published(path: str | Path) -> bool:
    """Whether a name means a checkpoint file of the published BioGPT program."""
    return Path(path).suffix in CHECKPOINT_SUFFIXES and Path(path).is_file()


def check_subject(name: str, revision: str | None = None) -> None:
    """Refuse a name that nothing answers to: no size, no folder, no checkpoint, nothing of the Hub.

    The Hub is asked once, and only for what is not in its cache.

    Raises:
        ValueError: what the name is not, and why.
    """
    if name in SIZES or is_published(name):
        return
    folder = Path(name)
    if os.path.lexists(folder):  # unlike Path.exists, no error for a name that is too long
        if not (folder / "config.json").is_file():
            raise ValueError(
                f"subject: {name!r} is neither a model folder (it has no config.json) nor a "
                f"checkpoint file ({', '.join(CHECKPOINT_SUFFIXES)})"
            )
        if not isinstance(read_json(folder / "config.json"), dict):
            raise ValueError(f"subject: {name!r} has a config.json that is not a mapping")
        return
    if folder.suffix in CHECKPOINT_SUFFIXES:
        raise ValueError(f"subject: there is no file {name!r}")
    try:
        if cached_file(name, "config.json", revision) is None:
            ask_for_model(name, revision)
    except Exception as error:  # many libraries' errors, all meaning that it cannot be had
        raise not_to_be_had(name, error) from error


def not_to_be_had(name: str, error: BaseException) -> ValueError:
    """What to say of a subject that some library could not get."""
    if said := gated(error, name):
        return ValueError(f"subject: {said}")
    return ValueError(
        f"subject: {name!r} is neither a size ({', '.join(sorted(SIZES))}), nor a local model "
        f"folder, nor to be had from the Hub ({hub_reason(error)}){did_you_mean(name, SIZES)}"
    )


def plain_configuration(name: str, revision: str | None = None) -> dict[str, Any] | None:
    """What a subject's `config.json` says, as it stands there; None where there is none at hand.

    Args:
        name: as `check_subject`, which has been asked. Of a size only the `model_type` is told.
        revision: of a Hub model, which is looked for in the cache.
    """
    if name in SIZES:
        family = name.rpartition("-")[0]
        return {"model_type": _MODEL_TYPES.get(family, family)}
    if is_published(name):
        return {"model_type": _MODEL_TYPES["biogpt"]}
    file = "config.json"
    found = str(Path(name) / file) if os.path.lexists(name) else cached_file(name, file, revision)
    plain = read_json(Path(found)) if found is not None else None
    return plain if isinstance(plain, dict) else None
