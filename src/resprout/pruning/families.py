"""Which units a family of models has, by what its configuration calls itself. No torch."""

from typing import Any

from resprout.pruning.amounts import Kind, plural

_GLU: tuple[Kind, ...] = ("head", "glu_neuron", "layer")
_MLP: tuple[Kind, ...] = ("head", "mlp_neuron", "layer")

# `model_type` -> the units above the weight; the adapter of the same name finds them in a model.
KINDS: dict[str, tuple[Kind, ...]] = {
    "dendritic_biogpt": ("branch", "neuron", "layer"),
    "gpt2": _MLP,
    "gpt_neox": _MLP,
    "opt": _MLP,
    "phi3": _GLU,
    "llama": _GLU,
    "mistral": _GLU,
    "qwen2": _GLU,
    "qwen3": _GLU,
    "gemma": _GLU,
    "gemma2": _GLU,
    "gemma3_text": _GLU,
    "smollm3": _GLU,
}


def check_kind(kind: Kind, model_type: str) -> None:
    """Refuse units that a family has not, or of which nobody knows here where they are.

    Raises:
        ValueError: naming the family and the units that it has.
    """
    own = KINDS.get(model_type, ())
    if kind in own:
        return
    known = ", ".join(plural(k) for k in own)
    has = f"its units are weights, {known}" if known else "only its weights can be cut"
    raise ValueError(
        f"method: a model of the family {model_type} has no {plural(kind)} that are known here; "
        f"{has}"
    )


def check_dead_unit(unit: str, model_type: str) -> Kind:
    """The unit that can die, by its name.

    Raises:
        ValueError: the family has none of that name.
    """
    allowed = [kind for kind in KINDS.get(model_type, ()) if kind != "layer"]
    for kind in allowed:
        if kind == unit:
            return kind
    raise ValueError(
        f"dead_unit: got {unit!r}, allowed are {', '.join(allowed) or 'none in this family'}"
    )


def check_not_quantised(settings: Any) -> None:
    """Refuse weights that are codes rather than numbers.

    Args:
        settings: a configuration's `quantization_config`; None = not quantised.

    Raises:
        ValueError: naming the way in which they are quantised.
    """
    if settings is None:
        return
    plain = settings if isinstance(settings, dict) else settings.to_dict()
    way = plain.get("quant_method", "unknown way")
    raise ValueError(
        f"model: its weights are quantised ({getattr(way, 'value', way)}); allowed is a model in "
        "fp32, bf16 or fp16"
    )
