"""Speed of decoding: time to the first token and per further token, tokens per second, memory."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resprout.measure.speed.measure import measure_speed
    from resprout.measure.speed.options import SpeedOptions
    from resprout.measure.speed.workloads import Workload, check_speed

__all__ = ["SpeedOptions", "Workload", "check_speed", "measure_speed"]

# Loaded on first use: whoever reads options need not wait for torch.
_HOMES = {
    "SpeedOptions": "options",
    "Workload": "workloads",
    "check_speed": "workloads",
    "measure_speed": "measure",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
