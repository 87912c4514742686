"""The published program's checkpoints, `.pt` files: read without executing anything, and written.

A checkpoint is a dict with `step`, `model_state_dict`, `optimizer_state_dict`, `val_loss`,
`config` and `tokens_processed`. The names of the weights are our own without the prefix `model.`;
those of the configuration are the published program's.
"""

import pickle
import warnings
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resprout.files import new_file
from resprout.models.biogpt.configuration import BioGPTConfig
from resprout.models.biogpt.modeling import BioGPTForCausalLM

# The published program's field -> ours. Its `nmda_tau` only sets start values, and `use_checkpoint`
# only says how it was trained: neither changes what the weights mean.
_FIELDS = {
    theirs: BioGPTConfig.attribute_map.get(theirs, theirs)
    for theirs in (
        "vocab_size",
        "d_model",
        "n_layers",
        "soma_ffn_expansion",
        "dropout",
        "max_seq_len",
        "n_passes",
        "cortical_layout",
        "feedback_pairs",
    )
}
_UNUSED = {"nmda_tau": 0.9, "use_checkpoint": False}
_REQUIRED = ("vocab_size", "d_model", "n_layers", "max_seq_len")
# What training left in the names of weights: torch.compile's and DistributedDataParallel's prefix.
_WRAPPERS = ("_orig_mod.", "module.")


def read_config(path: str | Path) -> BioGPTConfig:
    """The configuration of a published checkpoint. Errors as `read_published`."""
    return _configuration(_read(Path(path)), Path(path))


def read_published(path: str | Path) -> BioGPTForCausalLM:
    """The model of a published checkpoint, in the checkpoint's type, in training mode.

    What it holds beside weights and configuration (`step`, `val_loss`, `tokens_processed`, the
    unused fields of its configuration) is kept as the configuration's `published`; the optimiser's
    state is not.

    Raises:
        ValueError: not a file that torch reads with `weights_only=True`, or not such a checkpoint;
            the message names what is wrong.
    """
    path = Path(path)
    checkpoint = _read(path)
    config = _configuration(checkpoint, path)
    state = {}
    for name, tensor in checkpoint["model_state_dict"].items():
        if not isinstance(name, str):
            raise ValueError(
                f"{path}: not a published BioGPT checkpoint: model_state_dict has the key "
                f"{name!r:.80}, allowed are names of weights"
            )
        for wrapper in _WRAPPERS:
            name = name.removeprefix(wrapper)
        state[name if name.startswith("lm_head.") else f"model.{name}"] = tensor
    with torch.device("meta"):
        model = BioGPTForCausalLM(config)
    expected = model.state_dict()
    missing, unknown = sorted(expected.keys() - state), sorted(state.keys() - expected.keys())
    for what, names in (("lacks", missing), ("has the unknown", unknown)):
        if names:
            raise ValueError(
                f"{path}: does not fit its configuration: {what} {names[0].removeprefix('model.')}"
                f" ({len(names)} such weights)"
            )
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor) or tensor.shape != expected[name].shape:
            got = list(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ValueError(
                f"{path}: does not fit its configuration: {name.removeprefix('model.')} is {got}, "
                f"needed is {list(expected[name].shape)}"
            )
    model.load_state_dict(state, assign=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model


def write_published(model: BioGPTForCausalLM, path: str | Path) -> None:
    """Write a model as a checkpoint that the published program reads, whole or not at all.

    Raises:
        ValueError: `path` exists, or the model has what the published program does not know.
    """
    path, config = Path(path), model.config
    if path.exists():
        raise ValueError(f"path: {str(path)!r} exists; allowed is a new file")
    plain = BioGPTConfig()
    for field in ("nmda", "branch_expansion", "conv_kernel_size", "layer_norm_eps"):
        value, known = getattr(config, field), getattr(plain, field)
        if value != known:
            raise ValueError(f"{field}: got {value!r}, the published program knows only {known!r}")
    for entry in chain.from_iterable(config.cortical_layout or []):
        if not isinstance(entry, int):
            raise ValueError(
                f"cortical_layout: got a neuron of {entry!r} (branches, width), the published "
                "program knows only plain branch counts"
            )
    kept = dict(getattr(config, "published", None) or {})
    fields = {theirs: getattr(config, ours) for theirs, ours in _FIELDS.items()}
    fields["soma_ffn_expansion"] = float(config.soma_expansion)
    # The published rule is written as published: as None.
    by_rule = BioGPTConfig(
        hidden_size=config.hidden_size, num_hidden_layers=config.num_hidden_layers
    )
    for field in ("cortical_layout", "feedback_pairs"):
        if fields[field] == getattr(by_rule, field):
            fields[field] = None
    checkpoint = {
        "step": kept.pop("step", 0),
        "model_state_dict": {
            name.removeprefix("model."): tensor.detach().cpu().contiguous()
            for name, tensor in model.state_dict().items()
        },
        "optimizer_state_dict": {},
        "val_loss": kept.pop("val_loss", None),
        "tokens_processed": kept.pop("tokens_processed", 0),
        "config": {**fields, **_UNUSED, **kept},
    }
    with new_file(path) as temporary, temporary.open("wb") as file:
        torch.save(checkpoint, file)


def _read(path: Path) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch doubts old pickles; it reads or refuses them
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path}: refused: it holds more than tensors and plain values, and reading it would "
            f"execute code ({_reason(error)})"
        ) from error
    except Exception as error:  # torch has many errors for what is no such file, or a damaged one
        raise ValueError(f"{path}: not a file of torch, or damaged ({_reason(error)})") from error
    for key in ("model_state_dict", "config"):
        if not isinstance(checkpoint, Mapping) or not isinstance(checkpoint.get(key), Mapping):
            raise ValueError(f"{path}: not a published BioGPT checkpoint: it has no dict {key!r}")
    return dict(checkpoint)


def _reason(error: Exception) -> str:
    """What torch says, without its advice to switch the protection off."""
    lines = str(error).splitlines()
    told = [line for line in lines if "nsupported" in line and "file an issue" not in line]
    return (told or lines or [type(error).__name__])[0].strip()[:200]


def _configuration(checkpoint: Mapping[str, Any], path: Path) -> BioGPTConfig:
    fields = checkpoint["config"]
    if unknown := sorted(map(str, fields.keys() - _FIELDS.keys() - _UNUSED.keys())):
        raise ValueError(f"{path}: config has the unknown field {unknown[0]!r}")
    if missing := [field for field in _REQUIRED if field not in fields]:
        raise ValueError(f"{path}: config lacks {missing[0]!r}")
    values = {ours: fields[theirs] for theirs, ours in _FIELDS.items() if theirs in fields}
    kept = {name: value for name, value in fields.items() if name in _UNUSED}
    for name in ("step", "val_loss", "tokens_processed"):
        value = checkpoint.get(name)
        if isinstance(value, Tensor) and value.numel() == 1:
            value = value.item()
        if isinstance(value, int | float):
            kept[name] = value
    try:
        return BioGPTConfig(**values, published=kept)
    except Exception as error:  # transformers wraps some of its own around ours
        raise ValueError(f"{path}: config: {error}") from error
