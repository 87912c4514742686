"""What a result was made on: versions, machine, commit."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import resprout
from resprout.models.device import cpu_name, device_name

LIBRARIES = ("transformers", "tokenizers", "accelerate", "safetensors", "numpy")


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, operating system, processor, device and git commit, for a record.

    No host, user or path names: records are published.
    """
    commit, clean = _git_state()
    return {
        "resprout": resprout.__version__,
        "git_commit": commit,
        "git_clean": clean,
        "python": platform.python_version(),
        # torch's own word names its build (+cpu, +cu130), which its package's version may not.
        "libraries": {"torch": str(torch.__version__)}
        | {name: metadata.version(name) for name in LIBRARIES},
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "device_name": device_name(device),
    }


def _git_state() -> tuple[str | None, bool | None]:
    """The commit of this source tree and whether it is unchanged; None outside a checkout."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)  # else it is somebody else's checkout
        return git("rev-parse", "HEAD"), git("status", "--porcelain", "--", ".") == ""
    except (OSError, subprocess.SubprocessError):
        return None, None
