"""Models spread over several GPUs by accelerate (`device_map`): to be read, not to be changed."""

from collections.abc import Mapping

import torch
from transformers import PreTrainedModel

from resprout.hints import did_you_mean

DeviceMap = str | Mapping[str, int | str]
# As accelerate has them: ways to share the layers out among the GPUs.
NAMED = ("auto", "balanced", "balanced_low_0", "sequential")


def check_device_map(device_map: DeviceMap, device: object) -> None:
    """Refuse what cannot be done here, before weights are read.

    Raises:
        ValueError: a device beside it; no such way; no GPU.
    """
    if device is not None:
        raise ValueError(f"device: got {str(device)!r} with a device_map, allowed is one of them")
    if not isinstance(device_map, str | Mapping):
        raise ValueError(
            f"device_map: got {device_map!r}, allowed are {', '.join(NAMED)}, or a mapping of "
            "modules to devices"
        )
    if isinstance(device_map, Mapping):
        for module, place in device_map.items():
            if not _is_place(place):
                raise ValueError(
                    f"device_map: got {place!r} for {module!r}, allowed is the number of a GPU, "
                    "'cpu', 'disk' or another torch device"
                )
    if isinstance(device_map, str):
        if device_map not in NAMED:
            raise ValueError(
                f"device_map: got {device_map!r}, allowed are {', '.join(NAMED)}, or a mapping of "
                f"modules to devices{did_you_mean(device_map, NAMED)}"
            )
        if not torch.cuda.is_available():
            raise ValueError(
                f"device_map: got {device_map!r}, allowed on a machine with a GPU; here is none"
            )


def _is_place(place: object) -> bool:
    if isinstance(place, int):
        return not isinstance(place, bool) and place >= 0
    try:
        torch.device(place)  # type: ignore[call-overload]
    except (RuntimeError, TypeError):
        return place == "disk"
    return True


def refuse_offloaded(model: PreTrainedModel, name: str) -> None:
    """Refuse a model part of which found no room: its weights would be read anew for each use.

    Raises:
        ValueError: naming how many modules.
    """
    missing = sorted({p.device.type for p in model.parameters()} & {"meta"})
    if missing:
        places = getattr(model, "hf_device_map", {})
        away = [module for module, place in places.items() if str(place) in ("cpu", "disk")]
        raise ValueError(
            f"device_map: {name!r} does not fit the GPUs: {len(away) or 'some'} of its modules "
            "would stay outside; allowed with more memory or fewer bytes per weight (dtype)"
        )


def devices_of(model: PreTrainedModel) -> list[torch.device]:
    """The devices on which its parameters are, each once, in order."""
    return list(dict.fromkeys(p.device for p in model.parameters()))


def refuse_spread(model: PreTrainedModel, doing: str) -> None:
    """Refuse what needs a whole model on one device.

    Raises:
        ValueError: it is spread over several.
    """
    found = devices_of(model)
    if len(found) > 1:
        raise ValueError(
            f"model: got one spread over {', '.join(map(str, found))}, allowed for {doing} is one "
            "on a single device (a spread model can be measured and can write)"
        )
