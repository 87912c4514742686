"""The options of `resprout eval` as what they mean; what does not belong together is refused."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from resprout.cli.generate import refuse_missing
from resprout.measure.names import read_measures

if TYPE_CHECKING:
    from resprout.study.evaluation_asked import Asked

_WORKLOADS = ("batches", "prompt_tokens", "new_tokens", "repeats", "warmup", "compile")
# Which options belong to which measure.
_OF = {
    "loss": ("held_out", "window", "stride", "precision"),
    "tasks": ("tasks", "limit", "shots", "batch_size"),
    "speed": _WORKLOADS,
    "text": ("prompts", "text_tokens", "temperature", "top_k", "seeds"),
    "energy": (*_WORKLOADS, "idle_seconds"),
}
_LISTS = ("batches", "prompt_tokens", "new_tokens", "seeds")


def asked_of(given: dict[str, Any]) -> "Asked":
    """What a command line asks for.

    Raises:
        ValueError: an unknown measure, an option of a measure that is not asked for, a list that
            is none.
    """
    measures = read_measures(given.pop("measures"), given["tasks"])
    for option in {name for names in _OF.values() for name in names}:
        owners = [measure for measure, names in _OF.items() if option in names]
        if given.get(option) is not None and not set(owners) & set(measures):
            raise ValueError(
                f"{option}: got {given[option]!r}, but it belongs to {' and '.join(owners)}, and "
                f"the measures are {', '.join(measures)}"
            )
    for name in _LISTS:
        if given[name] is not None:
            given[name] = _whole_numbers(name, given[name])
    given["models"] = tuple(given["models"])
    for model in given["models"]:
        refuse_missing(model)

    from resprout.measure.energy.options import EnergyOptions
    from resprout.measure.loss_options import LossOptions
    from resprout.measure.speed.options import SpeedOptions
    from resprout.measure.text.options import TextOptions
    from resprout.measure.text.prompts import prompt_set, read_prompts
    from resprout.study.evaluation_asked import Asked

    def taken(*names: str) -> dict[str, Any]:
        """Those that were given, out of the rest."""
        values = {name: given.pop(name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    speed = SpeedOptions(**taken(*_WORKLOADS))
    loss = LossOptions(**taken("window", "stride", "precision"))
    energy = EnergyOptions(**taken("idle_seconds"))
    texts = taken(*_OF["text"])
    if "text_tokens" in texts:
        texts["new_tokens"] = texts.pop("text_tokens")
    if "prompts" in texts:
        named = texts["prompts"]
        is_file = Path(named).suffix in (".json", ".yaml", ".yml")
        texts["prompts"] = read_prompts(Path(named)) if is_file else prompt_set(named)
    return Asked(
        measures=measures, loss=loss, speed=speed, text=TextOptions(**texts), energy=energy, **given
    )


def _whole_numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise ValueError(
            f"{name}: got {text!r}, allowed are whole numbers, comma-separated"
        ) from None
