"""What names a model's shape and a trained model's weights: equal names, equal models."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import cached_file

from resprout.files import file_sha256
from resprout.models.names import SIZES, is_published
from resprout.models.sizes import configuration


def shape_identity(config: PreTrainedConfig) -> dict[str, Any]:
    """A configuration without what does not change the model."""
    values: dict[str, Any] = config.to_dict()
    for name in ("transformers_version", "_name_or_path", "dtype", "architectures"):
        values.pop(name, None)
    return values


def weights_identity(name: str, revision: str | None) -> str:
    """The files' sha256 of a local model, the commit of one from the Hub's cache.

    A size's weights are random, always from the same seed: its configuration names them.
    """
    if name in SIZES:
        shape = json.dumps(shape_identity(configuration(name)), sort_keys=True)
        return hashlib.sha256(shape.encode()).hexdigest()
    if Path(name).is_dir():
        return files_digest(Path(name))
    if is_published(name):
        return file_sha256(Path(name))
    found = cached_file(name, "config.json", revision=revision)
    assert found is not None
    return Path(found).parent.name  # the Hub cache keeps each file under snapshots/COMMIT/


def weights_digest(model: PreTrainedModel) -> str:
    """sha256 over a model's configuration and all its parameters, as they are in memory."""
    shape = json.dumps(shape_identity(model.config), sort_keys=True, default=str)
    total = hashlib.sha256(shape.encode())
    for name, parameter in model.named_parameters():
        total.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}".encode())
        values = parameter.detach().cpu().contiguous().flatten()
        total.update(values.view(torch.uint8).numpy().data)
    return total.hexdigest()


def files_digest(folder: Path) -> str:
    """sha256 over the configuration, the weights and the tokenizer of a model folder."""
    files = [*folder.glob("*.safetensors"), *folder.glob("*.bin"), *folder.glob("tokenizer*.json")]
    total = hashlib.sha256()
    for file in sorted([*files, folder / "config.json"]):
        total.update(file_sha256(file).encode())
    return total.hexdigest()
