"""What a model does on calibration text: inputs, attention, gradients, how much a layer changes.

Shapes: N windows of T tokens; B of them at a time; H heads; C channels. The model is left as it
was: mode, gradients, attention implementation.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from resprout.models.loss import logits_loss
from resprout.pruning.matrices import input_columns
from resprout.pruning.units import Group

BATCH_TOKENS = 4096
Progress = Callable[[int, int], None]


def _silent(done: int, total: int) -> None:
    pass


@contextmanager
def looking(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode, no gradients for parameters; as before afterwards."""
    training = model.training
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        model.train(training)


def batches(ids: Tensor, device: torch.device) -> list[Tensor]:
    """The windows (N, T) in equal batches of at most `BATCH_TOKENS` tokens."""
    N, T = ids.shape
    most = max(1, BATCH_TOKENS // T)
    size = next(size for size in range(min(most, N), 0, -1) if N % size == 0)
    return [batch.to(device) for batch in ids.split(size)]


@torch.no_grad()
def run(model: PreTrainedModel, ids: Tensor, progress: Progress = _silent) -> None:
    """The forward pass over all windows, for its hooks' sake; no head is computed."""
    parts = batches(ids, model.device)
    for done, batch in enumerate(parts, start=1):
        model.base_model(input_ids=batch, use_cache=False)
        progress(done, len(parts))


class InputNorms:
    """Hooks that add up the squares of what modules read, a figure per column of their matrices."""

    def __init__(self, modules: Sequence[nn.Module]):
        self.squares: dict[nn.Module, Tensor] = {}
        self.handles = [module.register_forward_pre_hook(self._add) for module in modules]

    def _add(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        squares = input_columns(module, inputs[0].detach()).float().square().sum(1)  # (g, c)
        held = self.squares.get(module)
        self.squares[module] = squares.double() if held is None else held + squares

    def norms(self, module: nn.Module) -> Tensor:
        """L2 norms over all positions, (g, c) fp32.

        Raises:
            ValueError: the forward pass never called the module.
        """
        if module not in self.squares:
            raise ValueError("calibration: a prunable module is never called by the forward pass")
        return self.squares[module].sqrt().float()

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self.handles:
            handle.remove()


def input_norms(
    model: PreTrainedModel,
    modules: Sequence[nn.Module],
    ids: Tensor,
    progress: Progress = _silent,
) -> dict[nn.Module, Tensor]:
    """||X_j||_2 of each column of each module's matrices over the text, (g, c)."""
    hooks = InputNorms(modules)
    try:
        with looking(model):
            run(model, ids, progress)
    finally:
        hooks.remove()
    return {module: hooks.norms(module) for module in modules}


def unit_activations(
    model: PreTrainedModel, groups: Sequence[Group], ids: Tensor, progress: Progress = _silent
) -> list[Tensor]:
    """The L2 norm over the text of what each unit puts out, (units,) per group."""
    norms = input_norms(model, [m for g in groups for m, _ in g.outputs], ids, progress)
    scores = []
    for group in groups:
        squares = torch.zeros(group.count, dtype=torch.float64)
        for module, owner in group.outputs:
            squares.index_add_(0, owner, norms[module][0].double().square().cpu())
        scores.append(squares.sqrt().float())
    return scores


def unit_taylor(
    model: PreTrainedModel, groups: Sequence[Group], ids: Tensor, progress: Progress = _silent
) -> list[Tensor]:
    """How much the loss would change, to first order, without each unit, (units,) per group.

    The mean over windows of |dL/dg|, g a factor 1 on what the unit puts out (Michel, Levy and
    Neubig 2019, eq. 2; Molchanov et al. 2019). One window at a time, so that signs do not cancel.
    """
    gates = [torch.ones(g.count, device=model.device, requires_grad=True) for g in groups]
    totals = [torch.zeros(g.count, dtype=torch.float64) for g in groups]

    def gate(factors: Tensor, owner: Tensor) -> Callable[..., Any]:
        places = owner.to(model.device)

        def multiply(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return (inputs[0] * factors[places].to(inputs[0].dtype), *inputs[1:])

        return multiply

    with ExitStack() as stack, torch.enable_grad():
        stack.enter_context(looking(model))
        for group, factors in zip(groups, gates, strict=True):
            for module, owner in group.outputs:
                handle = module.register_forward_pre_hook(gate(factors, owner))
                stack.callback(handle.remove)
        for done, window in enumerate(ids.split(1), start=1):
            window = window.to(model.device)
            loss = logits_loss(model, window[:, :-1], window[:, 1:])
            found = torch.autograd.grad(loss, gates)
            for total, gradient in zip(totals, found, strict=True):
                total += gradient.abs().double().cpu()
            progress(done, len(ids))
    return [(total / len(ids)).float() for total in totals]


def head_entropies(
    model: PreTrainedModel, groups: Sequence[Group], ids: Tensor, progress: Progress = _silent
) -> list[Tensor]:
    """The mean entropy of each head's attention, 0 (one position) to 1 (all alike), (units,).

    The entropy at a position is divided by the log of how many positions it may see; the first,
    which has no choice, is left out. A unit of several query heads has their mean.
    """
    sums: dict[nn.Module, Tensor] = {}
    positions = 0

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        weights = output[1].float()  # (B, H, T, T)
        T = weights.shape[-1]
        # Some families (Mistral, Phi-3) leave their window to the configuration.
        holder = module if hasattr(module, "sliding_window") else model.config
        seen = torch.arange(2, T + 1, device=weights.device)
        seen = seen.clamp(max=getattr(holder, "sliding_window", None) or T).clamp(min=2)
        entropy = torch.special.entr(weights[:, :, 1:]).sum(-1) / seen.log()  # (B, H, T - 1)
        total = entropy.double().sum(dim=(0, 2)).cpu()
        sums[module] = sums[module] + total if module in sums else total

    parents = {id(child): module for module in model.modules() for child in module.children()}
    attentions = [parents[id(group.outputs[0][0])] for group in groups]
    before = model.config._attn_implementation
    with ExitStack() as stack:
        model.set_attn_implementation("eager")  # the only one that shows its weights
        stack.callback(model.set_attn_implementation, before)
        stack.enter_context(looking(model))
        for attention in attentions:
            stack.callback(attention.register_forward_hook(note).remove)
        run(model, ids, progress)
        positions = ids.shape[0] * (ids.shape[1] - 1)
    means = [(sums[attention] / positions).float() for attention in attentions]
    return [mean.view(group.count, -1).mean(1) for mean, group in zip(means, groups, strict=True)]


def block_influences(
    model: PreTrainedModel, blocks: Sequence[nn.Module], ids: Tensor, progress: Progress = _silent
) -> Tensor:
    """Block influence, (L,): 1 - the mean cosine between a block's input and output.

    Men et al. 2024 (ShortGPT), eq. 1, over all positions (and calls, with two passes).
    """
    sums = torch.zeros(len(blocks), dtype=torch.float64)
    counts = torch.zeros(len(blocks), dtype=torch.float64)
    with ExitStack() as stack:
        stack.enter_context(looking(model))
        for layer, block in enumerate(blocks):

            def note(module: Any, inputs: Any, output: Any, layer: int = layer) -> None:
                after = output[0] if isinstance(output, tuple) else output
                cosine = torch.cosine_similarity(inputs[0].float(), after.float(), dim=-1)
                sums[layer] += cosine.double().sum().item()
                counts[layer] += cosine.numel()

            stack.callback(block.register_forward_hook(note).remove)
        run(model, ids, progress)
    return (1 - sums / counts).float()


def shortest(ids: Tensor) -> None:
    """Refuse windows that are too short to say anything.

    Raises:
        ValueError: fewer than two tokens.
    """
    if ids.shape[1] < 2 or not math.prod(ids.shape):
        raise ValueError(
            f"calibration: got windows of {ids.shape[1]} tokens, allowed are 2 or more"
        )
