"""What a study file says of its measures: light, so that a mistake is told at once."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from resprout.measure.text.prompts import SETS, named_prompts, prompt_set
from resprout.models.sampling import TEMPERATURES, is_temperature

MeasureName = Literal["loss", "tasks", "speed", "text", "energy"]
Precision = Literal["float32", "bfloat16", "float16"]  # as `models.device` has them

ONE_OR_SEVERAL = ("one", "several")  # pydantic puts which of them it read into an error's place
_Item = TypeVar("_Item")
OneOrSeveral = Annotated[
    Annotated[_Item, Tag("one")] | Annotated[list[_Item], Field(min_length=1), Tag("several")],
    Discriminator(lambda value: "several" if isinstance(value, list) else "one"),
]
Count = Annotated[int, Field(ge=1, le=2**20)]


def _is_temperature(value: float) -> float:
    if not is_temperature(value):
        raise ValueError(f"got {value:g}, allowed is {TEMPERATURES}")
    return value


# A schema has no words for 0 and, from 1e-6, all above it.
Temperature = Annotated[float, Field(ge=0), AfterValidator(_is_temperature)]


class Part(BaseModel):
    """Part of a study file: unknown keys and wrong types are errors, never guesses."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=()
    )


_PROMPTS: dict[str, Any] = {
    "anyOf": [
        {"enum": list(SETS)},
        {
            "type": "object",
            "additionalProperties": {
                "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
            },
        },
    ]
}


class TextSpec(Part):
    """The text measure: prompts by category and how they are continued."""

    prompts: Annotated[dict[str, Any], WithJsonSchema(_PROMPTS)] = Field(
        description="category -> prompt or prompts, or one of our own sets: twelve, five"
    )
    new_tokens: Count = Field(default=40, description="that follow a prompt")
    temperature: Temperature = Field(
        default=0.7, description="of sampling; 0 = the likeliest token"
    )
    also_temperatures: list[Temperature] = Field(
        default=[], description="at which texts are written too, for `text_at`"
    )
    top_k: int = Field(default=40, ge=0, lt=2**31, description="sample among so many; 0 = all")
    seed: int = Field(
        default=0, ge=0, lt=2**31, description="of sampling; a point's own seed is added"
    )

    @field_validator("prompts", mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        if not value:
            raise ValueError(f"prompts: got {value!r}, allowed is one prompt or more")
        if isinstance(value, str):
            return prompt_set(value)
        named_prompts(value)
        return value

    @model_validator(mode="after")
    def _each_temperature_once(self) -> "TextSpec":
        names = [temperature_name(t) for t in (self.temperature, *self.also_temperatures)]
        if len(set(names)) != len(names):
            raise ValueError(
                f"also_temperatures: got {self.also_temperatures} beside the temperature "
                f"{self.temperature:g}, allowed is each once"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """What determines the texts: without further temperatures as it always was."""
        return self.model_dump(exclude=None if self.also_temperatures else {"also_temperatures"})


def temperature_name(temperature: float) -> str:
    """A temperature as a key of `text_at`, such as `1` or `0.7`."""
    return f"{temperature:g}"


class TaskSpec(Part):
    """The benchmark tasks: which, on what data, how much of each."""

    names: OneOrSeveral[Annotated[str, Field(min_length=1)]] = Field(
        description="glu13, standard, lm-eval's names"
    )
    data: str | None = Field(default=None, description="folder TASK/SPLIT.jsonl; default the Hub")
    limit: Count | None = Field(default=None, description="the first so many items of each task")
    shots: int | None = Field(default=None, ge=0, description="default each task's own")
    batch_size: Count | None = Field(
        default=None, description="rows per forward pass; default 1, as lm-eval's command line"
    )

    @field_validator("data")
    @classmethod
    def _is_folder(cls, value: str | None) -> str | None:
        if value is not None and not Path(value).is_dir():
            raise ValueError(f"data: {value!r} is not a folder")
        return value


class SpeedSpec(Part):
    """The speed measure: workloads and repeats; see `SpeedOptions`."""

    batches: list[Count] = Field(default=[1, 8], min_length=1, description="sequences at once")
    prompt_tokens: list[Count] | None = Field(
        default=None, min_length=1, description="lengths of the prompts; default 32"
    )
    new_tokens: list[Count] | None = Field(
        default=None, min_length=1, description="that follow, per sequence; default 20, 50 and 150"
    )
    repeats: Count = Field(default=5, description="timed runs; below 5 without an interval")
    warmup: Count = Field(default=2, description="runs before them, not timed")
    compile: Literal["off", "compile", "cuda-graphs"] = Field(
        default="off", description="of the decode step"
    )


class EnergySpec(Part):
    """The energy measure; its workloads are those of the speed."""

    idle_seconds: float = Field(
        default=5.0, gt=0, description="of idle power, before the workloads"
    )
