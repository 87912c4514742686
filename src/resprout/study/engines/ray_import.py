"""Importing Ray, which is optional, and which one broken package beside it keeps from starting."""

import contextlib
import importlib
import importlib.util
import io
import os
import sys
import warnings
from pathlib import Path
from typing import Any

_STAND_IN = Path(__file__).parent / "without_amdsmi"


def check_installed() -> None:
    """See that Ray is there and can start, without importing it, which takes seconds.

    Raises:
        ValueError: it is not installed.
    """
    _leave_amdsmi_out()
    if "ray" in sys.modules:
        found = sys.modules["ray"] is not None
    else:
        found = importlib.util.find_spec("ray") is not None
    if not found:
        raise _not_installed()


def import_ray() -> Any:
    """The module.

    Raises:
        ValueError: it is not installed.
    """
    _leave_amdsmi_out()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("ray")
    except ImportError as error:
        raise _not_installed() from error


def _not_installed() -> ValueError:
    return ValueError(
        "engine: got 'ray', but Ray is not installed; allowed after pip install 'resprout[cluster]'"
    )


def _leave_amdsmi_out() -> None:
    """Hide the package `amdsmi` where AMD's library behind it is missing.

    The extra `energy` brings it on every machine. Without the library it raises a KeyError, while
    Ray (2.60) expects an ImportError, so Ray cannot be imported, here and in the processes that it
    starts: these inherit PYTHONPATH. A cluster that runs already has its own (docs/CLUSTER.md).
    """
    if "amdsmi" in sys.modules:
        return
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it lacks
            importlib.import_module("amdsmi")
    except ImportError:
        pass  # as Ray expects
    except Exception:
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = f"{_STAND_IN}{os.pathsep}{before}" if before else str(_STAND_IN)
        sys.modules["amdsmi"] = None  # type: ignore[assignment]
