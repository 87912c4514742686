"""Energy of decoding: joules per token from hardware counters, net of the idle power."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resprout.measure.energy.counters import Counter, NoCounter, Reading, open_counter
    from resprout.measure.energy.measure import measure_energy
    from resprout.measure.energy.options import EnergyOptions

__all__ = [
    "Counter",
    "EnergyOptions",
    "NoCounter",
    "Reading",
    "measure_energy",
    "open_counter",
]

# Loaded on first use: whoever reads options need not wait for torch.
_HOMES = {
    "Counter": "counters",
    "EnergyOptions": "options",
    "NoCounter": "counters",
    "Reading": "counters",
    "measure_energy": "measure",
    "open_counter": "counters",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
