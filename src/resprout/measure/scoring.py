"""What each token costs a model, in nats: one forward pass per batch of windows, nothing held."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from resprout.models.biogpt.linear import Linear

# Logits taken through the softmax at a time: what stays in a core's cache. On the whole tensor
# torch's cross-entropy takes three times as long (vocabularies of 4,096 and 50,304, one core).
_LOGITS_AT_ONCE = 2**18
# Bytes of fp32 logits that one forward pass may make; the windows of a batch follow from it.
LOGITS_BYTES = 2**28
_ROWS = 512  # of hidden states that a head's logits are made of at a time: fewer multiply slowly
_TRIED = 8  # tokens on which a head is tried out
_TOLERANCE = 1e-3

# (start, inputs, counted): the last `counted` predictions of a window of `inputs` tokens count.
Window: TypeAlias = tuple[int, int, int]


def token_nats(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each target, (N,) fp32 nats, from logits (N, V) and targets (N,).

    0 where a target is -100, as in torch.
    """
    rows = max(1, _LOGITS_AT_ONCE // logits.shape[-1])
    parts = zip(logits.split(rows), targets.split(rows), strict=True)
    return torch.cat([F.cross_entropy(x.float(), y, reduction="none") for x, y in parts])


def batch_size(vocabulary: int, inputs: int, most: int) -> int:
    """Windows per forward pass: at most `most`, and as many as `LOGITS_BYTES` allows."""
    return max(1, min(most, LOGITS_BYTES // (4 * vocabulary * inputs)))


def head_nats(
    hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype | None = None
) -> Tensor:
    """The same of the logits `hidden @ weight.T`, of which only a few rows are ever held.

    On small models that takes less time than making all logits does.

    Args:
        hidden: (N, D).
        weight: (V, D).
        targets: (N,).
        dtype: of the product; None = as they are.
    """
    h, w = hidden.to(dtype or hidden.dtype), weight.to(dtype or weight.dtype).T
    room = h.new_empty(_ROWS, w.shape[1])
    parts = zip(h.split(_ROWS), targets.split(_ROWS), strict=True)
    return torch.cat([token_nats(torch.mm(x, w, out=room[: len(x)]), y) for x, y in parts])


@torch.no_grad()  # not inference_mode: FSDP2 gathers weights that training uses again
def window_nats(
    model: PreTrainedModel,
    tokens: NDArray[np.integer],
    windows: Sequence[Window],
    batch_windows: int,
    autocast: torch.dtype | None = None,
) -> NDArray[np.float64]:
    """(W,) summed nats of the counted predictions of each window.

    Args:
        model: on its device; put in evaluation mode here.
        tokens: (n,) the stream.
        windows: of the stream.
        batch_windows: at most so many in a forward pass; changes speed and memory only.
        autocast: run the forward pass's products in this type; None = in the model's own.

    Raises:
        FloatingPointError: a loss is not a number.
    """
    model.eval()
    device = model.device
    nats = np.empty(len(windows))
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    weight = _plain_head(model, tokens[: min(windows[0][1], _TRIED)]) if windows else None
    for batch in _batches(windows, batch_windows, vocabulary):
        inputs = windows[batch.start][1]
        rows = [tokens[start : start + inputs + 1] for start, _, _ in windows[batch]]
        ids = torch.from_numpy(np.stack(rows).astype(np.int64)).to(device)  # (B, T + 1)
        context, targets = ids[:, :-1], ids[:, 1:].flatten()
        with torch.autocast(device.type, autocast, enabled=autocast is not None):
            if weight is None:
                logits = model(input_ids=context, use_cache=False).logits  # (B, T, V)
                each = token_nats(logits.flatten(0, 1), targets)
                del logits  # before the next are made
            else:
                hidden = model.base_model(input_ids=context, use_cache=False).last_hidden_state
                each = head_nats(hidden.flatten(0, 1), weight, targets, autocast)
        counted = torch.tensor([count for _, _, count in windows[batch]], device=device)
        counts = torch.arange(inputs, device=device) >= inputs - counted[:, None]
        # Added in fp64, in which nothing that matters is lost, where the device has it.
        wide = each.double() if device.type != "mps" else each
        nats[batch] = torch.where(counts, wide.view(len(rows), inputs), 0).sum(-1).cpu().numpy()
    if not np.isfinite(nats).all():
        raise FloatingPointError(
            f"the loss of {int((~np.isfinite(nats)).sum())} windows is not finite"
        )
    return nats


def _plain_head(model: PreTrainedModel, tokens: NDArray[np.integer]) -> Tensor | None:
    """The weight (V, D) of a head that is a plain product of what the model's body puts out.

    Models scale or cap their logits in many ways, so it is tried: both are computed of a few
    tokens. None as well where somebody has put a forward of their own in place (accelerate its
    autocast), or has spread the weights over processes (FSDP2 gathers them in the model's own
    forward alone).
    """
    head = model.get_output_embeddings()
    if type(head) not in (nn.Linear, Linear) or head.bias is not None or model.base_model is model:
        return None
    if "forward" in vars(model) or hasattr(head.weight, "device_mesh"):
        return None
    ids = torch.from_numpy(tokens.astype(np.int64))[None].to(model.device)
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    logits = model(input_ids=ids, use_cache=False).logits
    same = torch.allclose(hidden @ head.weight.T, logits, rtol=_TOLERANCE, atol=_TOLERANCE)
    return head.weight if same else None


def _batches(windows: Sequence[Window], most: int, vocabulary: int) -> list[slice]:
    """Runs of neighbouring windows with as many inputs each."""
    found, start = [], 0
    for end in range(1, len(windows) + 1):
        inputs = windows[start][1]
        full = end - start == batch_size(vocabulary, inputs, most)
        if end == len(windows) or full or windows[end][1] != inputs:
            found.append(slice(start, end))
            start = end
    return found
