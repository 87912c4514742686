"""Training on a CPU keeps the memory that it frees, instead of asking the system anew each step.

A step allocates and frees gigabytes. By glibc's defaults every large tensor is mapped afresh and
given back when it is freed, and on virtual machines the system's first touch of a page can cost
more than the arithmetic on it (docs/RESULTS.md, Speed).
"""

import contextlib
import ctypes
import sys

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Have this process's freed memory kept for its next allocations, from now on.

    Returns:
        Whether it is so: only where the C library is glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    # No tensor in a mapping of its own; no freed end of the heap given back.
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def give_back_freed_memory() -> None:
    """Give what is free now back to the system."""
    with contextlib.suppress(OSError, AttributeError):  # another C library keeps nothing for us
        ctypes.CDLL(None).malloc_trim(0)
