"""Energy of decoding: joules per token from hardware counters, net of the idle power."""

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
