"""Agency: attention heads with a gate and a state, on any model with registry-based attention."""

from resprout.models.agency.attachment import disable, enable, heads_of, is_enabled
from resprout.models.agency.calibration import calibrate
from resprout.models.agency.control import set_consent, set_gates, set_state
from resprout.models.agency.options import AgencyOptions
from resprout.models.agency.report import AgencyReport, agency_report

__all__ = [
    "AgencyOptions",
    "AgencyReport",
    "agency_report",
    "calibrate",
    "disable",
    "enable",
    "heads_of",
    "is_enabled",
    "set_consent",
    "set_gates",
    "set_state",
]
