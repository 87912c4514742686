"""What is wrong with a study file, in one line."""

from typing import Any

from pydantic import BaseModel, ValidationError

from resprout.hints import did_you_mean
from resprout.study.spec_measures import ONE_OR_SEVERAL


def one_line(error: ValidationError, shape: type[BaseModel]) -> str:
    """The first problem of a study file, in one line, and how many more there are."""
    problems = error.errors(include_url=False)
    first = problems[0]
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
        message = f"{field}: missing"
    elif kind == "value_error":
        said = str(context.get("error", first["msg"]))
        own_name = f"{first['loc'][-1]}: " if location else ""
        message = f"{field}: {said.removeprefix(own_name)}" if location else said
    elif kind == "too_short":
        message = f"{field}: got {shown(first['input'])}, allowed is one or more"
    elif kind == "literal_error":
        message = f"{field}: got {shown(first['input'])}, allowed are {context['expected']}"
    else:
        wanted = first["msg"].removeprefix("Input should be ")
        message = f"{field}: got {shown(first['input'])}, allowed is {wanted}"
    return " ".join((message + more).split())


def _keys_at(shape: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that the part of a study file at `location` may have."""
    part: Any = shape
    for step in location:
        if isinstance(step, int):
            continue
        annotation = part.model_fields[step].annotation
        models = [annotation, *getattr(annotation, "__args__", ())]
        part = next(m for m in models if isinstance(m, type) and issubclass(m, BaseModel))
    return list(part.model_fields)


def shown(value: Any) -> str:
    """A value of a study file, not too long."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
