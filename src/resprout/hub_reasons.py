"""Why the Hub does not give something, in words that say what to do."""

from collections.abc import Iterator

from resprout.hints import first_line

# By the names of their classes: libraries wrap each other's errors, and move classes about.
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


def hub_reason(error: BaseException) -> str:
    """Any other error of asking the Hub, as one short line."""
    kinds = kinds_of(error)
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
    for link in _chain(error):
        found = getattr(getattr(link, "response", None), "status_code", None)
        if isinstance(found, int):
            return found
    return None


def kinds_of(error: BaseException) -> list[str]:
    """The names of an error's class and of those of its causes."""
    return [type(link).__name__ for link in _chain(error)]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen = 0
    while error is not None and seen < 20:
        yield error
        error, seen = error.__cause__ or error.__context__, seen + 1
