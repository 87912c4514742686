"""What a model is made of, from its configuration alone: no weights are allocated."""

import re
from collections import Counter
from collections.abc import Iterable

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from resprout.hints import first_line
from resprout.models.biogpt import BioGPTConfig, BioGPTForCausalLM
from resprout.models.biogpt.configuration import MOST_LAYERS
from resprout.models.biogpt.layout import branch_total, branch_widths, zone_of
from resprout.models.cost import count_cost
from resprout.models.memory_plan import MemoryPlan
from resprout.models.modeling_cut import is_changed
from resprout.models.subject import model_class

# Parts of a name that tell one layer from the next: `3`, and BioGPT's `fb_8_to_0`.
_NUMBERED = re.compile(r"\d+|fb_\d+_to_\d+")

CARDS_GIB = (8, 12, 16, 24, 32, 40, 48, 80, 96, 141, 192)


def skeleton(config: PreTrainedConfig) -> PreTrainedModel:
    """The model on the meta device: shapes without memory.

    Raises:
        ValueError: its configuration makes no model, or has more layers than any.
    """
    layers = getattr(config.get_text_config(decoder=True), "num_hidden_layers", None)
    if isinstance(layers, int) and layers > MOST_LAYERS:  # which would be made one by one
        named = f"{config.name_or_path!r} ({config.model_type})"
        raise ValueError(
            f"model: the configuration of {named} has num_hidden_layers {layers}, allowed are up "
            f"to {MOST_LAYERS}"
        )
    try:
        with torch.device("meta"):
            if is_changed(config):
                return model_class(config)(config)
            model = AutoModelForCausalLM.from_config(config)
    except ValueError:
        raise  # the family's own words
    except Exception as error:  # whatever a figure that makes no sense comes to
        raise ValueError(
            f"model: the configuration of {config.name_or_path!r} ({config.model_type}) makes no "
            f"model ({first_line(error)})"
        ) from error
    assert isinstance(model, PreTrainedModel)
    return model


def components(model: nn.Module) -> dict[str, int]:
    """Parameters per component, in the model's order; a tied tensor counts once.

    A component is a parameter's place in the model without layer numbers and without its last
    name: `model.layers.neurons.qkv` gathers that matrix of all neurons of all layers.
    """
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        parts = [part for part in name.split(".") if not _NUMBERED.fullmatch(part)]
        if parts[-1] in ("weight", "bias") and len(parts) > 1:
            parts.pop()
        counts[".".join(parts)] += parameter.numel()
    return dict(counts)


def parameter_total(model: nn.Module) -> int:
    """All parameters, a tied tensor once."""
    return sum(parameter.numel() for parameter in model.parameters())


def layout_lines(config: BioGPTConfig) -> list[str]:
    """The cortical layout and the feedback of a BioGPT, as the published self-test prints it."""
    D, layout = config.hidden_size, config.cortical_layout or []
    totals = [branch_total(entries) for entries in layout]
    lines = ["Cortical Layout:"]
    for layer, entries in enumerate(layout):
        lines.append(
            f"  Layer {layer:2d} [{zone_of(layer, len(layout)):>5}]: {len(entries)} neurons | "
            f"{totals[layer]:2d} branches | {branch_widths(D, entries)}"
        )
    lines.append(f"  Total branches: {sum(totals)}")
    lines += ["", "Feedback connections:"]
    pairs = config.feedback_pairs or []
    lines += [f"  Layer {source} -> Layer {target}" for source, target in pairs] or ["  none"]
    if pairs and config.n_passes == 1:
        lines.append("  (counted, but used only with two passes)")
    return lines


def zones(model: BioGPTForCausalLM) -> dict[str, int]:
    """Parameters of a BioGPT by zone: the three of its layers, and what lies outside of them."""
    layers = len(model.model.layers)
    counts = dict.fromkeys(("EARLY", "MID", "LATE"), 0)
    for index, layer in enumerate(model.model.layers):
        counts[zone_of(index, layers)] += parameter_total(layer)
    counts["feedback"] = parameter_total(model.model.feedback_connections)
    counts["embeddings"] = parameter_total(model.model.token_emb)
    counts["embeddings"] += parameter_total(model.model.pos_emb)
    counts["head"] = parameter_total(model.lm_head)
    counts["last norm, pass weights"] = parameter_total(model) - sum(counts.values())
    return counts


def zone_lines(model: BioGPTForCausalLM) -> list[str]:
    """Parameters per zone, as aligned lines."""
    counts = {name: count for name, count in zones(model).items() if count}
    width = max(map(len, counts))
    return ["Zones:", *(f"  {name:<{width}} {count:>15,}" for name, count in counts.items())]


def cost_lines(model: PreTrainedModel) -> list[str]:
    """Operations and memory, as lines; says why where they cannot be counted."""
    weights = parameter_total(model)
    lines = [
        "Cost:",
        f"  weights: {_size(4 * weights)} in fp32, {_size(2 * weights)} in bf16",
    ]
    try:
        cost = count_cost(model)
    except ValueError as error:
        return [*lines, f"  operations and activations: not counted, {error}"]
    T, flops = cost.context_tokens, cost.flops_per_token
    cache, kept = cost.cache_bytes_per_token, cost.activation_bytes
    return [
        *lines,
        f"  operations per token, in a context of {T:,} tokens: {_flops(flops)} forward, "
        f"{_flops(3 * flops)} in training",
        f"  inference, one sequence of {T:,} tokens: {_size(4 * weights + cache * T)} in fp32, "
        f"{_size((4 * weights + cache * T) / 2)} in bf16, of which the cache is "
        f"{_size(cache)} per token in fp32",
        f"  training, one sequence of {T:,} tokens, fp32, AdamW: {_size(16 * weights + kept)}: "
        f"{_size(16 * weights)} weights, gradients and moments, {_size(kept)} activations",
    ]


def memory_lines(plan: MemoryPlan) -> list[str]:
    """A training memory plan as a table, and the smallest usual card that holds it."""
    ways = {"DDP": False, "FSDP2": True} if plan.devices > 1 else {"one device": False}
    lines = [
        f"Training memory per device: {plan.devices} device{'s'[: plan.devices > 1]}, "
        f"{plan.batch_size} sequence{'s'[: plan.batch_size > 1]} of {plan.block_tokens:,} tokens "
        "on each, bf16 autocast, AdamW",
        _row("", ways),
    ]
    for checkpointing in (False, True):
        if checkpointing:
            lines.append("  with gradient checkpointing:")
        columns = [plan.parts(sharded, checkpointing) for sharded in ways.values()]
        for part in ("activations",) if checkpointing else columns[0]:
            if any(column[part] for column in columns):
                lines.append(_row(part, [_size(c[part]) if c[part] else "-" for c in columns]))
        totals = [sum(column.values()) for column in columns]
        lines.append(_row("total", map(_size, totals)))
        lines.append(_row("smallest card", map(_card, totals)))
    return [
        *lines,
        "  (counted on shapes; a tenth of a card is left for what is not counted: the allocator,",
        "  workspaces, the gradients of activations, CUDA itself)",
    ]


def _row(label: str, figures: Iterable[str]) -> str:
    return f"  {label:<38}" + "".join(f"{figure:>12}" for figure in figures)


def _card(needed: int) -> str:
    """The smallest usual GPU that holds so many bytes with a tenth spare."""
    fitting = [size for size in CARDS_GIB if needed <= 0.9 * size * 2**30]
    return f"{fitting[0]} GiB" if fitting else f"> {CARDS_GIB[-1]} GiB"


def _size(count: float) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:.2f} {name}"
    return f"{count / 1e3:.2f} kB"


def _flops(count: float) -> str:
    return f"{count / 1e9:.3f} GFLOP" if count >= 1e9 else f"{count / 1e6:.2f} MFLOP"


def breakdown_lines(model: nn.Module) -> list[str]:
    """Parameters per component and in all, as aligned lines."""
    counts = components(model)
    width = max(map(len, counts))
    lines = [f"  {name:<{width}} {count:>15,}" for name, count in counts.items()]
    return ["Parameters:", *lines, f"  {'total':<{width}} {parameter_total(model):>15,}"]
