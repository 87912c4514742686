"""Energy of decoding: joules per token from hardware counters, net of the idle power."""

from typing import TYPE_CHECKING

from resprout.lazy import on_first_use

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
__getattr__ = on_first_use(__name__, _HOMES)
