"""What is asked for: checked before work starts, and compared with what a folder holds."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from resprout.data.tokenizer import SMALLEST_VOCABULARY
from resprout.hints import did_you_mean
from resprout.refusals import is_number, is_whole, shown

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
        if not isinstance(found, dict):  # of a manifest without a seal, which vouches for it
            raise ValueError(
                f"out_dir: {folder!r} ({state}) does not say how it was made; allowed is another "
                "out_dir, or --start_over to remove what is there"
            )
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


class Numbers(NamedTuple):
    """The numbers of a request as Python's own: JSON holds none of NumPy's."""

    target_tokens: int | None
    val_fraction: float
    max_retries: int
    train_tokenizer: int | None
    train_tokenizer_bytes: int


def read_numbers(
    target_tokens: int | None,
    val_fraction: float,
    protocol: str,
    max_retries: int,
    tokenizer: str | None,
    train_tokenizer: int | None,
    train_tokenizer_bytes: int,
) -> Numbers:
    """Refuse values that can give nothing, before anything is done.

    Raises:
        ValueError: names the option, the value got and what is allowed.
    """
    if target_tokens is not None:
        _check_from("target_tokens", target_tokens, 1)
    if not is_number(val_fraction) or not 0 < val_fraction < 1:
        raise ValueError(
            f"val_fraction: got {shown(val_fraction)}, allowed is a fraction above 0 and below 1"
        )
    if not isinstance(protocol, str) or protocol not in PROTOCOLS:
        hint = did_you_mean(str(protocol), PROTOCOLS)
        allowed = ", ".join(PROTOCOLS)
        raise ValueError(f"protocol: got {shown(protocol)}, allowed are {allowed}{hint}")
    _check_from("max_retries", max_retries, 0)
    if train_tokenizer is not None:
        if tokenizer is not None:
            raise ValueError(
                f"train_tokenizer: got {shown(train_tokenizer)} together with tokenizer "
                f"{tokenizer!r}; allowed is one of them"
            )
        if (
            not is_whole(train_tokenizer)
            or not SMALLEST_VOCABULARY <= train_tokenizer <= LARGEST_VOCABULARY
        ):
            raise ValueError(
                f"train_tokenizer: got {shown(train_tokenizer)}, allowed is a vocabulary of "
                f"{SMALLEST_VOCABULARY} (all bytes and the end of text) to {LARGEST_VOCABULARY:,}"
            )
    _check_from("train_tokenizer_bytes", train_tokenizer_bytes, 1)
    return Numbers(
        None if target_tokens is None else int(target_tokens),
        float(val_fraction),
        int(max_retries),
        None if train_tokenizer is None else int(train_tokenizer),
        int(train_tokenizer_bytes),
    )


def _check_from(name: str, value: Any, least: int) -> None:
    if not is_whole(value) or value < least:
        kind = "" if is_whole(value) else "a whole number, "
        raise ValueError(f"{name}: got {shown(value)}, allowed is {kind}{least} or more")
