"""The measures by name. Imports nothing heavy, so that a wrong name is refused at once."""

from collections.abc import Sequence

from resprout.hints import did_you_mean

MEASURES = ("loss", "tasks", "speed", "text", "energy")
WITHOUT_TASKS = ("loss", "speed", "text", "energy")


def read_measures(given: str | Sequence[str] | None, tasks: str | None = None) -> tuple[str, ...]:
    """The measures that a user means, in the house's order.

    Args:
        given: comma-separated or one by one; None = `tasks` where tasks are named, else all others.
        tasks: the tasks that were named.

    Raises:
        ValueError: an unknown measure; tasks that are named and not measured.
    """
    if given is None:
        return ("tasks",) if tasks is not None else WITHOUT_TASKS
    parts = given.split(",") if isinstance(given, str) else list(given)
    words = [word.strip() for word in parts if word.strip()]
    for word in words:
        if word not in MEASURES:
            raise ValueError(
                f"measures: got {word!r}, allowed are {', '.join(MEASURES)}"
                f"{did_you_mean(word, MEASURES)}"
            )
    if not words:
        raise ValueError(f"measures: got {given!r}, allowed are {', '.join(MEASURES)}")
    if tasks is not None and "tasks" not in words:
        raise ValueError(f"tasks: got {tasks!r}, but the measures are {', '.join(words)}")
    return tuple(name for name in MEASURES if name in words)
