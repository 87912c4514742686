"""A study as its YAML file declares it, checked whole before anything is done."""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator, model_validator

from resprout.hints import did_you_mean
from resprout.pruning.protocols import ProtocolName
from resprout.study.spec_cuts import CutSpec
from resprout.study.spec_data import DataSpec
from resprout.study.spec_errors import one_line, shown
from resprout.study.spec_measures import (
    EnergySpec,
    MeasureName,
    OneOrSeveral,
    Part,
    Precision,
    SpeedSpec,
    TaskSpec,
    TextSpec,
)
from resprout.study.spec_resources import ResourcesSpec
from resprout.study.spec_subjects import AgencySpec, Name, SubjectSpec
from resprout.study.spec_yaml import MOST_BYTES, read_yaml
from resprout.train.options import SharedTraining, TrainingOptions

__all__ = ["AgencySpec", "CutSpec", "StudySpec", "SubjectSpec", "read_spec"]


NO_RECOVERY = TrainingOptions(steps=0, learning_rate=1e-4)


class StudySpec(Part):
    """A whole study."""

    study: Name = Field(description="name of the study and, by default, of its run's folder")
    question: str = Field(default="", description="what it asks, in words")
    protocol: OneOrSeveral[ProtocolName] = Field(
        default="fair",
        description="'fair' (the same rules for all), 'paper' (as published), or a list of both",
    )
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(
        default=[0],
        min_length=1,
        description="of growing, adaptation, recovery, random scores and sampling",
    )
    data: DataSpec = Field(description="the text")
    subjects: list[SubjectSpec] = Field(min_length=1, description="models under study")
    training: SharedTraining | None = Field(
        default=None, description="growing of sizes; each subject has its own learning rate"
    )
    adaptation: TrainingOptions | None = Field(
        default=None, description="further training of every subject, before any cut"
    )
    cuts: list[CutSpec] = Field(min_length=1, description="methods, each at several amounts")
    recovery: TrainingOptions = Field(
        default=NO_RECOVERY, description="training after each cut, masks held; default none"
    )
    precision: Precision = Field(
        default="float32", description="of the weights after recovery, while they are measured"
    )
    measures: list[MeasureName] = Field(
        min_length=1, description="what is measured of each point; loss always"
    )
    text: TextSpec | None = Field(default=None, description="of the measure `text`")
    tasks: TaskSpec | None = Field(default=None, description="of the measure `tasks`")
    speed: SpeedSpec | None = Field(
        default=None, description="workloads of the measures `speed` and `energy`"
    )
    energy: EnergySpec | None = Field(default=None, description="of the measure `energy`")
    resources: ResourcesSpec | None = Field(
        default=None, description="what one point is given while it is worked"
    )

    @field_validator("recovery", "adaptation", mode="before")
    @classmethod
    def _no_steps_need_no_rate(cls, value: Any) -> Any:
        """No training is written `{steps: 0}`: nothing is learned, at whatever rate."""
        if isinstance(value, dict) and value.get("steps") == 0 and "learning_rate" not in value:
            return value | {"learning_rate": NO_RECOVERY.learning_rate}
        return value

    @model_validator(mode="after")
    def _parts_agree(self) -> "StudySpec":
        names = [subject.name for subject in self.subjects]
        if len(set(names)) != len(names):
            raise ValueError(f"subjects: got names {names}, allowed is each name once")
        if isinstance(self.protocol, list) and len(set(self.protocol)) != len(self.protocol):
            raise ValueError(f"protocol: got {self.protocol}, allowed is each once")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: got {self.seeds}, allowed is each seed once")
        if len(set(self.measures)) != len(self.measures):
            raise ValueError(f"measures: got {self.measures}, allowed is each measure once")
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
    def protocols(self) -> tuple[ProtocolName, ...]:
        """The protocols under which every cut is made and measured."""
        return tuple(self.protocol) if isinstance(self.protocol, list) else (self.protocol,)

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


def read_spec(path: str | Path) -> StudySpec:
    """Read and check a study file.

    Raises:
        ValueError: one line that names the file, the field, the value got and what is allowed.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"study: {str(path)!r} is not a file")
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise ValueError(f"{path}: got {size:,} bytes, allowed is at most {MOST_BYTES:,}")
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason})") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        values = read_yaml(text)
    except ValueError as error:
        raise ValueError(f"{path}: not valid YAML ({error})") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: got {shown(values)}, allowed is a mapping of a study's fields")
    try:
        return StudySpec.model_validate(values)
    except ValidationError as error:
        raise ValueError(f"{path}: {one_line(error, StudySpec)}") from error
