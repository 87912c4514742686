"""JSON files of ours that carry a digest of themselves, by which a change is noticed."""

import hashlib
import json
from pathlib import Path
from typing import Any

from resprout.files import read_json

# In such a file: the sha256 of the rest of it. Older files have none.
SEAL = "content_sha256"


def sealed(values: dict[str, Any]) -> dict[str, Any]:
    """The values with a digest of themselves."""
    return {**values, SEAL: _seal(values)}


def seal_holds(values: Any) -> bool:
    """Whether what was read is what was sealed; what has no seal passes."""
    return not isinstance(values, dict) or values.get(SEAL, found := _seal(values)) == found


def read_sealed(path: Path) -> Any:
    """What a JSON file of ours says, as it was written, without its seal.

    Raises:
        ValueError: one line that names the file: it is not JSON, is damaged, or cannot be read.
    """
    try:
        found = read_json(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    if not seal_holds(found):
        raise ValueError(f"{path}: damaged, it is not as it was written (sha256)")
    if isinstance(found, dict):
        found.pop(SEAL, None)  # it is the file's, not what the file says
    return found


def _seal(values: dict[str, Any]) -> str:
    plain = {name: value for name, value in values.items() if name != SEAL}
    text = json.dumps(plain, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
