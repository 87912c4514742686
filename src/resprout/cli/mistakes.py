"""A user's mistake, or a file that cannot be had, in one line."""

from typing import Any

# What typer and click, old and new, say of a word -> what we say.
_WANTED = {"integer": "a whole number", "float": "a number", "number": "a number"}


def in_one_line(error: ValueError | OSError | str) -> str:
    """What it says, blanks and line ends folded; of the system's errors the file's name first.

    What does not print (an escape sequence out of a file's name) is written out.
    """
    said = str(error)
    if isinstance(error, OSError):
        named = f"{error.filename}: " if error.filename else ""
        said = named + str(error.strerror or error)
    folded = " ".join(said.split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in folded)


def misused(error: Any, arguments: list[str]) -> str | None:
    """What click or typer have to say of a command line; None where the error is not of theirs.

    Args:
        error: any.
        arguments: the command line, in which the value is looked for that an option got.
    """
    tell = getattr(error, "format_message", None)
    if tell is None:
        return None
    option = getattr(error, "param", None)
    complaint = str(getattr(error, "message", ""))
    wanted = next((said for word, said in _WANTED.items() if f"valid {word}" in complaint), None)
    got = _value_of(getattr(option, "opts", ()), arguments)
    if wanted is None or got is None or type(error).__name__ != "BadParameter":
        return str(tell())
    return f"{getattr(option, 'name', '')}: got {got!r}, allowed is {wanted}"


def _value_of(spellings: Any, arguments: list[str]) -> str | None:
    """The last value that an option is given."""
    found = None
    for i, word in enumerate(arguments):
        name, sign, value = word.partition("=")
        if name in spellings:
            found = value if sign else next(iter(arguments[i + 1 :]), None)
    return found
