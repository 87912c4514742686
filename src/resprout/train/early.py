"""What a look at names and files tells of a pre-training run, before torch is imported."""

from pathlib import Path

from resprout.data.tokens import TokenSet
from resprout.models.by_name import check_device, known_limit
from resprout.models.names import SIZES, check_subject, plain_configuration
from resprout.train.request import TrainRequest
from resprout.train.run_folder import RunFolder

BIOGPT = "dendritic_biogpt"
PUBLISHED_GPT2 = "gpt2"  # a shape that nobody has to ask the Hub for
_PUBLISHED_GPT2_POSITIONS = 1024


def check_early(request: TrainRequest, with_data: bool = True) -> None:
    """Refuse what can be refused at once; nothing is written.

    Args:
        request: what is asked for.
        with_data: False = the data has still to be made, and is not looked at.

    Raises:
        ValueError: naming the option, the value got and what is allowed.
    """
    check_device(request.device)
    if not request.timing_test:
        RunFolder(request.out_dir).check_free()
    tokens = None
    if with_data:
        tokens = open_tokens(request.data_dir, checked=True)  # digests later, when they are read
    family: str | None
    limit: int | None
    if request.model == PUBLISHED_GPT2:
        family, limit = PUBLISHED_GPT2, _PUBLISHED_GPT2_POSITIONS
    else:
        try:
            check_subject(request.model, request.revision)
        except ValueError as error:
            raise ValueError(f"model: {str(error).removeprefix('subject: ')}") from error
        plain = plain_configuration(request.model, request.revision) or {}
        family, limit = plain.get("model_type"), known_limit(request.model, request.revision)
    if family is not None:
        check_family(request, str(family))
    check_changes(request)
    check_block(request, limit)
    if tokens is not None:
        check_data(request, tokens)


def is_new(request: TrainRequest) -> bool:
    """Whether only the shape of the model is taken, not its weights."""
    return request.model in (*SIZES, PUBLISHED_GPT2) or request.from_scratch


def open_tokens(data_dir: Path, checked: bool = False) -> TokenSet:
    """The prepared data; see `TokenSet.open`.

    Raises:
        ValueError: there is none.
    """
    if not data_dir.is_dir():
        raise ValueError(
            f"data_dir: got {str(data_dir)!r}, allowed is a folder that `resprout prepare` made"
        )
    return TokenSet.open(data_dir, checked)


def check_family(request: TrainRequest, family: str) -> None:
    """Refuse to write a published checkpoint of anything but a BioGPT, and options of it alone.

    Raises:
        ValueError: naming the option.
    """
    if family == BIOGPT:
        return
    if request.export_pt:
        raise ValueError(
            f"export_pt: a published checkpoint holds a BioGPT, {request.model!r} is {family}; "
            "allowed is a BioGPT, or to leave it out"
        )
    for name in ("n_passes", "soma_ffn_expansion", "init"):
        if is_new(request) and getattr(request, name) is not None:
            raise ValueError(
                f"{name}: got {getattr(request, name)!r}, only a BioGPT has it, "
                f"{request.model!r} is {family}"
            )


def check_changes(request: TrainRequest) -> None:
    """Refuse changes of a shape that is given.

    Raises:
        ValueError: naming the option.
    """
    for name in ("n_passes", "soma_ffn_expansion", "init"):
        if not is_new(request) and getattr(request, name) is not None:
            raise ValueError(
                f"{name}: got {getattr(request, name)!r}, but {request.model!r} is a trained "
                "model, whose shape is given; allowed with --from_scratch"
            )


def check_block(request: TrainRequest, limit: int | None) -> None:
    """Refuse windows of more tokens than the model has positions.

    Raises:
        ValueError: naming both.
    """
    if limit is not None and request.block_size is not None and request.block_size > limit:
        raise ValueError(
            f"block_size: got {request.block_size}, allowed are up to the {limit} positions of "
            f"{request.model!r}"
        )


def check_data(request: TrainRequest, tokens: TokenSet) -> None:
    """Refuse data that has not one whole window, or nothing to validate on.

    Raises:
        ValueError: naming the option.
    """
    found = len(tokens.train.tokens)
    if request.block_size is not None and request.block_size >= found:
        raise ValueError(
            f"block_size: got {request.block_size}, allowed is less than the {found:,} training "
            f"tokens of {str(request.data_dir)!r}"
        )
    if len(tokens.val.tokens) < 2:
        raise ValueError(f"data_dir: {str(request.data_dir)!r} has no two held-out tokens")
