"""A tokenizer that fits a model: found beside it or where the user says, and compared with it."""

from collections.abc import Callable
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from resprout.hints import first_line
from resprout.models.by_name import check_tokenizer_name
from resprout.models.names import SIZES, is_published
from resprout.models.quiet import quiet_transformers
from resprout.models.subject import tokenizer_home

# What the published program trained with; its checkpoints hold no tokenizer.
PUBLISHED_TOKENIZER = "EleutherAI/gpt-neox-20b"
# Where training puts the finished model, with its tokenizer, beside its checkpoints.
_FINISHED = "final"

Notice = Callable[[str], None]


def find_tokenizer(
    name: str,
    given: str | None = None,
    revision: str | None = None,
    notice: Notice = lambda line: None,
) -> PreTrainedTokenizerBase:
    """The tokenizer of a subject.

    Args:
        name: of the subject: a model folder, a Hub id, a checkpoint file, or a size.
        given: folder or Hub id; None = the model's own. A checkpoint file's is looked for beside
            it, in `final/` beside it, and on the Hub (the published program's).
        revision: of a Hub model.
        notice: told where another than the model's own is taken.

    Raises:
        ValueError: there is none, or it is not to be had.
    """
    if given is not None:
        return get_tokenizer(given, None)
    if name in SIZES:
        raise ValueError(f"tokenizer: {name!r} is a size and has none; give --tokenizer")
    if not is_published(name):
        folder = Path(name)
        if folder.is_dir() and not _holds_tokenizer(folder):
            raise ValueError(f"tokenizer: {name!r} holds none; give --tokenizer")
        return get_tokenizer(name, revision)
    home = Path(tokenizer_home(name))
    for folder in (home, home / _FINISHED):
        if _holds_tokenizer(folder):
            return get_tokenizer(str(folder), None)
    try:
        found = get_tokenizer(PUBLISHED_TOKENIZER, None)
    except ValueError as error:
        raise ValueError(
            f"tokenizer: none lies beside {name!r}, and the published one is not to be "
            f"had: {str(error).removeprefix('tokenizer: ')}; give --tokenizer"
        ) from error
    notice(f"no tokenizer beside {name}: taking the published {PUBLISHED_TOKENIZER}")
    return found


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
    """Refuse a tokenizer with ids that the model's embedding has not.

    Raises:
        ValueError: naming the highest of both.
    """
    V = config.get_text_config(decoder=True).vocab_size
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= V:
        raise ValueError(
            f"tokenizer: its ids go up to {highest}, the model knows those up to {V - 1}; "
            "give --tokenizer the one that the model was trained with"
        )


def check_begin(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that has nothing for lm-eval to put before a text.

    Raises:
        ValueError: it names neither a beginning nor an end of text.
    """
    if tokenizer.bos_token_id is None and tokenizer.eos_token_id is None:
        raise ValueError(
            "tokenizer: it names neither a beginning nor an end of text; lm-eval's tasks need one"
        )


def get_tokenizer(name: str, revision: str | None) -> PreTrainedTokenizerBase:
    """A tokenizer by folder or Hub id, in one line and at once where it cannot be had.

    Raises:
        ValueError: it cannot be had.
    """
    check_tokenizer_name(name, revision)
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
    except Exception as error:  # many libraries' errors, all meaning that it cannot be had
        raise ValueError(f"tokenizer: {name!r} is not to be had ({first_line(error)})") from error
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return tokenizer


def _holds_tokenizer(folder: Path) -> bool:
    return any(folder.glob("tokenizer*"))
