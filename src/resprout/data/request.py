"""What is asked for: checked before work starts, and compared with what a folder holds."""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from resprout.data.tokenizer import SMALLEST_VOCABULARY
from resprout.hints import did_you_mean

Protocol = Literal["fair", "paper"]
PROTOCOLS: tuple[str, ...] = get_args(Protocol)
# A tokenizer learns little more from more text, and the counts of its words have to fit in memory.
TRAIN_TOKENIZER_BYTES = 256_000_000
LARGEST_VOCABULARY = 2**20


@dataclass(frozen=True)
class Request:
    """All that determines the files that come out."""

    source: str  # as the user called it
    text: dict[str, Any]  # the source's identity
    target_tokens: int | None
    val_fraction: float
    protocol: str
    tokenizer: dict[str, Any] | None  # name, sha256, end_of_text of a given one
    train_tokenizer: int | None
    train_tokenizer_bytes: int = TRAIN_TOKENIZER_BYTES

    @property
    def held_out(self) -> float:
        """The share of the documents held out by name; under `paper` none is."""
        return self.val_fraction if self.protocol == "fair" else 0.0

    def described(self) -> dict[str, Any]:
        """As JSON."""
        return dict(vars(self))

    def check_same(self, found: dict[str, Any], state: str, folder: str) -> None:
        """Refuse a folder that holds the work of another request.

        Args:
            found: the request in that folder, as `described` gave it.
            state: `finished` or `unfinished`.
            folder: its name.

        Raises:
            ValueError: names the first option that differs, and both values.
        """
        for name, asked in self._compared(self.described()).items():
            there = self._compared(found).get(name)
            if there == asked:
                continue
            if name == "source":
                shown = (found.get("source"), self.source)
                what = f"was made from {shown[0]!r}, now asked for is {shown[1]!r}"
                if shown[0] == shown[1]:
                    what = f"was made from {shown[0]!r} as its text or field was then"
            else:
                what = f"was made with {_shown(there)}, now asked for is {_shown(asked)}"
            raise ValueError(
                f"{name}: {folder!r} ({state}) {what}; allowed is the same again, another out_dir, "
                "or --start_over to remove what is there"
            )

    @staticmethod
    def _compared(described: dict[str, Any]) -> dict[str, Any]:
        """Option -> what of it matters: a text by its content, not by how its path was spelled."""
        values = dict(described)
        values["source"] = values.pop("text", None)
        given = values.get("tokenizer")
        if isinstance(given, dict):
            values["tokenizer"] = _Named(given)
        if values.get("train_tokenizer") is None:
            values.pop("train_tokenizer_bytes", None)
        return values


class _Named(dict[str, Any]):
    """A tokenizer: the same by its digest and end of text, shown by its name."""

    def __eq__(self, other: object) -> bool:
        keys = ("sha256", "end_of_text")
        return isinstance(other, dict) and all(self.get(key) == other.get(key) for key in keys)

    __hash__ = None


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value.get('name')!r} (sha256 {str(value.get('sha256'))[:12]})"
    return "none" if value is None else repr(value)


def check_numbers(
    target_tokens: int | None,
    val_fraction: float,
    protocol: str,
    max_retries: int,
    tokenizer: str | None,
    train_tokenizer: int | None,
    train_tokenizer_bytes: int,
) -> None:
    """Refuse values that can give nothing, before anything is done.

    Raises:
        ValueError: names the option, the value got and what is allowed.
    """
    if target_tokens is not None and target_tokens < 1:
        raise ValueError(f"target_tokens: got {target_tokens}, allowed is 1 or more")
    if not math.isfinite(val_fraction) or not 0 < val_fraction < 1:
        raise ValueError(
            f"val_fraction: got {val_fraction}, allowed is a fraction above 0 and below 1"
        )
    if protocol not in PROTOCOLS:
        hint = did_you_mean(protocol, PROTOCOLS)
        raise ValueError(f"protocol: got {protocol!r}, allowed are {', '.join(PROTOCOLS)}{hint}")
    if max_retries < 0:
        raise ValueError(f"max_retries: got {max_retries}, allowed is 0 or more")
    if train_tokenizer is not None:
        if tokenizer is not None:
            raise ValueError(
                f"train_tokenizer: got {train_tokenizer} together with tokenizer {tokenizer!r}; "
                "allowed is one of them"
            )
        if not SMALLEST_VOCABULARY <= train_tokenizer <= LARGEST_VOCABULARY:
            raise ValueError(
                f"train_tokenizer: got {train_tokenizer}, allowed is a vocabulary of "
                f"{SMALLEST_VOCABULARY} (all bytes and the end of text) to {LARGEST_VOCABULARY:,}"
            )
    if train_tokenizer_bytes < 1:
        raise ValueError(
            f"train_tokenizer_bytes: got {train_tokenizer_bytes}, allowed is 1 or more"
        )
