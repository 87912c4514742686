"""A published checkpoint as a model folder: with the tokenizer that a `.pt` file cannot hold."""

from collections.abc import Callable
from pathlib import Path

from tokenizers import Tokenizer

from resprout.data.tokens import TokenSet
from resprout.files import file_sha256, new_folder, only_one, read_json, write_json
from resprout.models.biogpt.published import read_published
from resprout.models.names import is_published
from resprout.models.positions import position_limit
from resprout.models.quiet import quiet_transformers
from resprout.models.subject import load_tokenizer

NAME = "biogpt"
_MADE_FROM = "checkpoint.json"

Notice = Callable[[str], None]


def model_folder(path: Path, tokens: TokenSet, output_dir: Path, notice: Notice) -> str:
    """A model folder as it is, a checkpoint file as one under `output_dir/biogpt`, made once.

    Args:
        path: of the model, or of the checkpoint.
        tokens: the data that it is measured on, whose tokenizer it gets.
        output_dir: where the folder is made.
        notice: told that it is.

    Raises:
        ValueError: the checkpoint was trained here on another tokenizer's data, what lies in its
            folder's place is something else, or a run that may be reading it has the folder.
    """
    if not is_published(path):
        return str(path)
    beside = path.parent / "final"  # where `train` leaves the same model, with its tokenizer
    if beside.is_dir():
        own = getattr(load_tokenizer(str(beside)), "backend_tokenizer", None)
        tokens.check_vocabulary(own if isinstance(own, Tokenizer) else None, "data_dir")
    out = output_dir / NAME
    made_from = {"sha256": file_sha256(path), "tokenizer": tokens.tokenizer_digest}
    if _is_made_from(out, made_from):
        return str(out)
    with only_one(output_dir, "output_dir"):  # the lock of the run that reads it
        if _is_made_from(out, made_from):  # by another process meanwhile
            return str(out)
        notice(f"{path}: converted to {out}, with the tokenizer of {tokens.path}")
        with quiet_transformers():
            model = read_published(path)
            with new_folder(out, digests=True) as folder:
                model.save_pretrained(folder)
                limit = position_limit(model.config)
                tokens.transformers_tokenizer(limit).save_pretrained(folder)
                write_json(folder / _MADE_FROM, made_from)
    return str(out)


def _is_made_from(out: Path, made_from: dict[str, str]) -> bool:
    """Whether the folder is this conversion; another conversion may be replaced.

    Raises:
        ValueError: it is no conversion.
    """
    if (out / _MADE_FROM).is_file():
        return bool(read_json(out / _MADE_FROM) == made_from)
    if out.exists():
        raise ValueError(
            f"output_dir: {str(out)!r} is in the way; allowed is a folder without it, since the "
            "checkpoint is converted to that place"
        )
    return False
