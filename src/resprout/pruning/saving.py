"""`save`: a cut model, its tokenizer and its manifest in one folder that loads again."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from resprout.files import check_new, new_folder, write_json, writing
from resprout.models import (
    modeling_agency,
    modeling_cut,
    modeling_head_agency,
    modeling_observation,
    modeling_states,
)
from resprout.models.modeling_cut import is_changed
from resprout.models.sparse import SPARSE, write_sparse
from resprout.pruning.api import check_fits
from resprout.pruning.cut import Cut, check_cut
from resprout.refusals import (
    check_callable,
    check_flag,
    check_loaded_tokenizer,
    check_model,
    check_path,
)


def save(
    model: PreTrainedModel,
    cut: Cut | None,
    path: str | Path,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    sparse: bool = False,
    portable: bool = False,
    extra: Callable[[Path], dict[str, Any]] | None = None,
) -> None:
    """Write a model folder (safetensors) with `cut.json` and the masks beside the weights.

    The folder appears whole or not at all, with the digests of its files, by which `resprout.load`
    notices what a disk or a hand has changed since. It loads with that; and with transformers
    alone, unless layers differ in ways that its configuration cannot say (then `portable`), or
    `sparse`.

    Args:
        model: the model.
        cut: what `prune` returned; None for an uncut model.
        path: a folder that does not exist yet, or is empty.
        tokenizer: saved with it, so that the folder is a whole subject.
        sparse: weights without their zeros: what is kept, and a bit per weight.
        portable: put the code beside the weights that others need to load a removal that the
            configuration cannot say, or gates, with `trust_remote_code=True` and without Resprout.
        extra: asked with the folder when all else is in it; file name -> JSON to put there too.

    Raises:
        ValueError: `path` exists and is not an empty folder; `sparse` with `portable`; the cut is
            another model's. Nothing is written then.
        WriteError: it cannot be written, such as on a full disk; nothing stays then.
    """
    check_model(model)
    check_cut(cut)
    check_path("path", path)
    check_loaded_tokenizer(tokenizer)
    check_flag("sparse", sparse)
    check_flag("portable", portable)
    if extra is not None:
        check_callable("extra", extra)
    path = Path(path)
    check_new(path)
    if cut is not None:
        check_fits(model, cut, "cut")
    if sparse and portable:
        raise ValueError("portable: not together with sparse, which only Resprout reads")
    with writing(str(path)), new_folder(path, digests=True, replace=False) as folder:
        if sparse:
            _save_sparse(model, cut, folder)
        elif portable and is_changed(model.config):
            _save_portable(model, folder)
        else:
            model.save_pretrained(folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        if cut is not None:
            reshaped = getattr(model.config, "reshaped", None)
            cut.save(folder, masks=not sparse, reshaped=reshaped)
        for name, value in (extra(folder) if extra is not None else {}).items():
            write_json(folder / name, value)


def _save_sparse(model: PreTrainedModel, cut: Cut | None, folder: Path) -> None:
    # A tied tensor is written once, under its first name.
    tensors = {name: p.detach() for name, p in model.named_parameters()}
    persistent = model.state_dict().keys()
    tensors |= {name: b for name, b in model.named_buffers() if name in persistent}
    write_sparse(folder / SPARSE, tensors, cut.masks if cut is not None else None)
    model.config.dtype = model.dtype  # as transformers' own saving does
    model.config.save_pretrained(folder)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)


def _save_portable(model: PreTrainedModel, folder: Path) -> None:
    name = type(model).__name__
    model.config.auto_map = {"AutoModelForCausalLM": f"{_CODE[0].stem}.{name}"}
    try:
        model.save_pretrained(folder)
    finally:
        del model.config.auto_map
    for file in _CODE:
        shutil.copy(file, folder / file.name)


# The first is named in the configuration, the others are what it needs.
_CODE = [
    Path(str(module.__file__))
    for module in (
        modeling_cut,
        modeling_agency,
        modeling_head_agency,
        modeling_observation,
        modeling_states,
    )
]
