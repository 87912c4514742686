"""A cut: what was asked for, what went, and (for masks) which weights are held at zero."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from resprout.files import check_digests, write_json
from resprout.hints import first_line
from resprout.models.names import MANIFEST
from resprout.models.sparse import SPARSE, read_places
from resprout.pruning.amounts import Kind, plural
from resprout.pruning.manifest import FORMAT, read_manifest
from resprout.pruning.masks import zeros
from resprout.pruning.packing import MisfitError, from_ranges, pack, to_ranges, unpack
from resprout.refusals import check_path

MASKS = "cut.safetensors"
_AS_WRITTEN = (
    "method", "unit", "protocol", "requested", "prunable_names", "dead_units", "scope", "cut",
    "prunable_parameters", "removed", "seed", "head_unit", "calibration", "earlier", "group_kind",
)  # fmt: skip
CutKind = Literal["mask", "remove"]


@dataclass(frozen=True)
class CutUnits:
    """What became of the units of one layer (or one cell, or of all layers).

    Attributes:
        name: e.g. `layer 3`.
        count: units before.
        kept: (k,) the indices of those that stay, ascending.
    """

    name: str
    count: int
    kept: Tensor


@dataclass
class Cut:
    """The outcome of `prune`.

    Attributes:
        method: its name, as it was given.
        unit: what one cut removes, e.g. `weight`, `glu_neuron`.
        scope: among which units the lowest went.
        protocol: which decided the prunable set.
        requested: the fraction of the prunable units asked for, 0 to 1.
        masks: parameter name -> boolean tensor of its shape, True = kept. For weights every
            prunable one is here, and also what went with a dead unit (its biases, norms); for
            larger units what they are made of; after a removal what an earlier mask still holds.
        prunable_names: the parameters that count as prunable, where units are weights.
        dead_units: names of the units removed whole because their weights went.
        cut: `mask` (weights held at zero) or `remove` (tensors really smaller).
        groups: the units per layer, where units are larger than weights, or could die.
        group_kind: what `groups` are units of.
        prunable_parameters: parameters in all prunable units together.
        removed: parameters held at zero or taken out by this cut.
        seed: of random scores.
        head_unit: what a head unit was where query heads share keys and values (`group` or
            `query`); None where they do not.
        calibration: what the text was, its digest, and how large; None where none was used.
        earlier: the manifests of the cuts that this one came upon, oldest first.
        kept_weights: how many prunable weights stayed, where dead units were taken out and the
            masks no longer say it.
    """

    method: str
    unit: str
    protocol: str
    requested: float
    masks: dict[str, Tensor]
    prunable_names: list[str] = field(default_factory=list)
    dead_units: list[str] = field(default_factory=list)
    scope: str = "global"
    cut: CutKind = "mask"
    groups: list[CutUnits] = field(default_factory=list)
    group_kind: Kind | None = None
    prunable_parameters: int = 0
    removed: int = 0
    seed: int = 0
    head_unit: str | None = None
    calibration: dict[str, Any] | None = None
    earlier: list[dict[str, Any]] = field(default_factory=list)
    kept_weights: int | None = None

    @property
    def prunable(self) -> int:
        """How many units could have been cut."""
        if self.unit != "weight":
            return sum(group.count for group in self.groups)
        return self.prunable_parameters

    @property
    def kept(self) -> int:
        """How many of the prunable units stayed."""
        if self.unit != "weight":
            return sum(len(group.kept) for group in self.groups)
        if self.kept_weights is not None:
            return self.kept_weights
        return sum(int(self.masks[name].sum()) for name in self.prunable_names)

    @property
    def held(self) -> int:
        """How many parameters are held at zero."""
        return sum(map(zeros, self.masks.values()))

    @property
    def achieved(self) -> float:
        """The fraction of the prunable units that went; above `requested` by what died."""
        return (self.prunable - self.kept) / self.prunable

    def __repr__(self) -> str:
        return (
            f"Cut({self.method}, {self.cut}, requested {self.requested:g}, "
            f"achieved {self.achieved:.4f}, kept {self.kept:,} of {self.prunable:,} "
            f"{plural(self.unit)}, dead units {len(self.dead_units)})"
        )

    def manifest(self) -> dict[str, Any]:
        """All but the masks, as JSON holds it."""
        return {
            "format": FORMAT,
            "method": self.method,
            "unit": self.unit,
            "scope": self.scope,
            "cut": self.cut,
            "protocol": self.protocol,
            "requested": self.requested,
            "achieved": self.achieved,
            "prunable": self.prunable,
            "kept": self.kept,
            "prunable_parameters": self.prunable_parameters,
            "removed": self.removed,
            "seed": self.seed,
            "head_unit": self.head_unit,
            "calibration": self.calibration,
            "dead_units": self.dead_units,
            "group_kind": self.group_kind,
            "groups": [
                {"name": group.name, "count": group.count, "kept": to_ranges(group.kept)}
                for group in self.groups
            ],
            "prunable_names": self.prunable_names,
            "shapes": {name: list(mask.shape) for name, mask in self.masks.items()},
            "earlier": self.earlier,
        }

    def history(self) -> list[dict[str, Any]]:
        """The manifests of this cut and those before it, without what belongs to one model only."""
        own = self.manifest()
        for name in ("earlier", "shapes", "prunable_names", "groups"):
            del own[name]
        return [*self.earlier, own]

    def save(
        self,
        folder: str | Path,
        *,
        masks: bool = True,
        reshaped: dict[str, Any] | None = None,
    ) -> None:
        """Write `cut.json` and the masks, one bit per weight, into `folder`.

        Args:
            folder: made where it is not there.
            masks: False leaves them to the sparse weights beside it, which hold them.
            reshaped: the sizes that the model's configuration cannot say (`modeling_cut`).
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if self.masks and masks:
            save_file(pack(self.masks), folder / MASKS)
        write_json(folder / MANIFEST, self.manifest() | {"reshaped": reshaped})

    @classmethod
    def load(cls, folder: str | Path) -> "Cut":
        """Read what `save` wrote.

        Raises:
            ValueError: there is no cut in `folder`, or its files do not belong together.
        """
        check_path("cut", folder)
        folder = Path(folder)
        if not (folder / MANIFEST).is_file():
            raise ValueError(f"cut: {str(folder)!r} holds no {MANIFEST}")
        check_digests(folder, "cut", among=(MANIFEST, MASKS, SPARSE))
        manifest = read_manifest(folder / MANIFEST)
        try:
            masks = _masks(folder, manifest.shapes) if manifest.shapes else {}
        except MisfitError as error:
            raise ValueError(
                f"cut: {folder / MASKS} does not belong to {folder / MANIFEST}"
            ) from error
        groups = [
            CutUnits(group.name, group.count, from_ranges(group.kept, group.count))
            for group in manifest.groups
        ]
        fields: dict[str, Any] = {name: getattr(manifest, name) for name in _AS_WRITTEN}
        if manifest.cut == "remove" and manifest.unit == "weight":
            fields["kept_weights"] = manifest.kept
        return cls(masks=masks, groups=groups, **fields)


def _masks(folder: Path, shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """The masks, from their own file or from the sparse weights."""
    if (folder / MASKS).is_file():
        try:
            packed = load_file(folder / MASKS)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"cut: {folder / MASKS} is damaged ({first_line(error)})") from error
        return unpack(packed, shapes)
    if not (folder / SPARSE).is_file():
        raise ValueError(f"cut: {str(folder)!r} holds no {MANIFEST} with {MASKS}")
    places = read_places(folder / SPARSE)
    if shapes.keys() - places.keys():
        raise MisfitError("masks: other names")
    found = {name: places[name] for name in shapes}
    if any(list(mask.shape) != shapes[name] for name, mask in found.items()):
        raise MisfitError("masks: other shapes")
    return found


def check_cut(cut: object, option: str = "cut", needed: bool = False) -> None:
    """Refuse what is no cut; None is one that was not made, unless it is `needed`.

    Raises:
        ValueError: it is not.
    """
    if isinstance(cut, Cut) or (cut is None and not needed):
        return
    raise ValueError(
        f"{option}: got {type(cut).__name__}, allowed is a Cut, such as resprout.prune returns"
    )
