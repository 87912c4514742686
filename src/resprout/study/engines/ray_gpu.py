"""Which GPU a Ray task has.

Ray names a task's GPU in CUDA_VISIBLE_DEVICES, which CUDA reads once in the life of a process; a
worker that stays for its next task may be given another GPU then. So workers see all of their
machine's (`ENVIRONMENT`), and each task takes the one that it is given.
"""

import os
from collections.abc import Sequence

import torch

ENVIRONMENT = {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"}  # Ray's own switch


def own_gpu() -> torch.device:
    """The GPU of the task that runs here, made torch's own choice too.

    Raises:
        RuntimeError: torch sees no such GPU.
    """
    import ray

    given = ray.get_runtime_context().get_accelerator_ids()["GPU"]
    device = gpu_of(given, os.environ.get("CUDA_VISIBLE_DEVICES"))
    torch.cuda.set_device(device)
    return device


def gpu_of(given: Sequence[str], visible: str | None) -> torch.device:
    """The device that torch calls what Ray names, of those that a process sees.

    Args:
        given: the task's, by index or UUID; a task has one, or a share of one.
        visible: CUDA_VISIBLE_DEVICES of the process; None where it sees all.
    """
    names = visible.split(",") if visible else None
    return torch.device("cuda", names.index(given[0]) if names else int(given[0]))
