"""What a study file says of its cuts: methods, each at several amounts."""

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema, field_validator, model_validator

from resprout.pruning.amounts import check_amount, parse_pattern
from resprout.pruning.methods import METHODS, resolve
from resprout.pruning.methods import method as method_named
from resprout.pruning.options import read_options
from resprout.study.spec_measures import Count, Part
from resprout.study.spec_subjects import Name

_METHOD: dict[str, Any] = {
    "anyOf": [{"enum": list(METHODS)}, {"type": "string", "pattern": "^([a-z]+-)?[0-9]+:[0-9]+$"}]
}


class CutSpec(Part):
    """A method at several amounts. One that needs text reads the study's training windows."""

    method: Annotated[str, WithJsonSchema(_METHOD)] = Field(
        description="as `resprout methods` lists them, or a pattern: 2:4, wanda-2:4"
    )
    amounts: list[float] = Field(
        min_length=1, description="fractions of the prunable units, 0 to 1"
    )
    dead_threshold: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="share of zeros above which a BioGPT neuron goes whole",
    )
    scope: str | None = Field(default=None, description="default: the method's own")
    cut: Literal["mask", "remove"] = Field(
        default="mask", description="weights held at zero, or tensors really smaller"
    )
    round_to: int | None = Field(default=None, ge=1, description="neurons that stay, a multiple")
    head_unit: Literal["group", "query"] = Field(
        default="group", description="of grouped queries: whole groups, or single queries"
    )
    calibration_windows: Count | None = Field(
        default=None, description="to score on, of data.window tokens; default 128 of up to 512"
    )
    subjects: list[Name] | None = Field(
        default=None, min_length=1, description="which are cut so; default all"
    )

    def options(self) -> dict[str, Any]:
        """What `resprout.prune` is told beside method and amount, where it is not its default."""
        own = self.model_dump(exclude={"method", "amounts", "subjects", "calibration_windows"})
        return {
            name: value
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

    @field_validator("subjects")
    @classmethod
    def _subjects_once_each(cls, value: list[str] | None) -> list[str] | None:
        if value is not None and len(set(value)) != len(value):
            raise ValueError(f"subjects: got {value}, allowed is each name once")
        return value

    @model_validator(mode="after")
    def _heads_stay(self) -> "CutSpec":
        if method_named(self.method).unit == "head" and max(self.amounts) >= 1:
            raise ValueError(
                f"amounts: got {max(self.amounts):g}, allowed is below 1: it would remove every "
                "head of a layer"
            )
        return self

    @model_validator(mode="after")
    def _options_agree(self) -> "CutSpec":
        read_options(self.method, None if self.pattern else self.amounts[0], **self.options())
        return self

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
