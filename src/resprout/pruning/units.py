"""Units: what one cut removes, as places in a model's parameters.

A `Group` is all units of one kind in one layer. Each unit is a set of slices (`Part`: a row of
this matrix, a column of that one) and, for kinds that are whole modules, those modules. Masks,
surgery and scores are written once, against groups; an adapter only says where its units are.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from resprout.pruning.amounts import Kind


@dataclass(frozen=True)
class Part:
    """The units' slices of one parameter along one dimension.

    Attributes:
        module: that holds the parameter.
        name: of the parameter in the module.
        dim: along which units lie.
        index: (units, width) the places of each unit along `dim`.
        role: what the slices are for, where scores ask (`gate`, `up`, `down`).
        masked: whether a mask zeroes it; what only weighs the unit against others is not.
    """

    module: nn.Module
    name: str
    dim: int
    index: Tensor
    role: str = ""
    masked: bool = True

    @property
    def parameter(self) -> nn.Parameter:
        """The whole parameter."""
        parameter: nn.Parameter = getattr(self.module, self.name)
        return parameter

    def of_units(self) -> Tensor:
        """The slices, (units, width, rest): a view where the units' places follow one another."""
        values = self.parameter.detach().movedim(self.dim, 0)
        units, width = self.index.shape
        flat = self.index.flatten()
        first = int(flat[0])
        if torch.equal(flat, torch.arange(first, first + len(flat))):
            values = values[first : first + len(flat)]
        else:
            values = values[flat.to(values.device)]
        return values.reshape(units, width, -1)


@dataclass(frozen=True)
class Group:
    """All units of one kind in one layer.

    Attributes:
        kind: what a unit is.
        layer: its layer's number; None where the group spans all layers.
        name: how records and errors name it, e.g. `layer 3 neuron 1`.
        count: units.
        parts: what goes with a unit.
        outputs: modules that read what the units put out, each with (in_features,) the unit that
            every input channel belongs to: where activations and gradients are taken.
        strata: the units are so many equal consecutive strata, and each must lose as many.
        whole: per unit, the modules that go with it entirely.
        fixed: units that may not go.
        shared: of heads: whether several query heads share keys and values.
    """

    kind: Kind
    layer: int | None
    name: str
    count: int
    parts: tuple[Part, ...] = ()
    outputs: tuple[tuple[nn.Module, Tensor], ...] = ()
    strata: int = 1
    whole: tuple[tuple[nn.Module, ...], ...] = field(default=())
    fixed: frozenset[int] = frozenset()
    shared: bool = False

    def part(self, role: str) -> Part:
        """The part with a role."""
        return next(part for part in self.parts if part.role == role)

    def sizes(self) -> Tensor:
        """(units,) how many parameters each unit has, of those that a mask holds."""
        sizes = torch.zeros(self.count, dtype=torch.long)
        for part in self.parts:
            if part.masked:
                along = part.parameter.shape[part.dim]
                sizes += part.index.shape[1] * (part.parameter.numel() // along)
        for unit, modules in enumerate(self.whole):
            sizes[unit] += sum(p.numel() for module in modules for p in module.parameters())
        return sizes


def spread(first: int, units: int, width: int) -> Tensor:
    """(units, width): units of `width` consecutive places each, from `first` on."""
    return torch.arange(first, first + units * width).view(units, width)


def rows(module: nn.Module, index: Tensor, role: str = "") -> list[Part]:
    """Output channels of a linear layer, the bias with them. `index`: (units, width)."""
    assert isinstance(module, nn.Linear | Conv1D)
    weight = Part(module, "weight", 1 if isinstance(module, Conv1D) else 0, index, role)
    return [weight] + ([Part(module, "bias", 0, index)] if module.bias is not None else [])


def columns(module: nn.Module, index: Tensor, role: str = "") -> list[Part]:
    """Input channels of a linear layer. `index`: (units, width)."""
    assert isinstance(module, nn.Linear | Conv1D)
    return [Part(module, "weight", 0 if isinstance(module, Conv1D) else 1, index, role)]


def owners(index: Tensor) -> Tensor:
    """(channels,) the unit of each input channel; `index` (units, width) has each channel once."""
    owner = torch.empty(index.numel(), dtype=torch.long)
    owner[index.flatten()] = torch.arange(len(index)).repeat_interleave(index.shape[1])
    return owner


def group_before(
    down: nn.Module,
    index: Tensor,
    kind: Kind,
    layer: int,
    rows_of: Iterable[Part],
    name: str = "",
    strata: int = 1,
    shared: bool = False,
) -> Group:
    """The units of a layer whose output one matrix reads.

    Args:
        down: the matrix.
        index: (units, width) its input channels of each unit; all of them, each once.
        kind: what a unit is.
        layer: the layer's number.
        rows_of: what else belongs to the units: the rows that make what `down` reads.
        name: default `layer N`.
        strata: see `Group`.
        shared: see `Group`.
    """
    parts = (*rows_of, *columns(down, index))
    outputs = ((down, owners(index)),)
    name = name or f"layer {layer}"
    return Group(kind, layer, name, len(index), parts, outputs, strata, shared=shared)


def unit_masks(groups: Iterable[Group], kept: Iterable[Tensor]) -> dict[int, Tensor]:
    """Masks that zero whatever is not kept: id(parameter) -> True where kept, of its shape.

    Args:
        groups: of one kind.
        kept: per group the indices of the units that stay.

    A mask along one dimension is an expanded view: it has the parameter's shape and costs a line.
    """
    masks: dict[int, Tensor] = {}
    for group, stays in zip(groups, kept, strict=True):
        gone = torch.ones(group.count, dtype=torch.bool)
        gone[stays] = False
        if not gone.any():
            continue
        for part in group.parts:
            if not part.masked:
                continue
            parameter = part.parameter
            line = torch.ones(parameter.shape[part.dim], dtype=torch.bool)
            line[part.index[gone].flatten()] = False
            shape = [1] * parameter.ndim
            shape[part.dim] = -1
            mask = line.view(shape).expand(parameter.shape)
            held = masks.get(id(parameter))
            masks[id(parameter)] = mask if held is None else _both(held, mask, part.dim)
        for unit, modules in enumerate(group.whole):
            if gone[unit]:
                for module in modules:
                    for parameter in module.parameters():
                        masks[id(parameter)] = torch.zeros((), dtype=torch.bool).expand(
                            parameter.shape
                        )
    return masks


def _both(first: Tensor, second: Tensor, dim: int) -> Tensor:
    """The units that both masks keep; still a view where both lie along the same dimension."""
    along = [d for d in range(first.ndim) if first.stride(d) != 0]
    if along in ([dim], []):
        narrow = [slice(None) if d == dim else slice(0, 1) for d in range(first.ndim)]
        return (first[tuple(narrow)] & second[tuple(narrow)]).expand(first.shape)
    return first & second
