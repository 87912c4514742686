"""For how long energy is measured; what is decoded meanwhile, `SpeedOptions` says."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class EnergyOptions:
    """For how long energy is measured.

    Attributes:
        idle_seconds: over which the idle power is measured, before the workloads.
        reading_seconds: a repeat decodes its workload over and over for at least so long. Counters
            move in steps: a GPU's about every 0.1 s, a CPU's every millisecond.

    Raises:
        ValueError: a value that is not allowed.
    """

    idle_seconds: float = 5.0
    reading_seconds: float = 2.0

    def __post_init__(self) -> None:
        for name in ("idle_seconds", "reading_seconds"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or value <= 0:
                raise ValueError(f"{name}: got {value!r}, allowed is a number above 0")
