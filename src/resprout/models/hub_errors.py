"""Why a model is not to be had from the Hub, in words that say what to do."""

from resprout.hub_reasons import HUB_TIMEOUT_SECONDS as HUB_TIMEOUT_SECONDS
from resprout.hub_reasons import hub_reason as hub_reason
from resprout.hub_reasons import kinds_of

_GATED = "GatedRepoError"


def gated(error: BaseException, name: str) -> str | None:
    """What to do about a repository whose licence is not accepted; None for any other error.

    Args:
        error: of transformers or huggingface_hub.
        name: the Hub id that was asked for.
    """
    if _GATED not in kinds_of(error):
        return None
    return (
        f"{name!r} is gated: accept its licence at https://huggingface.co/{name}, then log in with "
        "`hf auth login` or set HF_TOKEN"
    )
