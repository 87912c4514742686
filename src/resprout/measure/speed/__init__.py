"""Speed of decoding: time to the first token and per further token, tokens per second, memory."""

from resprout.measure.speed.measure import measure_speed
from resprout.measure.speed.options import SpeedOptions
from resprout.measure.speed.workloads import Workload, check_speed

__all__ = ["SpeedOptions", "Workload", "check_speed", "measure_speed"]
