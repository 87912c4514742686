"""From the published program's checkpoints to Hugging Face folders, and back."""

import json
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from resprout.files import new_folder
from resprout.hints import first_line
from resprout.models.biogpt.modeling import BioGPTForCausalLM
from resprout.models.biogpt.published import write_published
from resprout.models.convert_asked import check_conversion
from resprout.models.description import parameter_total
from resprout.models.names import CHECKPOINT_SUFFIXES, is_published
from resprout.models.quiet import quiet_transformers
from resprout.models.subject import load_model, load_tokenizer


def convert(
    source: str, out: Path, tokenizer: str | None = None, revision: str | None = None
) -> list[str]:
    """Write `source` as a model folder or, where `out` is named `.pt`, as a published checkpoint.

    A folder holds safetensors, the configuration, the model's own code (so that others load it with
    `trust_remote_code=True`) and, where there is one, the tokenizer. Weights are kept in fp32.

    Returns:
        What was done, as lines.

    Raises:
        ValueError: `out` exists, `source` cannot be loaded, or it is no BioGPT and `out` is `.pt`.
    """
    check_conversion(source, out, tokenizer, revision)
    to_checkpoint = out.suffix in CHECKPOINT_SUFFIXES
    found = None
    if tokenizer is not None:
        try:
            found = AutoTokenizer.from_pretrained(tokenizer)
        except Exception as error:  # many libraries' errors, all meaning that it cannot be had
            raise ValueError(f"tokenizer: got {tokenizer!r} ({first_line(error)})") from error
    with quiet_transformers():
        model = load_model(source, revision=revision, dtype=torch.float32)
        if found is None:
            found = load_tokenizer(source, revision)
        _write(model, found, out, source)
    lines = [f"{source} -> {out}: {parameter_total(model):,} parameters, fp32"]
    if is_published(source):
        kept = getattr(model.config, "published", None) or {}
        lines.append(f"kept in config.json: {json.dumps(kept)}; the optimiser's state is left out")
    if not to_checkpoint and found is None:
        lines.append("no tokenizer was at hand: give one with --tokenizer NAME_OR_FOLDER")
    return lines


def _write(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, out: Path, source: str
) -> None:
    if out.suffix in CHECKPOINT_SUFFIXES:
        if not isinstance(model, BioGPTForCausalLM):
            raise ValueError(
                f"out: a .pt file holds a BioGPT, {source!r} is {type(model).__name__}"
            )
        write_published(model, out)
        return
    with new_folder(out, digests=True, replace=False) as folder:  # it was free when we began
        model.save_pretrained(folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
