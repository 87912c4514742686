"""Where things are that tests need and the project does not hold."""

from pathlib import Path

# The folder of real models and fixtures: beside the checkout, or in it. It may be absent.
SHARED = Path(__file__).resolve().parents[2] / "shared"
if not SHARED.is_dir():
    SHARED = Path(__file__).resolve().parents[1] / "shared"
