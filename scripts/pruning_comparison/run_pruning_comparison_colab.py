"""The comparison on Google Colab, or wherever there is a GPU: as a script, or pasted into a cell.

A cell has no command line: put its flags into ARGUMENTS. See README.md beside this.
"""

import os
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

REPOSITORY = ""  # what to clone; or --repository URL, or the environment's RESPROUT_REPOSITORY
ARGUMENTS = []  # of a cell, such as ["--model_name=distilgpt2", "--iterations=5"]
FOLDER = "resprout"  # of the clone
UPDATE = "src/resprout/cli/update.py"
DRIVE = Path("/content/drive")


def drive_folder():
    """Where results outlive the machine: on the user's Drive, where Colab has one; else None."""
    try:
        from google.colab import drive
    except ImportError:
        return None
    if not (DRIVE / "MyDrive").is_dir():
        try:
            drive.mount(str(DRIVE))
        except Exception as error:  # refused, or run by `!python`, which cannot ask
            print(f"Drive is not mounted ({error}); results stay on this machine", file=sys.stderr)
            return None
    return DRIVE / "MyDrive" / "pruning_agency"


def own_checkout():
    """The checkout that this file, or a cell's folder, lies in; None where there is none."""
    place = Path(globals().get("__file__") or Path.cwd() / "cell").resolve()
    return next((folder for folder in place.parents if (folder / UPDATE).is_file()), None)


def clone_or_update(repository):
    """The clone beside this, made now or brought up to date."""
    folder = Path(FOLDER).absolute()
    if (folder / UPDATE).is_file():
        runpy.run_path(str(folder / UPDATE))["update"](folder)
        return folder
    if not repository:
        raise ValueError(
            "repository: missing, needed outside a checkout: --repository URL, the environment's "
            "RESPROUT_REPOSITORY, or REPOSITORY at the top of this file"
        )
    if folder.exists():
        raise ValueError(f"repository: {str(folder)!r} is there and is no clone of it")
    asked = ["git", "clone", "--quiet", "--", repository, str(folder)]
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    done = subprocess.run(asked, capture_output=True, text=True, env=environment)
    if done.returncode or not (folder / UPDATE).is_file():
        said = (done.stderr.strip().splitlines() or ["it holds no Resprout"])[-1]
        raise ValueError(f"repository: {repository!r} cannot be cloned ({said})")
    return folder


def make_ready(checkout):
    """Install the checkout where it is not, and use its own code."""
    if find_spec("resprout") is None:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "-e", str(checkout)]
        if subprocess.run(install).returncode:
            raise ValueError(f"cannot be installed; try: {' '.join(install)}")
    sys.path.insert(0, str(checkout / "src"))


def take(arguments, flag):
    """A flag's value, `--flag value` or `--flag=value`, and the arguments without it."""
    for i, word in enumerate(arguments):
        if word == flag and i + 1 < len(arguments):
            return arguments[i + 1], [*arguments[:i], *arguments[i + 2 :]]
        if word.startswith(f"{flag}="):
            return word.partition("=")[2], [*arguments[:i], *arguments[i + 1 :]]
    return None, arguments


def run(arguments):
    """Get the program, get the Drive, compare; returns the exit code."""
    given, arguments = take(arguments, "--repository")
    try:
        own = checkout = own_checkout()
        if checkout is None:
            wanted = given or os.environ.get("RESPROUT_REPOSITORY") or REPOSITORY
            checkout = clone_or_update(wanted)
        make_ready(checkout)
    except ValueError as error:
        print(f"run_pruning_comparison_colab: error: {error}", file=sys.stderr)
        return 2
    defaults = {"precision": "auto"}  # the best of the GPU
    if (drive := drive_folder()) is not None:
        defaults["output_dir"] = str(drive)

    from resprout.cli.agency_comparison import main

    return main(arguments, globals().get("__file__") if own else None, defaults)


if __name__ == "__main__" or "__file__" not in globals():
    # A cell's sys.argv is the notebook's own.
    code = run(sys.argv[1:] if "__file__" in globals() else list(ARGUMENTS))
    if code or "__file__" in globals():
        sys.exit(code)
