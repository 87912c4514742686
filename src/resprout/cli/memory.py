"""Too little memory, as the system, torch and the loader of libraries say it."""

from resprout.hints import causes

_SIGNS = (
    "can't allocate memory", "cannot allocate memory", "failed to map segment", "bad_alloc",
    "can't start new thread", "out of memory", "could not create a primitive",
)  # fmt: skip
OUT_OF_MEMORY = (
    "out of memory; what was finished is kept. With more memory, the same command goes on"
)


def out_of_memory(error: BaseException) -> bool:
    """Whether it is an error of too little memory, in itself or in what caused it."""
    return any(
        isinstance(link, MemoryError) or any(sign in str(link).lower() for sign in _SIGNS)
        for link in causes(error)
    )
