"""A cut: which weights are held at zero, how many were asked for and how many went."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from resprout.files import read_json, write_json

MANIFEST = "cut.json"
MASKS = "cut.safetensors"
FORMAT = 1


@dataclass
class Cut:
    """The outcome of `prune`.

    Attributes:
        method: its name.
        unit: what one cut removes, e.g. `weight`.
        protocol: which decided the prunable set.
        requested: the fraction of the prunable weights asked for, 0 to 1.
        masks: parameter name -> boolean tensor of its shape, True = kept. Every prunable weight
            is here, and also what went with a dead unit (its biases, norms).
        prunable_names: the parameters that count as prunable.
        dead_units: names of the units removed whole.
    """

    method: str
    unit: str
    protocol: str
    requested: float
    masks: dict[str, Tensor]
    prunable_names: list[str]
    dead_units: list[str] = field(default_factory=list)

    @property
    def prunable(self) -> int:
        """How many weights could have been cut."""
        return sum(self.masks[name].numel() for name in self.prunable_names)

    @property
    def kept(self) -> int:
        """How many of the prunable weights stayed."""
        return sum(int(self.masks[name].sum()) for name in self.prunable_names)

    @property
    def achieved(self) -> float:
        """The fraction of the prunable weights that went; above `requested` by what died."""
        return (self.prunable - self.kept) / self.prunable

    @property
    def removed(self) -> int:
        """All parameters held at zero, those of dead units outside the prunable set too."""
        return sum(int((~mask).sum()) for mask in self.masks.values())

    def __repr__(self) -> str:
        return (
            f"Cut({self.method}, requested {self.requested:g}, achieved {self.achieved:.4f}, "
            f"kept {self.kept:,} of {self.prunable:,}, dead units {len(self.dead_units)})"
        )

    def manifest(self) -> dict[str, Any]:
        """All but the masks, as JSON holds it."""
        return {
            "format": FORMAT,
            "method": self.method,
            "unit": self.unit,
            "protocol": self.protocol,
            "requested": self.requested,
            "achieved": self.achieved,
            "prunable": self.prunable,
            "kept": self.kept,
            "removed": self.removed,
            "prunable_names": self.prunable_names,
            "dead_units": self.dead_units,
            "shapes": {name: list(mask.shape) for name, mask in self.masks.items()},
        }

    def save(self, folder: str | Path) -> None:
        """Write `cut.json` and the masks, one bit per weight, into `folder`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        packed = {
            name: torch.from_numpy(np.packbits(mask.cpu().numpy().reshape(-1)))
            for name, mask in self.masks.items()
        }
        save_file(packed, folder / MASKS)
        write_json(folder / MANIFEST, self.manifest())

    @classmethod
    def load(cls, folder: str | Path) -> "Cut":
        """Read what `save` wrote.

        Raises:
            ValueError: there is no cut in `folder`, or its files do not belong together.
        """
        folder = Path(folder)
        if not (folder / MANIFEST).is_file() or not (folder / MASKS).is_file():
            raise ValueError(f"cut: {str(folder)!r} holds no {MANIFEST} with {MASKS}")
        manifest = read_json(folder / MANIFEST)
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise ValueError(f"cut: {folder / MANIFEST} is not a manifest of format {FORMAT}")
        packed = load_file(folder / MASKS)
        shapes = manifest["shapes"]
        sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
        if {n: -(-size // 8) for n, size in sizes.items()} != {
            n: p.numel() for n, p in packed.items()
        }:
            raise ValueError(f"cut: {folder / MASKS} does not belong to {folder / MANIFEST}")
        masks = {
            name: torch.from_numpy(
                np.unpackbits(packed[name].numpy(), count=sizes[name]).astype(bool)
            ).view(shape)
            for name, shape in shapes.items()
        }
        return cls(
            method=manifest["method"],
            unit=manifest["unit"],
            protocol=manifest["protocol"],
            requested=manifest["requested"],
            masks=masks,
            prunable_names=manifest["prunable_names"],
            dead_units=manifest["dead_units"],
        )
