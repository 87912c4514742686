"""What a model takes before it does anything: bytes of weights, operations per token."""

import torch
from transformers import PreTrainedModel

from resprout.hints import first_line
from resprout.measure.figure import Figure
from resprout.models.cost import count_cost
from resprout.models.description import parameter_total, skeleton

EXACT = "counted, not sampled: there is no interval"


def model_bytes(model: PreTrainedModel) -> int:
    """Bytes of all parameters and buffers; what shares its storage counts once."""
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in [*model.parameters(), *model.buffers()]
    }
    return sum(storages.values())


def bytes_figure(model: PreTrainedModel) -> Figure:
    """`model_bytes` as a figure."""
    dtypes = sorted({str(p.dtype).removeprefix("torch.") for p in model.parameters()})
    return Figure(
        value=model_bytes(model),
        unit="bytes",
        items=1,
        protocol=f"parameters ({', '.join(dtypes)}) and buffers in memory, shared ones once; "
        "weights that a mask holds at zero count like others",
        seconds=0.0,
        reason=EXACT,
    )


def flops_figure(model: PreTrainedModel, context_tokens: int) -> Figure:
    """Operations of the forward pass per token, counted on shapes; absent where that fails."""
    protocol = (
        f"torch's counter on the forward pass of one sequence of {context_tokens} tokens, divided "
        "by the tokens; a multiplication and an addition are two; products, convolutions and "
        "attention (its whole square), zeros of a mask like other weights"
    )
    value: float | None = None
    reason = EXACT
    try:
        shapes = skeleton(model.config)
        if parameter_total(shapes) != parameter_total(model):
            raise ValueError("the configuration does not say the shapes of this model")
        with torch.random.fork_rng():
            value = count_cost(shapes, context_tokens).flops_per_token
    except Exception as error:  # a foreign model's code may refuse in any way
        reason = f"not counted: {first_line(error)}"
    return Figure(value, "FLOP per token", 1, protocol, 0.0, reason=reason)
