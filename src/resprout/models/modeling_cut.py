"""Models whose layers have sizes that their configuration cannot say, loaded by it all the same.

`CutX` is the class X of transformers: built from the same configuration, and then given the sizes
that stand in the configuration's field `reshaped`, and the gates of its field `agency`; `AgencyX`
is the same where there are gates only. So everything that `from_pretrained` does (shards, types,
devices, tied weights) is done by transformers itself, strictly.

This file and the one that it imports need torch and transformers only: beside the weights they are
all that others need (`trust_remote_code=True`), and they execute nothing that the configuration
says.
"""

from typing import Any

import torch
import transformers
from torch import nn
from transformers.pytorch_utils import Conv1D

from .modeling_agency import attach

CUT, AGENCY = "Cut", "Agency"
# The numbers in attention modules that follow from how many heads are left.
HEAD_NUMBERS = (
    "split_size",
    "num_heads",
    "num_attention_heads",
    "num_key_value_heads",
    "num_key_value_groups",
)


class LayerConfig:
    """A model's configuration as one layer sees it: some fields are its own, the rest is shared."""

    def __init__(self, shared: Any, own: dict[str, int]):
        self.__dict__["shared"], self.__dict__["own"] = shared, own

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "shared" not in self.__dict__:
            raise AttributeError(name)
        own = self.__dict__["own"]
        return own[name] if name in own else getattr(self.__dict__["shared"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__dict__["shared"], name, value)


def fit(module: nn.Module) -> None:
    """Let a linear layer say the size that its weight has."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, Conv1D):
        module.nx, module.nf = module.weight.shape


def reshape(model: nn.Module, reshaped: dict[str, Any]) -> None:
    """Give a model the sizes of `reshaped`; the values in what changes are lost.

    Args:
        model: as its configuration says, on any device, meta too.
        reshaped: `shapes`: parameter name -> its shape; `numbers`: module name -> {name: number}
            of `HEAD_NUMBERS`; `config`: module name -> {field: number} which this module alone
            reads instead of the configuration's.

    Raises:
        ValueError: a name that the model has not, or a size above the model's.
    """
    parameters, modules = dict(model.named_parameters()), dict(model.named_modules())
    for name, shape in reshaped.get("shapes", {}).items():
        parameter = parameters.get(name)
        if parameter is None:
            raise ValueError(f"reshaped: the model has no parameter {name!r}")
        if len(shape) != parameter.ndim or not all(
            type(size) is int and 0 < size <= full
            for size, full in zip(shape, parameter.shape, strict=True)
        ):
            raise ValueError(
                f"reshaped: {name!r} is {shape}, allowed is up to {list(parameter.shape)}"
            )
        parameter.data = torch.empty(shape, dtype=parameter.dtype, device=parameter.device)
        fit(modules[name.rpartition(".")[0]])
    for kind in ("numbers", "config"):
        for name, numbers in reshaped.get(kind, {}).items():
            if name not in modules:
                raise ValueError(f"reshaped: the model has no module {name!r}")
            for field, value in numbers.items():
                if field not in HEAD_NUMBERS or type(value) is not int or value < 1:
                    raise ValueError(f"reshaped: {name!r} has {field!r} = {value!r}")
            module = modules[name]
            if kind == "config":
                module.config = LayerConfig(module.config, dict(numbers))
            else:
                for field, value in numbers.items():
                    setattr(module, field, value)


_classes: dict[str, type] = {}


def class_for(base: type, config: Any) -> type:
    """The class that builds `base`, of transformers, as a configuration says it.

    A subclass where the configuration has `reshaped` or `agency`, else `base` itself.
    """
    if getattr(config, "reshaped", None):
        return _built(CUT, base)
    return _built(AGENCY, base) if getattr(config, "agency", None) else base


def is_changed(config: Any) -> bool:
    """Whether a configuration says what transformers' own classes do not read."""
    return bool(getattr(config, "reshaped", None) or getattr(config, "agency", None))


def plain_class(model_class: type) -> type:
    """The class of transformers that one of ours is made from; any other as it is."""
    known = _classes.get(model_class.__name__)
    return model_class.__bases__[0] if known is model_class else model_class


def _built(prefix: str, base: type) -> type:
    name = prefix + base.__name__
    if name not in _classes:

        def build(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
            base.__init__(self, config, *args, **kwargs)  # type: ignore[misc]
            if getattr(config, "reshaped", None):
                reshape(self, config.reshaped)
            if getattr(config, "agency", None):
                attach(self, config.agency)

        fields = {"__init__": build, "__module__": __name__, "__qualname__": name}
        _classes[name] = type(name, (base,), fields)
    return _classes[name]


def __getattr__(name: str) -> Any:
    # `CutLlamaForCausalLM` is asked for by name: by transformers' Auto classes and by pickle.
    for prefix in (CUT, AGENCY):
        base = getattr(transformers, name.removeprefix(prefix), None)
        if name.startswith(prefix) and isinstance(base, type):
            return _built(prefix, base)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
