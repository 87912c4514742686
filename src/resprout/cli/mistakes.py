"""A user's mistake, or a file that cannot be had, in one line."""


def in_one_line(error: ValueError | OSError) -> str:
    """What it says, blanks and line ends folded; of the system's errors the file's name first."""
    if isinstance(error, OSError):
        named = f"{error.filename}: " if error.filename else ""
        return named + " ".join(str(error.strerror or error).split())
    return " ".join(str(error).split())
