"""Whether a Ray cluster answers at an address, found out before Ray itself is asked.

Ray's own connecting to what does not answer waits for a minute, and then ends the process.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 10.0  # importing Ray is half of it
MODE = "RAY_AUTH_MODE"  # Ray's own variable
_TOKEN = "AuthenticationError"
LAST_STARTED = "ray_current_cluster"  # in Ray's folder: the address that `ray start` gave last


def check_answers(address: str) -> None:
    """See whether a cluster's head answers at an address, within seconds.

    Args:
        address: `HOST:PORT`, or `auto`: the cluster that this machine belongs to.

    Raises:
        ValueError: it does not.
    """
    at = check_listens(address)
    said = _health(address)
    if _TOKEN in said and MODE not in os.environ:
        os.environ[MODE] = "token"  # with the token that this user has, if there is one
        said = _health(address)
    if _TOKEN in said:
        why = "it asks for a token: RAY_AUTH_TOKEN or ~/.ray/auth_token, the same as there"
        raise no_answer(address, why)
    if said:
        why = "something listens there, but not a Ray of this version"
        raise no_answer(address, why if at else "this machine belongs to none")


def _health(address: str) -> str:
    """What Ray's own command says is wrong; empty where the cluster answers."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        done = subprocess.run(command, capture_output=True, timeout=ANSWER_SECONDS, text=True)
    except subprocess.TimeoutExpired as error:
        raise no_answer(address, f"no word in {ANSWER_SECONDS:g} s") from error
    return (done.stderr or "not healthy") if done.returncode else ""


def check_listens(address: str) -> str | None:
    """See whether anything listens there; that takes no import of Ray or torch.

    Returns:
        Where it is; None where `auto` finds no trace of a cluster, which Ray may find yet.

    Raises:
        ValueError: nothing does; the address is none.
    """
    at = _last_started() if address == "auto" else address
    if at is not None:
        _connect(address, at)
    return at


def _last_started() -> str | None:
    """Where `auto` looks: as Ray has it, its variable, then what was started here last."""
    given = os.environ.get("RAY_ADDRESS", "auto")
    if given != "auto":
        return given
    try:
        folder = Path(os.environ.get("RAY_TMPDIR", "/tmp"))
        return (folder / "ray" / LAST_STARTED).read_text().strip() or None
    except OSError:
        return None


def _connect(address: str, at: str) -> None:
    host, _, port = at.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(f"address: got {at!r}, allowed is HOST:PORT, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        why = error.strerror or str(error)
        raise no_answer(address, why if at == address else f"{at}: {why}") from error


def no_answer(address: str, why: str) -> ValueError:
    """The error that says so."""
    return ValueError(
        f"address: no Ray cluster answers at {address!r} ({why}); allowed is the head of one that "
        "runs, as `ray start --head` names it"
    )
