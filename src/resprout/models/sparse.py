"""Weights on disk without their zeros: a bit per weight says where the others stand.

One safetensors file. A tensor that gains by it is two entries, `NAME.values` (what stays, in order)
and `NAME.places` (a bit per weight, most significant first); any other is stored as it is. Shapes
stand in the file's metadata. What is read back is the same to the bit.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

SPARSE = "sparse.safetensors"
_VALUES, _PLACES = ".values", ".places"
# The whole number that has as many bits as an element: what is not zero in it is not +0.
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def write_sparse(
    path: Path, tensors: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None
) -> None:
    """Write tensors.

    Args:
        path: of the file.
        tensors: by name.
        masks: by tensor's name, True = kept: where there is one, its places are stored rather than
            those that are not zero, so that it can be read back exactly. What it cuts must be zero.
    """
    stored: dict[str, Tensor] = {}
    shapes: dict[str, list[int]] = {}
    for name, tensor in tensors.items():
        flat = tensor.detach().cpu().contiguous().flatten()
        mask = (masks or {}).get(name)
        # By its bits: -0 and NaN are kept as they are.
        places = flat.view(BITS[flat.element_size()]) != 0 if flat.numel() else flat.bool()
        if mask is not None:
            assert not bool((places & ~mask.cpu().reshape(-1)).any()), name
            places = mask.cpu().reshape(-1)
        kept = int(places.sum())
        size = flat.element_size()
        if mask is None and kept * size + flat.numel() / 8 >= flat.numel() * size:
            stored[name] = flat.view(tensor.shape)
            continue
        shapes[name] = list(tensor.shape)
        stored[name + _VALUES] = flat[places]
        stored[name + _PLACES] = torch.from_numpy(np.packbits(places.numpy()))
    save_file(stored, path, metadata={"format": "pt", "shapes": json.dumps(shapes)})


def read_sparse(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that `write_sparse` wrote.

    Raises:
        ValueError: the file is damaged, or not such a file.
    """
    tensors = {}
    try:
        with safe_open(path, framework="pt") as file:
            shapes = _shapes(file)
            for key in file.keys():  # noqa: SIM118 (not a dictionary)
                if key.removesuffix(_VALUES) not in shapes and (
                    key.removesuffix(_PLACES) not in shapes
                ):
                    tensors[key] = file.get_tensor(key)
            for name, shape in shapes.items():
                places = _places(file, name, shape)  # checks the size before it is made
                values = file.get_tensor(name + _VALUES)
                flat = torch.zeros(len(places), dtype=values.dtype)
                flat[places] = values
                tensors[name] = flat.view(shape)
    except (SafetensorError, OSError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged, or not a file of sparse weights ({error})") from error
    return tensors


def read_places(path: Path) -> dict[str, Tensor]:
    """Boolean tensors of the weights that are stored without zeros, True = stored.

    Raises:
        ValueError: the file is damaged, or not such a file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {
                name: _places(file, name, shape).view(shape)
                for name, shape in _shapes(file).items()
            }
    except (SafetensorError, OSError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged, or not a file of sparse weights ({error})") from error


def _shapes(file: safe_open) -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = json.loads((file.metadata() or {})["shapes"])
    if not isinstance(shapes, dict) or not all(
        isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
        for shape in shapes.values()
    ):
        raise TypeError("its shapes are none")
    return shapes


def _places(file: safe_open, name: str, shape: list[int]) -> Tensor:
    """(n,) booleans."""
    count = math.prod(shape)
    packed = file.get_tensor(name + _PLACES)
    if packed.dtype != torch.uint8 or packed.numel() != -(-count // 8):
        raise RuntimeError(f"{name}: {packed.numel()} bytes for {count} weights")
    return torch.from_numpy(np.unpackbits(packed.numpy(), count=count).astype(bool))
