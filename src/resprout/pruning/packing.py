"""Masks as one bit per weight, and indices as ranges: how a cut lies on disk."""

import math

import numpy as np
import torch
from torch import Tensor


class MisfitError(ValueError):
    """Packed masks that have not the size of their shapes."""


def pack(masks: dict[str, Tensor]) -> dict[str, Tensor]:
    """Masks as one bit per weight."""
    return {
        name: torch.from_numpy(np.packbits(mask.cpu().numpy().reshape(-1)))
        for name, mask in masks.items()
    }


def unpack(packed: dict[str, Tensor], shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """Masks of the given shapes from their bits.

    Raises:
        MisfitError: other names or sizes.
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    if {n: -(-size // 8) for n, size in sizes.items()} != {n: p.numel() for n, p in packed.items()}:
        raise MisfitError("masks: other names or sizes")
    return {
        name: torch.from_numpy(
            np.unpackbits(packed[name].numpy(), count=sizes[name]).astype(bool)
        ).view(shape)
        for name, shape in shapes.items()
    }


def to_ranges(indices: Tensor) -> str:
    """Ascending indices as `0-4,7`, which a person can read."""
    numbers = indices.tolist()
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def from_ranges(text: str, count: int) -> Tensor:
    """The way back.

    Raises:
        ValueError: not ascending indices below `count`.
    """
    numbers: list[int] = []
    for piece in filter(None, text.split(",")):
        first, _, last = piece.partition("-")
        whole = first.isdecimal() and (last or first).isdecimal() and len(piece) < 30
        if not whole or int(last or first) >= count:
            raise ValueError(f"kept: got {piece[:60]!r}, allowed are indices below {count}")
        numbers += range(int(first), int(last or first) + 1)
    if numbers != sorted(set(numbers)):
        raise ValueError(f"kept: got {text[:60]!r}, allowed are ascending indices")
    return torch.tensor(numbers, dtype=torch.long)
