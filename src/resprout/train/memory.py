"""Training on a CPU keeps the memory that it frees, instead of asking the system anew each step.

A step allocates and frees gigabytes. By glibc's defaults every large tensor is mapped afresh and
given back when it is freed, and on virtual machines the system's first touch of a page can cost
more than the arithmetic on it (docs/RESULTS.md, Speed).
"""

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from typing import Any

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
# What glibc's own settings come to in a program that has used large blocks: they grow by themselves
# up to here, and cannot do so any more once one of them was set.
_USUAL = {_M_MMAP_MAX: 65536, _M_MMAP_THRESHOLD: 32 * 2**20, _M_TRIM_THRESHOLD: 64 * 2**20}


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[bool]:
    """Have this process's freed memory kept for its next allocations; at the end it goes back.

    Yields whether it is so: only where the C library is glibc.
    """
    kept = keep_freed_memory()
    try:
        yield kept
    finally:
        if kept:
            give_back_freed_memory()


def keep_freed_memory() -> bool:
    """The same from now on. Returns whether it is so."""
    mallopt = _of_glibc("mallopt")
    # No tensor in a mapping of its own; no freed end of the heap given back.
    return bool(mallopt and mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def give_back_freed_memory() -> None:
    """Back to the usual: what is free now goes to the system, and so will what is freed later."""
    mallopt, trim = _of_glibc("mallopt"), _of_glibc("malloc_trim")
    if mallopt and trim:
        for setting, value in _USUAL.items():
            mallopt(setting, value)
        trim(0)


def _of_glibc(name: str) -> Any:
    """A function of the C library, None where it is not glibc's."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return None
