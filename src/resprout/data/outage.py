"""What the errors of the Hub's libraries mean: gone for good, offline, or worth another try."""

from typing import Literal

from resprout.hints import causes

Kind = Literal["refused", "offline", "connection"]
NETWORK_LIBRARIES = ("httpx", "httpx2", "httpcore", "requests", "urllib3", "aiohttp", "fsspec")
WORTH_ANOTHER_TRY = (408, 425, 429)
# What `datasets` says where it may ask only its cache, and what it wraps then.
OFFLINE = ("OfflineModeIsEnabled", "LocalEntryNotFoundError")
REFUSALS = frozenset({
    "RepositoryNotFoundError", "GatedRepoError", "RevisionNotFoundError", "DisabledRepoError",
    "DatasetNotFoundError", "DataFilesNotFoundError", "BadRequestError", "HFValidationError",
})  # fmt: skip


class Trouble(Exception):  # noqa: N818, it may pass
    """A data set could not be opened or read on."""

    def __init__(self, kind: Kind, message: str, wanted: bool = False):
        """Args: `wanted`: the user has set the libraries to be offline."""
        super().__init__(message)
        self.kind = kind
        self.wanted = wanted


class ConnectionLostError(ConnectionError):
    """An outage lasted longer than the retries; what was done before is kept."""


def kind_of(error: BaseException) -> Kind:
    """What an error of `datasets`, `huggingface_hub` or of what they stand on means.

    The names of classes decide, over the whole chain of causes: the libraries wrap each other's
    errors, and which network library is below them changes with their versions.
    """
    chain = list(causes(error))
    if any(type(link).__name__ in REFUSALS for link in chain):
        return "refused"
    words = " ".join(f"{type(link).__name__} {link}" for link in chain)
    if any(sign in words for sign in OFFLINE):
        return "offline"
    for link in chain:
        status = getattr(getattr(link, "response", None), "status_code", None)
        if isinstance(status, int) and 400 <= status < 500 and status not in WORTH_ANOTHER_TRY:
            return "refused"
    for link in chain:
        library = type(link).__module__.partition(".")[0]
        if isinstance(link, ConnectionError | TimeoutError | EOFError):
            return "connection"
        if library in NETWORK_LIBRARIES or type(link).__name__ == "HfHubHTTPError":
            return "connection"
        if type(link) is OSError or type(link).__name__ == "gaierror":
            return "connection"
    return "refused"
