"""A study as its YAML file declares it, checked whole before anything is done."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from resprout.data.sources import check_source
from resprout.data.tokenizer import SMALLEST_VOCABULARY
from resprout.hints import did_you_mean
from resprout.pruning.protocols import ProtocolName
from resprout.study.spec_cuts import CutSpec
from resprout.study.spec_measures import (
    EnergySpec,
    MeasureName,
    Part,
    Precision,
    SpeedSpec,
    TaskSpec,
    TextSpec,
)
from resprout.study.spec_subjects import AgencySpec, Name, SubjectSpec
from resprout.train.options import SharedTraining, TrainingOptions

__all__ = ["AgencySpec", "CutSpec", "StudySpec", "SubjectSpec", "read_spec"]


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


class StudySpec(Part):
    """A whole study."""

    study: Name
    question: str = ""
    protocol: ProtocolName = "fair"
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(default=[0], min_length=1)
    data: DataSpec
    subjects: list[SubjectSpec] = Field(min_length=1)
    training: SharedTraining | None = None
    adaptation: TrainingOptions | None = Field(
        default=None, description="further training of every subject, before any cut"
    )
    cuts: list[CutSpec] = Field(min_length=1)
    recovery: TrainingOptions
    precision: Precision = Field(
        default="float32", description="of the weights after recovery, while they are measured"
    )
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
        if "loss" not in self.measures:
            raise ValueError("measures: needs 'loss', from which every comparison is made")
        for needed in ("text", "tasks"):
            if needed in self.measures and getattr(self, needed) is None:
                raise ValueError(f"{needed}: missing, needed since measures names {needed!r}")
        for subject in self.subjects:
            if subject.learning_rate is not None and self.training is None:
                raise ValueError(f"training: missing, needed to grow the subject {subject.name!r}")
        self._check_agency()
        self._check_cuts()
        return self

    def _check_agency(self) -> None:
        for index, subject in enumerate(self.subjects):
            penalty = subject.agency.gate_penalty if subject.agency is not None else None
            if penalty is not None and not self.adapts:
                raise ValueError(
                    f"subjects.{index}.agency.gate_penalty: got {penalty:g}, allowed only with "
                    "'adaptation' of one step or more, in which gates are learned"
                )

    def _check_cuts(self) -> None:
        """Cuts name subjects that are there, every subject is cut, and nothing twice."""
        names = [subject.name for subject in self.subjects]
        for index, cut in enumerate(self.cuts):
            for name in cut.subjects or ():
                if name not in names:
                    raise ValueError(
                        f"cuts.{index}.subjects: got {name!r}, allowed are {', '.join(names)}"
                        + did_you_mean(name, names)
                    )
        for index, subject in enumerate(self.subjects):
            pairs = [
                (cut.method, json.dumps(cut.options(), sort_keys=True), amount)
                for cut in self.cuts_of(subject)
                for amount in cut.amounts
            ]
            if not pairs:
                raise ValueError(f"subjects.{index}: no cut names the subject {subject.name!r}")
            if len(set(pairs)) != len(pairs):
                raise ValueError("cuts: the same method and amount stands there twice")

    @property
    def adapts(self) -> bool:
        """Whether subjects are trained further before any cut."""
        return self.adaptation is not None and self.adaptation.steps > 0

    def cuts_of(self, subject: SubjectSpec) -> list[CutSpec]:
        """The cuts of one subject, in order."""
        return [c for c in self.cuts if c.subjects is None or subject.name in c.subjects]

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
