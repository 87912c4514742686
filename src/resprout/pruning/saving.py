"""`save`: a cut model, its tokenizer and its manifest in one folder that loads again."""

from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from resprout.files import new_folder
from resprout.pruning.cut import Cut


def save(
    model: PreTrainedModel,
    cut: Cut | None,
    path: str | Path,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> None:
    """Write a model folder (safetensors) with `cut.json` and the masks beside the weights.

    The folder appears whole or not at all, and loads with `resprout.load` or transformers.

    Args:
        model: the model.
        cut: what `prune` returned; None for an uncut model.
        path: a folder that does not exist yet, or is empty.
        tokenizer: saved with it, so that the folder is a whole subject.

    Raises:
        ValueError: `path` exists and is not an empty folder.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"path: {str(path)!r} exists; allowed is a new or an empty folder")
    with new_folder(path) as folder:
        model.save_pretrained(folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        if cut is not None:
            cut.save(folder)
