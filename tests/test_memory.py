"""Training on a CPU keeps the memory that it frees, and no longer than it lasts."""

import subprocess
import sys

import pytest

COUNT_FAULTS = """
import contextlib, resource, torch
from resprout.train.memory import freed_memory_kept

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 * 2**20)  # 64 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
usual = faults()
with contextlib.suppress(RuntimeError), freed_memory_kept() as works:
    for _ in range(10):  # memory of this size, aligned, is found again only after some rounds
        faults()
    kept = faults()
    ENDS
print(usual, kept, faults(), works)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is Linux's")
@pytest.mark.parametrize("ends", ["pass", "raise RuntimeError"])
def test_freed_memory_is_used_again_and_given_back_at_the_end(ends):
    script = [sys.executable, "-c", COUNT_FAULTS.replace("ENDS", ends)]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    *counts, works = done.stdout.split()
    if works == "False":
        pytest.skip("another C library")
    usual, kept, given_back = map(int, counts)
    assert kept < usual / 100
    assert given_back > usual / 2
