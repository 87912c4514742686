"""Agency on any model of transformers whose attention comes from a registry.

The models look their attention function up by a name in their configuration. Here every such
function is registered once more under `agency_` + its name: it does what the function does and
multiplies each head's output by the head's factor. So no model class is copied.

B batch, T queries, H query heads, K head width.

This file needs torch and transformers only: see `modeling_cut`.
"""

import sys
from collections.abc import Callable
from ctypes import Array, c_char
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.pytorch_utils import Conv1D

from .modeling_head_agency import HeadAgency
from .modeling_observation import OBSERVED_WINDOWS, alignment, observed, utilisation
from .modeling_states import update

PREFIX = "agency_"


class Control:
    """What the heads of one model have in common: the rules, and whether they look on now.

    Attributes:
        options: as `AgencyOptions` has them, by name.
        layers: the heads of each attention module, in the model's order.
        inside: the model's own forward pass is running (not a recomputation of it).
        calibrating: observe in evaluation mode too, every query.
        watching: the heads are looked at in this forward pass.
        called: this forward pass is a step: training or calibrating, two positions or more.
        step: of the heads, so that the device is not asked; None: not known yet.
        ready: the layers' factors were made before this forward pass.
        idle: and all of them are 1.
        known: the gates and states from which they were made, on a CPU.
    """

    def __init__(self, options: dict[str, Any]):
        self.options = options
        self.layers: list[HeadAgency] = []
        self.inside = False
        self.calibrating = False
        self.watching = False
        self.called = False
        self.step: int | None = None
        self.ready = False
        self.idle = False
        self.known: list[_Known] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A copy knows nothing of the original's memory."""
        return self.__dict__ | {"known": None}

    def before(self, model: nn.Module, inputs: Any) -> None:
        """Before each forward pass: gates stay in 0 to 1, whatever an optimiser did."""
        config: Any = model.config
        if not config._attn_implementation.startswith(PREFIX):  # chosen anew by somebody
            config._attn_implementation_internal = registered(config._attn_implementation)
        self.inside = True
        shapes_alone = self.layers[0].gates.is_meta
        if (model.training or self.calibrating) and not shapes_alone:
            if self.step is None:
                self.step = int(self.layers[0].step)
            self.watching = self.calibrating or self.step % self.options["observe_every"] == 0
        if model.training:
            for heads in self.layers:
                heads.gates.data.clamp_(0, 1)
        self.prepare(fixed=not torch.is_grad_enabled() and not model.training)

    def prepare(self, fixed: bool) -> None:
        """Where nothing is learned, all factors at once, before the layers ask for them."""
        layers = self.layers
        if fixed and self.ready and self._unchanged():
            return
        self.known = None
        # Straight from the modules' dictionaries: a module's own lookup takes longer than the rest.
        own = [heads._parameters for heads in layers]
        gates: Any = [parameters["gates"] for parameters in own]
        states: Any = [heads._buffers["state_factor"] for heads in layers]
        place = gates[0].device
        self.ready = (
            fixed
            and [parameters["opening"] for parameters in own] == [None] * len(own)
            and all(one.device == place for one in gates)
        )
        if not self.ready:
            return
        looked = place.type == "cpu" and not torch.compiler.is_compiling()
        factors = torch.cat(gates).clamp(0, 1) * torch.cat(states)  # (heads of all layers,)
        self.idle = looked and bool(factors.min() == 1)
        sizes = [one.numel() for one in gates]
        for heads, found in zip(layers, factors.unsqueeze(1).split(sizes), strict=True):
            heads.ready = found
        if looked:
            self.known = [
                (heads._parameters, heads._buffers, *_bytes(gate), *_bytes(state))
                for heads, gate, state in zip(layers, gates, states, strict=True)
            ]

    def _unchanged(self) -> bool:
        """Whether gates and states are, byte by byte, those of the last forward pass.

        However they were changed: this reads 24 bytes or so for a layer, while a handful of
        operations on such small tensors takes twenty times as long.
        """
        if self.known is None or torch.compiler.is_compiling():
            return False
        for parameters, buffers, gate, at, now, then, state, at2, now2, then2 in self.known:
            if (
                parameters["gates"] is not gate
                or buffers["state_factor"] is not state
                or parameters["opening"] is not None
                or gate.data_ptr() != at
                or state.data_ptr() != at2
                or now.raw != then
                or now2.raw != then2
            ):
                return False
        return True

    def after(self, model: nn.Module, inputs: Any, output: Any) -> None:
        """After each forward pass: what was seen moves averages and states."""
        self.inside = False
        if self.called:
            self.called = False
            assert self.step is not None, "no step begins on shapes alone"
            self.step += 1
            update(self.layers, self.options)


# A layer's parameters and buffers; gates, their address, their bytes now and then; states alike.
_Known = tuple[Any, Any, Tensor, int, Array[c_char], bytes, Tensor, int, Array[c_char], bytes]


def _bytes(tensor: Tensor) -> tuple[Tensor, int, Array[c_char], bytes]:
    """A tensor in this process's memory, its address, its bytes as they will be and as they are."""
    address = tensor.data_ptr()
    now = (c_char * tensor.nbytes).from_address(address)
    return tensor, address, now, now.raw


def registered(name: str) -> str:
    """The name of an attention function with agency around it, registered if it was not yet.

    Raises:
        ValueError: it has no mask of its own, so that padding would be ignored.
    """
    name = name.removeprefix(PREFIX)  # a second model of one configuration finds it there already
    own = PREFIX + name
    masks = AttentionMaskInterface()
    if name not in masks:
        raise ValueError(f"model: its attention {name!r} has no mask in transformers' registry")
    AttentionInterface.register(own, _with_agency(name))
    AttentionMaskInterface.register(own, masks[name])
    return own


def _with_agency(name: str) -> Callable[..., tuple[Tensor, Tensor | None]]:
    inner_of_all = ALL_ATTENTION_FUNCTIONS[name] if name != "eager" else None

    def attention(
        module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        # Each family has an eager one of its own.
        inner = inner_of_all or sys.modules[type(module).__module__].eager_attention_forward
        output, weights = inner(module, query, key, value, mask, **kwargs)  # (B, T, H, K)
        heads: Any = module._modules.get("agency")
        if heads is None:
            return output, weights
        control = heads.control
        watched = module.training or control.calibrating
        if watched and control.inside and query.shape[2] > 1 and not query.is_meta:
            control.called = True
            if control.watching:
                _observe(module, heads, query, key, mask, kwargs.get("scaling"), output)
        if control.ready and control.inside:
            return (output if control.idle else output.mul_(heads.ready)), weights
        factors = heads.factors().to(output.dtype).unsqueeze(1)
        return (output * factors if torch.is_grad_enabled() else output.mul_(factors)), weights

    return attention


@torch.no_grad()
def _observe(
    module: nn.Module,
    heads: HeadAgency,
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    scaling: float | None,
    output: Tensor,
) -> None:
    """Note what a module's heads did: query (B, H, T, K), key (B, G, S, K), output (B, T, H, K)."""
    every = heads.control.calibrating
    windows = slice(None if every else OBSERVED_WINDOWS)
    rows = observed(query.shape[2], every)
    with torch.autocast(query.device.type, enabled=False):
        used, valid = utilisation(query[windows], key[windows], mask, scaling, rows)
        projection = getattr(module, heads.output) if heads.output else None
        if projection is None:
            heads.seen = (used, torch.full_like(used, torch.nan))
            return
        weight = projection.weight.float()
        weight = weight if isinstance(projection, Conv1D) else weight.T  # (H K, D)
        parts = output[windows, rows].float()
        heads.seen = (used, alignment(parts, weight, heads.factors().float(), valid))


def attach(model: Any, agency: dict[str, Any]) -> None:
    """Give a model's attention modules their heads, gates at 1 and all active.

    Args:
        model: a causal model of transformers, on any device, meta too.
        agency: `options`, and `layers`: attention module -> `heads` and `output`, the name of its
            output projection (None: not known, then alignment is not measured).

    Raises:
        ValueError: a module that the model has not.
    """
    control = Control(dict(agency["options"]))
    modules = dict(model.named_modules())
    model.config._attn_implementation_internal = registered(model.config._attn_implementation)
    for name, layer in agency["layers"].items():
        if name not in modules or not (type(layer["heads"]) is int and layer["heads"] > 0):
            raise ValueError(f"agency: the model has no attention {name!r} of such heads: {layer}")
        module = modules[name]
        heads = HeadAgency(layer["heads"], layer["output"], control)
        like = next(module.parameters(), None)
        if like is not None:
            heads = heads.to(like.device).to(like.dtype)
        module.agency = heads.train(module.training)
        control.layers.append(heads)
    base = model.base_model
    base.register_forward_pre_hook(control.before)
    base.register_forward_hook(control.after)
