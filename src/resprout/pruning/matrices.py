"""Every prunable weight as matrices: (g, r, c), g groups of r outputs by c inputs each.

A linear layer is one matrix; GPT-2's `Conv1D` is stored transposed; a grouped convolution over time
is a matrix per group whose columns are (input channel, tap). Scores that look at a row, or at what
a column reads, are written once on this form.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D


def owner_of(model: nn.Module, name: str) -> nn.Module:
    """The module that holds a parameter of that name."""
    return model.get_submodule(name.rpartition(".")[0])


def to_matrices(module: nn.Module, weight: Tensor) -> Tensor:
    """A module's weight (or its mask, or its scores) as (g, r, c); a view."""
    if isinstance(module, Conv1D):
        return weight.T[None]
    if isinstance(module, nn.Conv1d):
        g = module.groups
        return weight.reshape(g, weight.shape[0] // g, -1)
    return weight.reshape(1, weight.shape[0], -1)


def from_matrices(module: nn.Module, matrices: Tensor, shape: torch.Size) -> Tensor:
    """The way back: (g, r, c) to the weight's own shape."""
    if isinstance(module, Conv1D):
        return matrices[0].T.contiguous()
    return matrices.reshape(shape)


def reads_inputs(module: nn.Module) -> bool:
    """Whether it is known what the columns of the module's matrices read."""
    return isinstance(module, nn.Linear | Conv1D | nn.Conv1d)


def input_columns(module: nn.Module, x: Tensor) -> Tensor:
    """What the columns of a module's matrices read in one call, (g, n, c).

    Args:
        module: a linear layer, or a convolution over time (stride 1, already padded).
        x: its input, (..., in) or (B, in, time); n is the number of positions.
    """
    if isinstance(module, nn.Conv1d):
        left, right = _padding(module)
        x = F.pad(x, (left, right)) if left or right else x
        x = x.unflatten(1, (module.groups, -1))  # (B, g, in / g, time)
        x = x.unfold(-1, module.kernel_size[0], 1)  # (B, g, in / g, n, taps)
        return x.permute(1, 0, 3, 2, 4).flatten(3).flatten(1, 2)
    return x.reshape(1, -1, x.shape[-1])


def _padding(module: nn.Conv1d) -> tuple[int, int]:
    plain = module.stride == (1,) and module.dilation == (1,)
    if not plain or isinstance(module.padding, str) or module.padding_mode != "zeros":
        raise ValueError(
            "method: calibrated scores know convolutions of stride and dilation 1 only"
        )
    return module.padding[0], module.padding[0]
