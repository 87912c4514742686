"""What a study file says of its text."""

from pathlib import Path

from pydantic import Field, field_validator, model_validator

from resprout.data.sources import check_source
from resprout.data.tokenizer import SMALLEST_VOCABULARY
from resprout.data.tokens import MANIFEST
from resprout.study.spec_measures import Part


class DataSpec(Part):
    """The text, how it is split, tokenised and windowed."""

    source: str = Field(
        description="'stdlib', 'installed', a file or folder of text, or what `prepare` wrote"
    )
    held_out: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="share of the documents kept for validation; prepared data has its own",
    )
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

    @property
    def is_prepared(self) -> bool:
        """Whether the source is tokens already, one tokenizer's, that every subject reads."""
        return (Path(self.source) / MANIFEST).is_file()

    @model_validator(mode="after")
    def _split_and_tokenised_once(self) -> "DataSpec":
        if not self.is_prepared and self.held_out is None:
            raise ValueError("held_out: missing, needed to split text")
        for name in ("held_out", "train_tokenizer"):
            if self.is_prepared and getattr(self, name) is not None:
                raise ValueError(
                    f"{name}: got {getattr(self, name)}, allowed only with text; {self.source!r} "
                    "is prepared data, which has its own"
                )
        return self
