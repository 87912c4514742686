"""Scores: a number per unit, higher = keep. Pure functions of tensors.

Scores of single weights have the weight's shape. Scores of a GLU neuron take its gate and up rows
(I neurons, D model width) and give (I,) in fp32; they go through the rows in chunks, so that bf16
weights are never held in fp32 as a whole. I: intermediate size, D: model width.
"""

import hashlib
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_CHUNK = 1 << 19  # elements looked at together: in fp32 few enough for the processor's cache


def magnitude(weight: Tensor) -> Tensor:
    """|w|, the oldest score (Han et al. 2015). Same shape as `weight`."""
    return weight.abs()


def wanda(weight: Tensor, norms: Tensor) -> Tensor:
    """|W| * ||X||_2: the magnitude times the norm of the weight's input (Sun et al. 2023, eq. 1).

    Args:
        weight: (g, r, c) groups, output rows, input columns.
        norms: (g, c) L2 norm of each input over the calibration tokens.

    Returns:
        (g, r, c) fp32.

    Raises:
        ValueError: the shapes do not belong together.
    """
    if weight.dim() != 3 or norms.shape != (weight.shape[0], weight.shape[2]):
        raise ValueError(
            f"norms: got shape {tuple(norms.shape)} for a weight of {tuple(weight.shape)}, "
            "allowed is (groups, columns) for (groups, rows, columns)"
        )
    return weight.abs().float() * norms.float().unsqueeze(1)  # (g, r, c) * (g, 1, c)


def maw(gate: Tensor, up: Tensor) -> Tensor:
    """Maximum absolute weight, also peak-to-peak magnitude: max + |min| of each row, gate + up.

    Martra 2025, "Fragile Knowledge, Robust Instruction-Following". gate, up (I, D) -> (I,).
    """
    return _rows(_peak_to_peak, gate) + _rows(_peak_to_peak, up)


def vow(gate: Tensor, up: Tensor) -> Tensor:
    """Variance of weights: the unbiased variance of each row, gate + up (Martra 2025).

    gate, up (I, D) -> (I,).
    """
    return _rows(_variance, gate) + _rows(_variance, up)


def pon(gate: Tensor, up: Tensor) -> Tensor:
    """Product of norms: the L1 norm of the gate row times that of the up row (Martra 2025).

    gate, up (I, D) -> (I,).
    """
    return _rows(_l1, gate) * _rows(_l1, up)


def l2(gate: Tensor, up: Tensor) -> Tensor:
    """The L2 norm of the gate row plus that of the up row (as in OptiPFair). (I, D) -> (I,)."""
    return _rows(_squares, gate).sqrt() + _rows(_squares, up).sqrt()


def rms(parts: Sequence[Tensor]) -> Tensor:
    """Root of the mean square over all of a unit's elements, in all parts together.

    The order is that of the L2 norm where units are equally large; unlike it, it compares units
    of different sizes.

    Args:
        parts: each (units, ...), the same units in the same order.

    Returns:
        (units,) fp32.

    Raises:
        ValueError: no part has an element, or the parts differ in their number of units.
    """
    if len({len(part) for part in parts}) != 1:
        raise ValueError(
            f"parts: got {[len(part) for part in parts]} units, allowed is one number for all"
        )
    rows = [part.reshape(len(part), math.prod(part.shape[1:])) for part in parts]
    elements = sum(part.shape[1] for part in rows)
    if elements == 0:
        raise ValueError("parts: got units without elements, allowed is one or more")
    total = torch.stack([_rows(_squares, part) for part in rows]).sum(0)  # (units,)
    return (total / elements).sqrt()


def uniform(count: int, seed: int, *place: int) -> Tensor:
    """Random scores in [0, 1), the same for the same seed and place. (count,) fp32 on the CPU.

    Args:
        count: how many.
        seed: of the whole cut.
        place: which part of the model, so that no two parts get the same scores.
    """
    # torch's CPU generator takes 32 bits of a seed; the hash spreads neighbours over them.
    digest = hashlib.blake2b(repr((int(seed), *place)).encode(), digest_size=4).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "little"))
    return torch.rand(count, generator=generator)


def _rows(score: Callable[[Tensor], Tensor], weight: Tensor) -> Tensor:
    """`score` of each row of (n, D), computed on fp32 chunks of some rows: (n,) fp32."""
    if weight.dim() != 2:
        raise ValueError(f"weight: got shape {tuple(weight.shape)}, allowed is (rows, columns)")
    rows = max(1, _CHUNK // max(1, weight.shape[1]))
    return torch.cat([score(piece.float()) for piece in weight.detach().split(rows)])


def _peak_to_peak(rows: Tensor) -> Tensor:
    return rows.amax(1) + rows.amin(1).abs()  # two reductions: aminmax takes ten times as long


def _variance(rows: Tensor) -> Tensor:
    # Two passes, as exact as torch.var's running update and ten times as fast.
    centred = rows - rows.mean(1, keepdim=True)
    return torch.linalg.vecdot(centred, centred) / (rows.shape[1] - 1)


def _l1(rows: Tensor) -> Tensor:
    return rows.abs().sum(1)


def _squares(rows: Tensor) -> Tensor:
    return rows.square().sum(1)
