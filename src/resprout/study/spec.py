"""A study as its YAML file declares it, checked whole before anything is done."""

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from resprout.data.sources import check_source
from resprout.data.tokenizer import SMALLEST_VOCABULARY
from resprout.hints import did_you_mean
from resprout.pruning.amounts import check_amount, parse_pattern
from resprout.pruning.methods import method as method_named
from resprout.pruning.methods import resolve
from resprout.pruning.protocols import ProtocolName
from resprout.study.spec_measures import (
    EnergySpec,
    MeasureName,
    Part,
    SpeedSpec,
    TaskSpec,
    TextSpec,
)
from resprout.train.options import SharedTraining, TrainingOptions

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class DataSpec(Part):
    """The text, how it is split, tokenised and windowed."""

    source: str = Field(description="'stdlib', 'installed', or a file or folder of text")
    held_out: float = Field(gt=0, lt=1, description="share of the documents kept for validation")
    train_tokenizer: int | None = Field(
        default=None,
        ge=SMALLEST_VOCABULARY,
        le=2**20,
        description="vocabulary of the byte-level BPE trained on the text, for grown subjects",
    )
    window: int = Field(ge=2, le=2**20, description="tokens predicted per window")

    @field_validator("source")
    @classmethod
    def _source_is_there(cls, value: str) -> str:
        check_source(value)
        return value


class SubjectSpec(Part):
    """A subject: a size grown here (with a learning rate), or a trained model by name or path."""

    name: Name
    model: str = Field(min_length=1, description="a size's name, a Hub id or a model folder")
    revision: str | None = None
    config: dict[str, Any] = Field(
        default_factory=dict, description="fields of a size's configuration to change"
    )
    learning_rate: float | None = Field(
        default=None, gt=0, description="for growing; found by a search"
    )
    learning_rate_search: dict[str, float] | None = Field(
        default=None, description="what the search found: learning rate -> nats per token"
    )


class CutSpec(Part):
    """A method at several amounts. One that needs text reads the study's training windows."""

    method: str
    amounts: list[float] = Field(min_length=1)
    dead_threshold: float | None = Field(default=None, ge=0, le=1)
    scope: str | None = Field(default=None, description="default: the method's own")
    cut: Literal["mask", "remove"] = "mask"
    round_to: int | None = Field(default=None, ge=1, description="neurons that stay, a multiple")
    head_unit: Literal["group", "query"] = "group"

    def options(self) -> dict[str, Any]:
        """What `resprout.prune` is told beside method and amount, where it is not its default."""
        own = self.model_dump(exclude={"method", "amounts"})
        return {
            name: value
            for name, value in own.items()
            if value != CutSpec.model_fields[name].default
            for name, value in own.items()
            if value != CutSpec.model_fields[name].default
        }

    @property
    def pattern(self) -> str | None:
        """The pattern that decides the amount, such as 2:4."""
        scope = resolve(self.method, self.scope)[1]
        return scope if ":" in scope else None

    @field_validator("method")
    @classmethod
    def _known(cls, value: str) -> str:
        method_named(value)
        return value

    @field_validator("amounts")
    @classmethod
    def _fractions_once_each(cls, value: list[float]) -> list[float]:
        for amount in value:
            check_amount(amount)
        if len(set(value)) != len(value):
            raise ValueError(f"amounts: got {value}, allowed is each amount once")
        return value

    @model_validator(mode="after")
    def _scope_and_amounts_agree(self) -> "CutSpec":
        if self.pattern is not None:
            kept, of = parse_pattern(self.pattern)
            implied = 1 - kept / of
            if other := [a for a in self.amounts if a and abs(a - implied) > 1e-9]:
                raise ValueError(
                    f"amounts: got {other[0]}, allowed with the pattern {self.pattern} are 0 and "
                    f"{implied:g}"
                )
        return self


class StudySpec(Part):
    """A whole study."""

    study: Name
    question: str = ""
    protocol: ProtocolName = "fair"
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(default=[0], min_length=1)
    data: DataSpec
    subjects: list[SubjectSpec] = Field(min_length=1)
    training: SharedTraining | None = None
    cuts: list[CutSpec] = Field(min_length=1)
    recovery: TrainingOptions
    measures: list[MeasureName] = Field(min_length=1)
    text: TextSpec | None = None
    tasks: TaskSpec | None = None
    speed: SpeedSpec | None = None
    energy: EnergySpec | None = None

    @model_validator(mode="after")
    def _parts_agree(self) -> "StudySpec":
        names = [subject.name for subject in self.subjects]
        if len(set(names)) != len(names):
            raise ValueError(f"subjects: got names {names}, allowed is each name once")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: got {self.seeds}, allowed is each seed once")
        pairs = [
            (cut.method, json.dumps(cut.options(), sort_keys=True), amount)
            for cut in self.cuts
            for amount in cut.amounts
        ]
        if len(set(pairs)) != len(pairs):
            raise ValueError("cuts: the same method and amount stands there twice")
        if "loss" not in self.measures:
            raise ValueError("measures: needs 'loss', from which every comparison is made")
        for needed in ("text", "tasks"):
            if needed in self.measures and getattr(self, needed) is None:
                raise ValueError(f"{needed}: missing, needed since measures names {needed!r}")
        for subject in self.subjects:
            if subject.learning_rate is not None and self.training is None:
                raise ValueError(f"training: missing, needed to grow the subject {subject.name!r}")
        return self

    def training_of(self, subject: SubjectSpec) -> TrainingOptions:
        """The shared training options at the subject's own learning rate."""
        assert self.training is not None and subject.learning_rate is not None
        shared = self.training.model_dump()
        return TrainingOptions(**shared, learning_rate=subject.learning_rate)


class _Loader(yaml.SafeLoader):
    """YAML that reads 4e-3 as a number and refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key!r} stands twice", problem_mark=key_node.start_mark
                )
            seen.add(key if isinstance(key, str) else id(key_node))
        return super().construct_mapping(node, deep=deep)


# YAML 1.1, which PyYAML reads, wants a point in every float; 1.2 and people write 4e-3.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def read_spec(path: str | Path) -> StudySpec:
    """Read and check a study file.

    Raises:
        ValueError: one line that names the file, the field, the value got and what is allowed.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"study: {str(path)!r} is not a file")
    try:
        values = yaml.load(path.read_text("utf-8"), Loader=_Loader)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason})") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML ({_where(error)})") from error
    except (RecursionError, ValueError) as error:  # too deep; a number that is none, by its tag
        raise ValueError(f"{path}: not valid YAML ({str(error) or 'nested too deep'})") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: got {_shown(values)}, allowed is a mapping of a study's fields")
    try:
        return StudySpec.model_validate(values)
    except ValidationError as error:
        raise ValueError(f"{path}: {_one_line(error)}") from error


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem


def _one_line(error: ValidationError) -> str:
    """The first problem of a study file, in one line, and how many more there are."""
    problems = error.errors(include_url=False)
    first = problems[0]
    field = ".".join(str(part) for part in first["loc"]) or "study"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    kind, context = first["type"], first.get("ctx", {})
    if kind == "extra_forbidden":
        allowed = _keys_at(first["loc"][:-1])
        hint = did_you_mean(str(first["loc"][-1]), allowed)
        message = (
            f"{field}: unknown key (value {_shown(first['input'])}), "
            f"allowed are {', '.join(allowed)}{hint}"
        )
    elif kind == "missing":
        message = f"{field}: missing"
    elif kind == "value_error":
        said = str(context.get("error", first["msg"]))
        own_name = f"{first['loc'][-1]}: " if first["loc"] else ""
        message = f"{field}: {said.removeprefix(own_name)}" if first["loc"] else said
    elif kind == "literal_error":
        message = f"{field}: got {_shown(first['input'])}, allowed are {context['expected']}"
    else:
        wanted = first["msg"].removeprefix("Input should be ")
        message = f"{field}: got {_shown(first['input'])}, allowed is {wanted}"
    return " ".join((message + more).split())


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    """The keys that the part of a study file at `location` may have."""
    part: Any = StudySpec
    for step in location:
        if isinstance(step, int):
            continue
        annotation = part.model_fields[step].annotation
        models = [annotation, *getattr(annotation, "__args__", ())]
        part = next(m for m in models if isinstance(m, type) and issubclass(m, BaseModel))
    return list(part.model_fields)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
