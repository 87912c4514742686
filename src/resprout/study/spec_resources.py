"""What a study file says of the means that one point needs; it does not name the point's result."""

from typing import Annotated

from pydantic import Field

from resprout.study.spec_measures import Part


class ResourcesSpec(Part):
    """What one point is given while it is worked."""

    cpus: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        default=None, description="CPU threads of a point, the same in every engine"
    )
    gpus: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="GPUs of a point under Ray: 0.5 = two points share one"
    )
    memory_gb: Annotated[float, Field(gt=0, le=2**20)] | None = Field(
        default=None, description="memory of a point under Ray, in 10^9 bytes"
    )
