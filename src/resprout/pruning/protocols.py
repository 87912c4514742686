"""The protocols: `fair`, on which our claims rest, and `paper`, the studies as published."""

from dataclasses import dataclass
from typing import Literal

ProtocolName = Literal["fair", "paper"]


@dataclass(frozen=True)
class Protocol:
    """What a protocol decides.

    Attributes:
        cuts_as_published: the prunable set also holds what the published study of the family
            cut besides the blocks' weights (BioGPT's head and feedback; nothing of Pythia's).
        recovers_uncut: the uncut model gets the same recovery as every other level.
    """

    name: ProtocolName
    cuts_as_published: bool
    recovers_uncut: bool


PROTOCOLS: dict[str, Protocol] = {
    "fair": Protocol("fair", cuts_as_published=False, recovers_uncut=True),
    "paper": Protocol("paper", cuts_as_published=True, recovers_uncut=False),
}


def protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        ValueError: there is none.
    """
    if not isinstance(name, str) or name not in PROTOCOLS:
        raise ValueError(f"protocol: got {name!r}, allowed are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
