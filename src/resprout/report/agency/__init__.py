"""Agency against its baseline: a page, charts and answers from a run's records."""

from resprout.report.agency.page import write_agency_report

__all__ = ["write_agency_report"]
