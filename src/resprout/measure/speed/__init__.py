"""Speed of decoding: time to the first token and per further token, tokens per second, memory."""

from typing import TYPE_CHECKING

from resprout.lazy import on_first_use

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
__getattr__ = on_first_use(__name__, _HOMES)
