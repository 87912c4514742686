"""Subjects: a model with its tokenizer, from the Hub, a folder or a size's name."""

import logging
import os
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from resprout.files import check_digests, read_json
from resprout.hints import first_line
from resprout.hub import gated, hub_reason
from resprout.models.biogpt.published import read_config, read_published
from resprout.models.by_name import check_dtype
from resprout.models.device import resolve_device
from resprout.models.modeling_cut import class_for, is_changed
from resprout.models.names import MANIFEST, SIZES, check_subject, is_published, not_to_be_had
from resprout.models.sizes import build, configuration
from resprout.models.sparse import SPARSE, read_sparse
from resprout.models.spread import DeviceMap, check_device_map, refuse_offloaded
from resprout.refusals import check_revision

logger = logging.getLogger(__name__)


def load_configuration(name_or_path: str, revision: str | None = None) -> PreTrainedConfig:
    """The configuration of a subject, without its weights.

    Raises:
        ValueError: no size, folder or Hub model answers to that name.
    """
    if name_or_path in SIZES:
        return configuration(name_or_path)
    folder = Path(name_or_path)
    if is_published(folder):
        return read_config(folder)
    check_subject(name_or_path, revision)
    check_digests(folder, "subject", among=("config.json", MANIFEST))
    try:
        config = AutoConfig.from_pretrained(
            name_or_path, revision=revision, trust_remote_code=False
        )
    except Exception as error:  # many libraries' errors, all meaning that it cannot be had
        raise not_to_be_had(name_or_path, error) from error
    assert isinstance(config, PreTrainedConfig)
    if os.path.lexists(folder):
        _take_sizes(folder, config)
    return config


def _take_sizes(folder: Path, config: PreTrainedConfig) -> None:
    """The sizes of a removal stand in its manifest, for the configuration cannot say them.

    Raises:
        ValueError: both say sizes, and not the same.
    """
    if not (folder / MANIFEST).is_file():
        return
    manifest = read_json(folder / MANIFEST)
    said = manifest.get("reshaped") if isinstance(manifest, dict) else None
    own = getattr(config, "reshaped", None)
    if own and said != own:
        raise ValueError(f"subject: {str(folder)!r} has the {MANIFEST} of another cut")
    if said:
        config.reshaped = said


def load(
    name_or_path: str | Path,
    revision: str | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    device_map: DeviceMap | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    """A model, in evaluation mode, with its tokenizer.

    Args:
        name_or_path: a Hub id, a folder that `save` or transformers wrote, a checkpoint file of
            the published BioGPT program (`x.pt`), or a size's name (`biogpt-nano`): a size gives a
            new, untrained model and no tokenizer.
        revision: of a Hub model.
        device: `cpu` (default), `cuda`, ... or `auto` for the best at hand.
        dtype: default fp32, whatever the checkpoint's: recovery and exact comparison need it;
            `auto` = the checkpoint's.
        device_map: instead of a device, for a model larger than one GPU: `auto` spreads its layers
            over all GPUs (accelerate), a mapping says which module goes where. Such a model can
            be measured and can write; it is not cut or trained.

    Raises:
        ValueError: no such model, device or dtype; a file that is not what it should be; a model
            that does not fit the GPUs.
    """
    model = load_model(name_or_path, revision, device, dtype, device_map)
    name = str(name_or_path)
    tokenizer = None if name in SIZES else _load_tokenizer(name, revision)
    return model, tokenizer


def load_model(
    name_or_path: str | Path,
    revision: str | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    device_map: DeviceMap | None = None,
) -> PreTrainedModel:
    """As `load`, for who has a tokenizer already."""
    name = str(name_or_path)
    check_revision(revision, name, SIZES)
    if device_map is not None:
        return _spread(name, revision, device, dtype, device_map)
    place = resolve_device(device or "cpu")
    precision = resolve_dtype(dtype)
    if name in SIZES:
        logger.warning("%s is a size, not a trained model: its weights are random", name)
        model = _in(build(configuration(name), seed=0), precision)
    elif is_published(name):
        model = _in(read_published(name), precision)
    else:
        model = _whole_from_pretrained(name, revision, precision)
    return model.to(place).eval()


def _spread(
    name: str,
    revision: str | None,
    device: str | torch.device | None,
    dtype: str | torch.dtype | None,
    device_map: DeviceMap,
) -> PreTrainedModel:
    check_device_map(device_map, device)
    if name in SIZES or is_published(name) or (Path(name) / SPARSE).is_file():
        raise ValueError(
            f"device_map: got {name!r}, allowed is a model of the Hub or a folder with its weights "
            "as transformers writes them"
        )
    model = _whole_from_pretrained(name, revision, resolve_dtype(dtype), device_map)
    refuse_offloaded(model, name)
    return model.eval()


def _whole_from_pretrained(
    name: str,
    revision: str | None,
    precision: torch.dtype | str,
    device_map: DeviceMap | None = None,
) -> PreTrainedModel:
    """The model, with all its weights and no others.

    Raises:
        ValueError: they do not fit its configuration.
    """
    model, found = _from_pretrained(name, revision, precision, device_map)
    # transformers fills what a checkpoint lacks with random weights and only warns.
    for what in ("missing_keys", "mismatched_keys"):
        if keys := sorted(map(str, found[what])):
            raise ValueError(
                f"subject: {name!r} does not fit its configuration: {len(keys)} "
                f"{what.replace('_', ' ')}, such as {keys[0]}"
            )
    unused = sorted(map(str, found["unexpected_keys"]))
    if unused and is_changed(model.config):
        raise ValueError(f"subject: {name!r} has weights that its cut has not: {unused[0]}")
    if unused:
        logger.warning("%s: %d weights are not used, such as %s", name, len(unused), unused[0])
    return model


def _from_pretrained(
    name: str,
    revision: str | None,
    precision: torch.dtype | str,
    device_map: DeviceMap | None = None,
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model and what transformers says about its keys."""
    config = load_configuration(name, revision)  # refuses what cannot be had, in one line, at once
    check_digests(Path(name), "subject")
    sparse = Path(name) / SPARSE
    try:
        options: dict[str, Any] = {"dtype": precision, "output_loading_info": True}
        if device_map is not None:
            options["device_map"] = device_map
        if sparse.is_file():
            if precision == "auto":
                options["dtype"] = config.dtype or torch.float32
            options |= {"config": config, "state_dict": read_sparse(sparse)}
            found = model_class(config).from_pretrained(None, **options)
        elif is_changed(config):
            kind = model_class(config)
            found = kind.from_pretrained(name, revision=revision, config=config, **options)
        else:
            options |= {"revision": revision, "trust_remote_code": False}
            found = AutoModelForCausalLM.from_pretrained(name, **options)
    except Exception as error:  # each file format has errors of its own
        if said := gated(error, name):  # where only the configuration was in the cache
            raise ValueError(f"subject: {said}") from error
        why = first_line(error) if os.path.lexists(name) else hub_reason(error)
        raise ValueError(f"subject: {name!r} cannot be loaded ({why})") from error
    model, keys = found
    return model, keys


def model_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The class that builds a configuration's causal model, cut or gated or neither.

    Raises:
        ValueError: transformers knows no causal model of such a configuration.
    """
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ValueError(f"{type(config).__name__} has no causal language model")
    base: type[PreTrainedModel] = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return class_for(base, config)


def tokenizer_home(name: str) -> str:
    """Where a trained model's tokenizer is: with it, and beside a checkpoint file."""
    return str(Path(name).parent) if is_published(name) else name


def load_tokenizer(
    name_or_path: str, revision: str | None = None
) -> PreTrainedTokenizerBase | None:
    """A subject's tokenizer alone; None where it has none.

    Raises:
        ValueError: it is not to be had.
    """
    home = Path(tokenizer_home(name_or_path))
    if name_or_path in SIZES or (home.is_dir() and not any(home.glob("tokenizer*"))):
        return None
    return _load_tokenizer(name_or_path, revision)


def _load_tokenizer(name: str, revision: str | None) -> PreTrainedTokenizerBase | None:
    """The subject's tokenizer; None (said in the log) where a local folder has none.

    Raises:
        ValueError: it is not to be had.
    """
    home = Path(tokenizer_home(name))
    if home.is_dir() and not any(home.glob("tokenizer*")):
        logger.warning("%s is a model without a tokenizer", name)
        return None
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            str(home) if home.is_dir() else name, revision=revision
        )
    except Exception as error:  # many libraries' errors, all meaning that it cannot be had
        raise ValueError(
            f"tokenizer: that of {name!r} is not to be had ({first_line(error)})"
        ) from error
    return tokenizer


def _in(model: PreTrainedModel, precision: torch.dtype | str) -> PreTrainedModel:
    return model.to(precision) if isinstance(precision, torch.dtype) else model


def resolve_dtype(dtype: str | torch.dtype | None) -> torch.dtype | str:
    """The type of weights that a name means, or `auto`.

    Raises:
        ValueError: no such type.
    """
    if dtype is None:
        return torch.float32
    name = str(dtype).removeprefix("torch.")
    check_dtype(name)
    return "auto" if name == "auto" else cast(torch.dtype, getattr(torch, name))
