"""What `convert` is asked for: all that can be refused without torch."""

from pathlib import Path

from resprout.files import unwritable
from resprout.models.by_name import check_tokenizer_name
from resprout.models.names import CHECKPOINT_SUFFIXES, SIZES, check_subject, plain_configuration
from resprout.refusals import check_revision


def check_conversion(
    source: str, out: Path, tokenizer: str | None = None, revision: str | None = None
) -> None:
    """Refuse what can give nothing; arguments as of `convert`. Nothing is written.

    Raises:
        ValueError: naming the argument, the value got and what is allowed.
    """
    to_checkpoint = out.suffix in CHECKPOINT_SUFFIXES
    if out.exists() and (to_checkpoint or not out.is_dir() or any(out.iterdir())):
        raise ValueError(
            f"out: {str(out)!r} exists; allowed is a new file, or a new or empty folder"
        )
    if (blocked := unwritable(out.parent)) is not None:
        raise ValueError(f"out: {str(out)!r} cannot be written, because of {str(blocked)!r}")
    if tokenizer is not None:
        if to_checkpoint:
            raise ValueError(f"tokenizer: got {tokenizer!r}, a .pt file has no place for one")
        check_tokenizer_name(tokenizer)
    check_revision(revision, source, SIZES)
    check_subject(source, revision)
    plain = plain_configuration(source, revision) if to_checkpoint else None
    if plain is not None and plain.get("model_type") != "dendritic_biogpt":
        raise ValueError(
            f"out: a .pt file holds a BioGPT, {source!r} is of the family "
            f"{plain.get('model_type')!r}; allowed is a new folder"
        )
