"""What is wrong with a study file, in one line."""

import re
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from resprout.hints import did_you_mean
from resprout.study.spec_measures import ONE_OR_SEVERAL


def one_line(error: ValidationError, shape: type[BaseModel]) -> str:
    """The first problem of a study file, in one line, and how many more there are."""
    problems = error.errors(include_url=False)
    # A misspelt key is why another is missing.
    first = min(problems, key=lambda problem: problem["type"] != "extra_forbidden")
    location = tuple(part for part in first["loc"] if part not in ONE_OR_SEVERAL)
    field = ".".join(map(str, location)) or "study"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    kind, context = first["type"], first.get("ctx", {})
    if kind == "extra_forbidden":
        allowed = _keys_at(shape, location[:-1])
        hint = did_you_mean(str(location[-1]), allowed)
        message = (
            f"{field}: unknown key (value {shown(first['input'])}), "
            f"allowed are {', '.join(allowed)}{hint}"
        )
    elif kind == "missing":
        told = _field_at(shape, location).description
        message = f"{field}: missing" + (f" ({told})" if told else "")
    elif kind == "value_error":
        said = str(context.get("error", first["msg"]))
        own_name = f"{first['loc'][-1]}: " if location else ""
        if location and said.partition(": ")[0] in _keys_at(shape, location):
            message = f"{field}.{said}"  # of several fields of a part, it names the one
        else:
            message = f"{field}: {said.removeprefix(own_name)}" if location else said
    elif kind == "too_short":
        message = f"{field}: got {shown(first['input'])}, allowed is one or more"
    elif kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", context["expected"])
        hint = did_you_mean(str(first["input"]), allowed)
        message = f"{field}: got {shown(first['input'])}, allowed are {context['expected']}{hint}"
    else:
        wanted = first["msg"].removeprefix("Input should be ")
        message = f"{field}: got {shown(first['input'])}, allowed is {wanted}"
    return " ".join((message + more).split())


def _keys_at(shape: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that a study file may have at `location`; none where that is no mapping."""
    part = _part_at(shape, location)
    return list(part.model_fields) if part is not None else []


def _field_at(shape: type[BaseModel], location: tuple[int | str, ...]) -> FieldInfo:
    part = _part_at(shape, location[:-1])
    assert part is not None  # something is missing in it
    return part.model_fields[str(location[-1])]


def _part_at(shape: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel] | None:
    part: type[BaseModel] | None = shape
    for step in location:
        if isinstance(step, int):
            continue
        if part is None or step not in part.model_fields:
            return None
        part = _model_in(part.model_fields[step].annotation)
    return part


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The part that a field holds, by itself, optionally or in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = map(_model_in, getattr(annotation, "__args__", ()))
    return next((found for found in inner if found is not None), None)


def shown(value: Any) -> str:
    """A value of a study file, not too long."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
