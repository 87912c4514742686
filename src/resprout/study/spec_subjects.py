"""What a study file says of its subjects: which models, and whether their heads carry agency."""

import json
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from resprout.study.spec_errors import shown
from resprout.study.spec_measures import Count, Part

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


def _can_be_written(value: Any) -> Any:
    """What a YAML file can say and the JSON of a model's configuration cannot is refused."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, TypeError) as error:  # infinities, dates, half a surrogate pair
        raise ValueError(
            f"got {shown(value)}, allowed is what JSON can say: finite numbers, texts, true, "
            "false, null, and lists and mappings of them"
        ) from error
    return value


class AgencySpec(Part):
    """A gate and a state for each head; what the figures mean stands at `AgencyOptions`."""

    gate_penalty: float | None = Field(
        default=None,
        ge=0,
        description="of the open gates in adaptation; default gates stay plain parameters",
    )
    gate_learning_rate: float = Field(
        default=0.05, gt=0, description="of the gates, with a gate_penalty"
    )
    states: bool = Field(default=True, description="whether states change during training")
    calibration_windows: Count = Field(
        default=32, description="of the training split, on which heads are observed"
    )
    overloaded_above: float = Field(
        default=0.85, ge=0, le=1, description="utilisation above which a head is overloaded"
    )
    misaligned_below: float = Field(
        default=0.6, ge=0, le=1, description="alignment below which a head is misaligned"
    )
    recovery_steps: Count = Field(default=100, description="steps until a head is active again")

    @model_validator(mode="after")
    def _rate_has_a_use(self) -> "AgencySpec":
        if self.gate_penalty is None and "gate_learning_rate" in self.model_fields_set:
            raise ValueError(
                f"gate_learning_rate: got {self.gate_learning_rate} without a gate_penalty, "
                "without which gates learn at the adaptation's own rate"
            )
        return self


class SubjectSpec(Part):
    """A subject: a size grown here (with a learning rate), or a trained model by name or path."""

    name: Name = Field(description="of the subject, in charts and tables")
    model: str = Field(min_length=1, description="a size's name, a Hub id or a model folder")
    revision: str | None = Field(
        default=None, description="of a Hub model: a branch, tag or commit"
    )
    config: dict[str, Annotated[Any, AfterValidator(_can_be_written)]] = Field(
        default_factory=dict, description="fields of a size's configuration to change"
    )
    learning_rate: float | None = Field(
        default=None, gt=0, description="for growing; found by a search"
    )
    learning_rate_search: dict[str, float] | None = Field(
        default=None, description="what the search found: learning rate -> nats per token"
    )
    agency: AgencySpec | None = Field(
        default=None, description="a gate and a state for each attention head"
    )
