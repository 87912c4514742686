"""All pages that a run's records make."""

from pathlib import Path

from resprout.record import StudyFile, read_checked
from resprout.report.agency.page import PAGE, write_agency_report
from resprout.report.page import write_report


def write_pages(folder: Path, *others: Path) -> list[str]:
    """Write the report, and the agency page where subjects with agency and without are compared.

    Args:
        folder: of the run.
        others: runs that are laid over it in one report; no agency page is written then.

    Returns:
        A line per page: what it is and its path, or why it is not there yet.

    Raises:
        ValueError: the folder is no run, or no point of it is finished.
    """
    whole = not others and (folder / "study.json").is_file()
    agency = _agency(folder) if whole else []  # first: the report names that page where it is
    return [f"report: {write_report(folder, *others)}", *agency]


def _agency(folder: Path) -> list[str]:
    study = read_checked(folder / "study.json", StudyFile)
    kinds = {bool(subject.get("agency")) for subject in study["spec"]["subjects"]}
    if kinds != {True, False}:
        return []
    try:
        return [f"agency: {write_agency_report(folder)}"]
    except ValueError as error:  # one side has no finished point
        (folder / PAGE).unlink(missing_ok=True)  # what lies there is of other records
        return [f"agency: no page yet ({error})"]
