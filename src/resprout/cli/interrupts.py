"""Ctrl-C: the command that goes on, and leaving while libraries are being imported.

An import takes seconds and cannot be left in between.
"""

import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

START_OVER = ("--start_over", "--start-over")


def going_on() -> str:
    """The command that goes on with what was stopped: as it was given, but not to start over."""
    words = [word for word in sys.argv[1:] if word not in START_OVER]
    module = sys.modules.get("__main__")
    spec = getattr(module, "__spec__", None)
    if spec is None:
        return shlex.join([Path(sys.argv[0]).name, *words])
    name = spec.name.removesuffix(".__main__")
    return shlex.join(["python", "-m", name, *words])


@contextmanager
def ends_at_once(said: Callable[[], str]) -> Iterator[None]:
    """Within, Ctrl-C during an import ends the process, with a line and exit code 130.

    Python would raise KeyboardInterrupt there, which libraries in the middle of their own import
    swallow or turn into errors of their own. Everywhere else it is raised as ever.

    Args:
        said: what to print then.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if not _importing(frame):
            raise KeyboardInterrupt
        print(f"\n{said()}", file=sys.stderr, flush=True)
        os._exit(130)  # as safe as a kill: what is written is written whole

    others = signal.getsignal(signal.SIGINT) is not signal.default_int_handler  # or ignored
    if others or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
