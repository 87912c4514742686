"""2:4 masks as torch's semi-structured tensors, which some GPUs multiply faster.

torch marks them as a prototype. They hold half of the values and two bits of place each, and are
for inference: nothing can be trained, cut or saved in this form.
"""

import torch
from torch import nn
from torch.sparse import to_sparse_semi_structured
from transformers import PreTrainedModel

_DTYPES = (torch.float16, torch.bfloat16)
_CAPABILITY = (8, 0)  # Ampere, the first with sparse tensor cores
_MULTIPLE = 64  # rows and columns that every kernel of torch's takes


@torch.no_grad()
def to_semi_structured(model: PreTrainedModel) -> int:
    """Turn every linear weight inside the model that is 2:4 sparse into that form, in place.

    Args:
        model: cut by a pattern `2:4`, on a GPU of compute capability 8.0 or more, in fp16 or bf16.

    Returns:
        How many weights were turned. Those that are not 2:4 sparse, or of sizes that the kernels
        do not take (no multiple of 64), stay as they are.

    Raises:
        ValueError: the model is elsewhere, in another type, or has no such weight.
    """
    parameter = next(model.parameters())
    if parameter.device.type != "cuda":
        raise ValueError(
            f"model: is on {parameter.device}, semi-structured products need a CUDA device"
        )
    capability = torch.cuda.get_device_capability(parameter.device)
    if capability < _CAPABILITY:
        raise ValueError(f"model: its GPU has compute capability {capability}, needed is 8.0")
    if parameter.dtype not in _DTYPES:
        raise ValueError(f"model: is in {parameter.dtype}, allowed are fp16 and bf16")
    turned = 0
    for module in model.modules():
        if isinstance(module, nn.Linear) and is_two_of_four(module.weight):
            if any(size % _MULTIPLE for size in module.weight.shape):
                continue
            sparse = to_sparse_semi_structured(module.weight.detach())
            module.weight = nn.Parameter(sparse, requires_grad=False)
            turned += 1
    if not turned:
        raise ValueError("model: no linear weight is 2:4 sparse; cut it with a method such as 2:4")
    return turned


def is_two_of_four(weight: torch.Tensor) -> bool:
    """Whether of every four consecutive inputs at most two are not zero. `weight`: (out, in)."""
    if weight.ndim != 2 or weight.shape[1] % 4:
        return False
    return bool(((weight.detach() != 0).unflatten(1, (-1, 4)).sum(-1) <= 2).all())
