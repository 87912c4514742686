"""Bringing a git checkout up to date by fast-forward alone: nothing is ever overwritten.

Python's own library is all that this file needs, so that it can be loaded by its path out of a
fresh clone, before anything is installed (the Colab runner does).
"""

import os
import subprocess
from pathlib import Path

_TIMEOUT_SECONDS = 600
# A hook or another git command sets these, and they would lead git to another repository.
_ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")


def checkout_of(place: Path) -> Path | None:
    """The git checkout that a file or folder lies in; None where it lies in none."""
    folder = place if place.is_dir() else place.parent
    try:
        return Path(git(folder, "rev-parse", "--show-toplevel"))
    except ValueError:
        return None


def update(checkout: Path) -> str | None:
    """Fetch the current branch and go forward to it.

    Args:
        checkout: the folder of a git checkout.

    Returns:
        The new commit, shortened; None where there was nothing new.

    Raises:
        ValueError: no git, no checkout, no remote, a detached head, local changes, commits that
            the remote has not beside others that it has, an unreachable remote. Nothing is changed
            then.
    """
    where = f"update: {str(checkout)!r}"
    if checkout_of(checkout) is None:
        raise ValueError(f"{where} is not a git checkout; allowed is a clone of the repository")
    try:
        branch = git(checkout, "symbolic-ref", "--quiet", "--short", "HEAD")
    except ValueError as error:
        raise ValueError(f"{where} has a detached head; allowed is a branch") from error
    if changed := git(checkout, "status", "--porcelain", "--untracked-files=no"):
        first = changed.splitlines()[0].split(maxsplit=1)[-1]
        raise ValueError(f"{where} has local changes, such as {first}; commit or stash them first")
    upstream = _upstream(checkout, branch, where)
    try:
        git(checkout, "fetch", "--quiet", upstream.partition("/")[0])
    except ValueError as error:
        raise ValueError(f"{where}: the remote cannot be fetched ({error})") from error
    before = git(checkout, "rev-parse", "HEAD")
    try:
        ahead, behind = map(int, _counts(checkout, upstream))
    except ValueError as error:
        raise ValueError(f"{where}: the remote has no {upstream}") from error
    if behind and ahead:
        raise ValueError(
            f"{where} and {upstream} have diverged ({ahead} and {behind} commits); allowed is a "
            "branch that can be fast-forwarded"
        )
    if not behind:
        return None
    try:
        git(checkout, "merge", "--ff-only", "--no-autostash", "--quiet", upstream)
    except ValueError as error:
        raise ValueError(f"{where} cannot be fast-forwarded ({error})") from error
    assert git(checkout, "rev-parse", "HEAD") != before
    return git(checkout, "rev-parse", "--short", "HEAD")


def clone(repository: str, folder: Path) -> None:
    """Clone a repository into a folder that is not there yet.

    Raises:
        ValueError: it cannot be had.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        git(folder.parent, "clone", "--quiet", "--", repository, str(folder.absolute()))
    except ValueError as error:
        raise ValueError(f"repository: {repository!r} cannot be cloned ({error})") from error


def git(folder: Path, *arguments: str) -> str:
    """What a git command says on standard output.

    Raises:
        ValueError: it fails or is not installed; the message is its own last line.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    # Never ask: a question that nobody sees would hang a notebook.
    environment |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT_SECONDS,
            env=environment,
        )
    except FileNotFoundError as error:
        raise ValueError("git is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"no answer in {_TIMEOUT_SECONDS} seconds") from error
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        telling = [line for line in said if line.startswith(("fatal:", "error:"))] or said
        raise ValueError(telling[0] if telling else f"git {arguments[0]} failed")
    return done.stdout.rstrip("\n")


def _upstream(checkout: Path, branch: str, where: str) -> str:
    """The remote's branch that a branch follows, such as `origin/main`."""
    remotes = git(checkout, "remote").split()
    if not remotes:
        raise ValueError(f"{where} has no remote; allowed is a clone of the repository")
    try:
        return git(checkout, "rev-parse", "--abbrev-ref", f"{branch}@{{upstream}}")
    except ValueError:
        remote = "origin" if "origin" in remotes else remotes[0]
        return f"{remote}/{branch}"


def _counts(checkout: Path, upstream: str) -> list[str]:
    """How many commits only this branch has, and how many only the remote's."""
    return git(checkout, "rev-list", "--left-right", "--count", f"HEAD...{upstream}").split()
