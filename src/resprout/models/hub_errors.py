"""Why a model is not to be had from the Hub, in words that say what to do."""

from collections.abc import Iterator

from resprout.hints import first_line

# By the names of their classes: libraries wrap each other's errors, and move classes about.
_GATED = "GatedRepoError"
_WANTED_OFFLINE = "OfflineModeIsEnabled"
_NO_ANSWER = ("ConnectError", "ConnectTimeout", "ReadTimeout", "ConnectionError", "gaierror")


def gated(error: BaseException, name: str) -> str | None:
    """What to do about a repository whose licence is not accepted; None for any other error.

    Args:
        error: of transformers or huggingface_hub.
        name: the Hub id that was asked for.
    """
    if _GATED not in _kinds(error):
        return None
    return (
        f"{name!r} is gated: accept its licence at https://huggingface.co/{name}, then log in with "
        "`hf auth login` or set HF_TOKEN"
    )


def hub_reason(error: BaseException) -> str:
    """Any other error of asking the Hub, as one short line."""
    kinds = _kinds(error)
    if _WANTED_OFFLINE in kinds:
        return "HF_HUB_OFFLINE is set, and the cache has no such model"
    if any(kind in kinds for kind in _NO_ANSWER):
        return f"it does not answer: {first_line(error)}"
    return first_line(error)


def _kinds(error: BaseException) -> list[str]:
    return [type(link).__name__ for link in _chain(error)]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen = 0
    while error is not None and seen < 20:
        yield error
        error, seen = error.__cause__ or error.__context__, seen + 1
