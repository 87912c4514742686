"""What a model is made of, from its configuration alone: no weights are allocated."""

from collections import Counter

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from resprout.models.biogpt import BioGPTConfig
from resprout.models.biogpt.layout import branch_widths, zone_of


def skeleton(config: PreTrainedConfig) -> PreTrainedModel:
    """The model on the meta device: shapes without memory."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert isinstance(model, PreTrainedModel)
    return model


def components(model: nn.Module) -> dict[str, int]:
    """Parameters per component, in the model's order; a tied tensor counts once.

    A component is a parameter's place in the model without layer numbers and without its last
    name: `model.layers.neurons.qkv` gathers that matrix of all neurons of all layers.
    """
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        parts = [part for part in name.split(".") if not part.isdigit()]
        if parts[-1] in ("weight", "bias") and len(parts) > 1:
            parts.pop()
        counts[".".join(parts)] += parameter.numel()
    return dict(counts)


def parameter_total(model: nn.Module) -> int:
    """All parameters, a tied tensor once."""
    return sum(parameter.numel() for parameter in model.parameters())


def layout_lines(config: BioGPTConfig) -> list[str]:
    """The cortical layout and the feedback of a BioGPT, as the published self-test prints it."""
    layout = config.cortical_layout or []
    lines = ["Cortical Layout:"]
    for layer, counts in enumerate(layout):
        lines.append(
            f"  Layer {layer:2d} [{zone_of(layer, len(layout)):>5}]: {len(counts)} neurons | "
            f"{sum(counts):2d} branches | {branch_widths(config.hidden_size, counts)}"
        )
    lines.append(f"  Total branches: {sum(map(sum, layout))}")
    lines += ["", "Feedback connections:"]
    pairs = config.feedback_pairs or []
    lines += [f"  Layer {source} -> Layer {target}" for source, target in pairs] or ["  none"]
    if pairs and config.n_passes == 1:
        lines.append("  (counted, but used only with two passes)")
    return lines


def breakdown_lines(model: nn.Module) -> list[str]:
    """Parameters per component and in all, as aligned lines."""
    counts = components(model)
    width = max(map(len, counts))
    lines = [f"  {name:<{width}} {count:>15,}" for name, count in counts.items()]
    return ["Parameters:", *lines, f"  {'total':<{width}} {parameter_total(model):>15,}"]
