"""Agency switched on and off in a model; what it is attached to is found by trying."""

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from resprout.models.agency.options import AgencyOptions
from resprout.models.modeling_agency import PREFIX, Control, attach
from resprout.models.modeling_cut import class_for, plain_class
from resprout.models.modeling_head_agency import HeadAgency
from resprout.refusals import check_flag, check_instance, check_model

_PROBE = "agency-probe"
# What attention functions are handed that only a family's own eager one computes.
_EAGER_ONLY = {
    "softcap": "capped attention scores",
    "s_aux": "attention sinks",
    "position_bias": "a position bias",
}


def enable(model: PreTrainedModel, options: AgencyOptions | None = None) -> PreTrainedModel:
    """Give every attention head a gate and a state, in place.

    All gates are 1 and all heads active, so the logits stay as they are, to the bit on a CPU. The
    model's class becomes a subclass that saves and loads with them; its other weights stay as they
    are.

    Args:
        model: a causal model of transformers whose attention comes from the registry of attention
            functions; cut or not, on any device, meta too.
        options: the rules of the states; default the published ones.

    Returns:
        The model.

    Raises:
        ValueError: no model or no options; the model has agency already, no registry-based
            attention, or one with features that only eager attention has. The model is unchanged
            then.
    """
    check_model(model)
    check_instance("options", options, AgencyOptions, "an")
    if is_enabled(model):
        raise ValueError(f"model: {type(model).__name__} has agency already")
    config: Any = model.config
    if getattr(config, "reorder_and_upcast_attn", False):
        raise ValueError(
            "model: its reorder_and_upcast_attn is a feature of eager attention alone, which "
            "agency does not see; allowed is a model without it"
        )
    layers = _find_attention(model)
    config.agency = {"options": asdict(options or AgencyOptions()), "layers": layers}
    attach(model, config.agency)
    model.__class__ = class_for(plain_class(type(model)), config)
    return model


@torch.no_grad()
def disable(model: PreTrainedModel, fold: bool = False) -> PreTrainedModel:
    """Take gates and states off again, in place.

    Args:
        model: with agency.
        fold: multiply gates and states into the output projections, so that the plain model
            computes what the gated one did; else the other weights stay untouched.

    Returns:
        The model, of transformers' own class again.

    Raises:
        ValueError: it has no agency; `fold` where an output projection is not known.
    """
    check_flag("fold", fold)
    found = modules_of(model)
    if fold:
        for name, (module, heads) in found.items():
            if heads.output is None:
                raise ValueError(f"fold: the output projection of {name} is not known")
            weight = getattr(module, heads.output).weight
            training, heads.training = heads.training, False  # the fixed gates, never a draw
            factors = heads.factors().to(weight.dtype)
            heads.training = training
            along = 0 if isinstance(getattr(module, heads.output), Conv1D) else 1
            columns = factors.repeat_interleave(weight.shape[along] // len(factors))
            weight.mul_(columns.unsqueeze(1) if along == 0 else columns)
    base = model.base_model
    for hooks in (base._forward_pre_hooks, base._forward_hooks):
        for key in [k for k, hook in hooks.items() if _is_ours(hook)]:
            del hooks[key]
    for module, _ in found.values():
        del module.agency
    config: Any = model.config
    config._attn_implementation_internal = config._attn_implementation.removeprefix(PREFIX)
    del config.agency
    model.__class__ = class_for(plain_class(type(model)), config)
    return model


def is_enabled(model: nn.Module) -> bool:
    """Whether a model's heads have gates and states; a ValueError for what is no module."""
    _check_module(model)
    return any(isinstance(module, HeadAgency) for module in model.modules())


def modules_of(model: nn.Module) -> dict[str, tuple[nn.Module, HeadAgency]]:
    """Attention module's name -> the module and its heads, in the model's order.

    Raises:
        ValueError: the model has no agency, or is none.
    """
    _check_module(model)
    found = {
        name: (module, module.agency)
        for name, module in model.named_modules()
        if isinstance(getattr(module, "agency", None), HeadAgency)
    }
    if not found:
        raise ValueError(
            f"model: {type(model).__name__} has no agency; resprout.models.agency.enable gives it"
        )
    return found


def heads_of(model: nn.Module) -> list[HeadAgency]:
    """The heads of each layer; a ValueError where the model has no agency."""
    return [heads for _, heads in modules_of(model).values()]


def settle_agency(model: PreTrainedModel) -> None:
    """Bring the configuration in line with the heads that are there, after surgery."""
    if not is_enabled(model):
        return
    found = modules_of(model)
    config: Any = model.config
    config.agency = config.agency | {
        "layers": {
            name: {"heads": len(heads.gates), "output": heads.output}
            for name, (_, heads) in found.items()
        }
    }
    control = next(iter(found.values()))[1].control
    control.layers = [heads for _, heads in found.values()]


def _check_module(model: nn.Module) -> None:
    """Refuse what has no modules to look at; a wrapper (DDP) has, without a configuration."""
    if not isinstance(model, nn.Module):
        check_model(model)


def _is_ours(hook: Any) -> bool:
    return isinstance(getattr(hook, "__self__", None), Control)


class _Probe:
    """An attention function that notes which module calls it, with how many heads."""

    def __init__(self) -> None:
        self.layers: dict[int, dict[str, Any]] = {}
        self.handles: list[Any] = []

    def __call__(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **kwargs: Any
    ) -> tuple[Tensor, None]:
        B, H, T, _ = query.shape
        K = value.shape[-1]
        for name, what in _EAGER_ONLY.items():
            if kwargs.get(name) is not None:
                raise ValueError(
                    f"model: its attention has {what} ({name}), which only eager attention "
                    "computes; allowed is a model without"
                )
        layer = self.layers.setdefault(id(module), {"heads": H, "output": None})
        for name, child in module.named_children():
            if isinstance(child, nn.Linear | Conv1D):
                self.handles.append(child.register_forward_pre_hook(_note(layer, name, H * K)))
        return query.new_zeros(B, T, H, K), None


def _note(layer: dict[str, Any], name: str, channels: int) -> Any:
    """A hook for what reads the heads' outputs: the first product after the attention."""

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if layer["output"] is None and inputs[0].shape[-1] == channels:
            layer["output"] = name

    return note


@torch.no_grad()
def _find_attention(model: PreTrainedModel) -> dict[str, dict[str, Any]]:
    """Attention module's name -> its heads and output projection, by one token's forward pass.

    Raises:
        ValueError: no module asks the registry for its attention function.
    """
    probe = _Probe()
    AttentionInterface.register(_PROBE, probe)
    AttentionMaskInterface.register(_PROBE, lambda **kwargs: None)
    config: Any = model.config
    before, training = config._attn_implementation, model.training
    refusal = (
        f"model: {type(model).__name__} does not look its attention up in transformers' registry, "
        "so its heads cannot be given gates"
    )
    if not model._can_set_attn_implementation():
        raise ValueError(refusal)
    try:
        model.eval()
        config._attn_implementation_internal = _PROBE
        ids = torch.zeros(1, 2, dtype=torch.long, device=model.device)
        # With a cache, transformers does not look for packed rows (it needs values: meta has none).
        model.base_model(input_ids=ids, use_cache=True)
    finally:
        config._attn_implementation_internal = before
        model.train(training)
        for handle in probe.handles:
            handle.remove()
    found = {
        name: probe.layers[id(module)]
        for name, module in model.named_modules()
        if id(module) in probe.layers
    }
    if not found:
        raise ValueError(refusal)
    return found
