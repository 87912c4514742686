"""Asking the Hub for a model: its cache first, once, and why not, in words that say what to do."""

from resprout.hints import causes, first_line

# By the names of their classes: libraries wrap each other's errors, and move classes about.
_GATED = "GatedRepoError"
_WANTED_OFFLINE = "OfflineModeIsEnabled"
_NO_ANSWER = ("ConnectError", "ConnectionError", "gaierror")
_TOO_LATE = ("ConnectTimeout", "ReadTimeout", "Timeout", "TimeoutError")
_BROKEN_OFF = ("RemoteProtocolError", "IncompleteRead", "ChunkedEncodingError", "ReadError")
_LOG_IN = "log in with `hf auth login` or set HF_TOKEN"
_STATUS = {
    401: f"it knows no such name, or wants a valid token for it (401): {_LOG_IN}",
    403: f"your token is not allowed to read it (403): {_LOG_IN}",
    404: f"it has no such name, or none that you may see (404); if it is private, {_LOG_IN}",
    429: "it has had too many requests (429); try again later",
}
HUB_TIMEOUT_SECONDS = 10  # for one answer


def cached_file(name: str, file: str, revision: str | None = None) -> str | None:
    """Where the local cache has a file of a model; None where it has not."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, file, revision=revision)
    return found if isinstance(found, str) else None


def ask_for_model(name: str, revision: str | None = None) -> None:
    """Ask the Hub once: transformers would ask an unreachable one six times, for half a minute.

    Raises:
        Exception: of many libraries, all meaning that the model cannot be had.
    """
    from huggingface_hub import HfApi

    HfApi().model_info(name, revision=revision, timeout=HUB_TIMEOUT_SECONDS)


def hub_reason(error: BaseException) -> str:
    """Any other error of asking the Hub, as one short line."""
    kinds = _kinds(error)
    if _WANTED_OFFLINE in kinds:
        return "HF_HUB_OFFLINE is set, and the cache has no such model"
    status = _status(error)
    if status in _STATUS:
        return _STATUS[status]
    if status is not None and status >= 500:
        return f"it is out of order ({status}); try again later"
    if "JSONDecodeError" in kinds:
        return "its answer is not the Hub's but perhaps a proxy's or a login page's"
    if any(kind in kinds for kind in _BROKEN_OFF):
        return "the download broke off; try again"
    if any(kind in kinds for kind in _TOO_LATE):
        return f"it does not answer: timed out after {HUB_TIMEOUT_SECONDS} s"
    if any(kind in kinds for kind in _NO_ANSWER):
        return f"it does not answer: {first_line(error)}"
    return first_line(error)


def _status(error: BaseException) -> int | None:
    """The status of an answer of the Hub, where there was one."""
    for link in causes(error):
        found = getattr(getattr(link, "response", None), "status_code", None)
        if isinstance(found, int):
            return found
    return None


def _kinds(error: BaseException) -> list[str]:
    """The names of an error's class and of those of its causes."""
    return [type(link).__name__ for link in causes(error)]


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
