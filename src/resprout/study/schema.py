"""The JSON schema of study files, with which editors complete and check them.

    # yaml-language-server: $schema=study.schema.json

It says less than `read_spec`: what depends on other fields or on this machine stands there alone.
"""

from typing import Any

from resprout.study.spec import StudySpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def study_schema() -> dict[str, Any]:
    """The schema of a study file, as JSON values."""
    return {"$schema": DIALECT, **StudySpec.model_json_schema(by_alias=True)}
