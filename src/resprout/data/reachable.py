"""The Hub asked once, so that what is not to be had is said at once."""

from collections.abc import Iterator
from contextlib import contextmanager

from resprout.data.outage import kind_of
from resprout.hub import HUB_TIMEOUT_SECONDS


@contextmanager
def hub_or_cache(name: str) -> Iterator[None]:
    """Within, `datasets` asks the Hub where that answers, else takes what its cache has.

    Left to itself it would ask an unreachable Hub six times, for half a minute, and for every data
    set anew.

    Args:
        name: of a data set there, to ask for.
    """
    import datasets  # type: ignore[import-untyped]
    from huggingface_hub import HfApi, constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    if not any(before):
        try:
            HfApi().dataset_info(name, timeout=HUB_TIMEOUT_SECONDS)
        except Exception as error:  # sorted by `kind_of`
            if kind_of(error) != "refused":
                constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before
