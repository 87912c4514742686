"""Training on a CPU keeps the memory that it frees."""

import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, torch
from resprout.train.memory import give_back_freed_memory, keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 * 2**20)  # 64 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
usual = faults()
if not keep_freed_memory():
    print("not glibc")
else:
    for _ in range(10):  # memory of this size, aligned, is found again only after some rounds
        faults()
    kept = faults()
    give_back_freed_memory()
    print(usual, kept, faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is Linux's")
def test_freed_memory_is_used_again_and_given_back_at_the_end():
    script = [sys.executable, "-c", COUNT_FAULTS]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    if "not glibc" in done.stdout:
        pytest.skip("another C library")
    usual, kept, given_back = map(int, done.stdout.split())
    assert kept < usual / 100
    assert given_back > usual / 2
