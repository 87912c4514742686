"""Block by block over calibration text: each block reads what the blocks already cut put out.

At any time the text's hidden states stand between two blocks, (N, T, D) in the model's type, and
one block's statistics are held; so a model needs memory once, whatever its depth.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from resprout.pruning.statistics import Progress, batches, looking

Forward = Callable[[], None]


class _EnoughError(Exception):
    pass


def each_block(
    model: PreTrainedModel, blocks: Sequence[nn.Module], ids: Tensor, progress: Progress
) -> Iterator[tuple[int, Forward]]:
    """Yield each block's number and a function that runs it (and its hooks) over the text.

    Whatever the caller changes in a block before asking for the next is what the next reads.

    Args:
        model: in whatever mode; it is looked at in evaluation mode.
        blocks: in order.
        ids: (N, T).
        progress: told of blocks done.
    """
    parts = batches(ids, model.device)
    with looking(model), torch.no_grad():
        hidden, calls = _first_inputs(model, blocks, parts)
        if any(len(call) != 1 for call in calls):
            # Blocks that run several times (two passes) feed each other: the whole model runs.
            for layer in range(len(blocks)):
                yield layer, lambda: _whole(model, parts)
                progress(layer + 1, len(blocks))
            return
        for layer, block in enumerate(blocks):
            args, kwargs = calls[layer][0]

            def forward(block: nn.Module = block, args: Any = args, kwargs: Any = kwargs) -> None:
                for x in hidden:
                    block(x, *args, **kwargs)

            yield layer, forward
            for place, x in enumerate(hidden):
                output = block(x, *args, **kwargs)
                hidden[place] = output[0] if isinstance(output, tuple) else output
            progress(layer + 1, len(blocks))


def _whole(model: PreTrainedModel, parts: Sequence[Tensor]) -> None:
    for batch in parts:
        model.base_model(input_ids=batch, use_cache=False)


def _first_inputs(
    model: PreTrainedModel, blocks: Sequence[nn.Module], parts: Sequence[Tensor]
) -> tuple[list[Tensor], list[list[tuple[Any, Any]]]]:
    """The first block's inputs for every batch, and with what else each block is called.

    The rest of the arguments (masks, positions) is the same for all batches, which are equally
    large and without padding; so one whole pass tells it.
    """
    calls: list[list[tuple[Any, Any]]] = [[] for _ in blocks]
    hidden: list[Tensor] = []

    def note(layer: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if not args:  # named
                kwargs = dict(kwargs)
                args = (kwargs.pop("hidden_states"),)
            if layer == 0 and (done or not calls[0]):
                hidden.append(args[0])
            if done:
                raise _EnoughError
            calls[layer].append((args[1:], kwargs))

        return hook

    done = False
    handles = [
        block.register_forward_pre_hook(note(layer), with_kwargs=True)
        for layer, block in enumerate(blocks)
    ]
    try:
        model.base_model(input_ids=parts[0], use_cache=False)
        done = True
        for batch in parts[1:]:
            try:
                model.base_model(input_ids=batch, use_cache=False)
            except _EnoughError:
                continue
    finally:
        for handle in handles:
            handle.remove()
    return hidden, calls
