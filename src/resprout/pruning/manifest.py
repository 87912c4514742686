"""`cut.json`: what a file of that name has to hold before anything is made of it."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from resprout.files import read_json
from resprout.pruning.amounts import Kind

FORMAT = 2
# More units or weights in one tensor than any model has: a number in a file may not fill memory.
_MOST = 2**40
_Size = Annotated[int, Field(ge=0, le=_MOST)]


class UnitsShape(BaseModel):
    """The units of a layer."""

    model_config = ConfigDict(strict=True, frozen=True)

    name: str
    count: Annotated[int, Field(ge=0, le=2**28)]
    kept: str


class Manifest(BaseModel):
    """All that is read of it; what each field means stands at `resprout.pruning.cut.Cut`."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)

    format: Literal[2]
    method: str
    unit: Literal["weight"] | Kind
    scope: str
    cut: Literal["mask", "remove"]
    protocol: str
    requested: Annotated[float, Field(ge=0, le=1)]
    kept: _Size
    prunable_parameters: _Size
    removed: _Size
    seed: _Size
    head_unit: str | None
    calibration: dict[str, Any] | None
    dead_units: list[str]
    group_kind: Kind | None
    groups: list[UnitsShape]
    prunable_names: list[str]
    shapes: dict[str, list[_Size]]
    earlier: list[dict[str, Any]]


def read_manifest(path: Path) -> Manifest:
    """A cut's manifest.

    Raises:
        ValueError: the file is none, naming it and what is wrong with it.
    """
    values = read_json(path)
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ValueError(f"cut: {path} is not a manifest of format {FORMAT}")
    try:
        return Manifest.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"cut: {path} lacks or garbles {where} ({first['msg']})") from error
