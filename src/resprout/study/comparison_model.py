"""The model of a comparison: whether it is to be had, and whether its heads can carry agency."""

import copy

from transformers import PreTrainedConfig

from resprout.models import agency
from resprout.models.description import skeleton
from resprout.models.names import SIZES
from resprout.models.subject import load_configuration, load_tokenizer
from resprout.study.comparison_early import check_at_hand


def find_model(name: str) -> PreTrainedConfig:
    """The configuration of a size, a local folder or a Hub model, which is to be had whole.

    Raises:
        ValueError: it is not to be had, has no tokenizer, or its attention is not registry-based.
    """
    check_at_hand(name)
    try:
        config = load_configuration(name)
        if name not in SIZES and load_tokenizer(name) is None:
            raise ValueError(f"{name!r} has no tokenizer")
        agency.enable(skeleton(copy.deepcopy(config)))
    except ValueError as error:
        said = str(error).removeprefix("subject: ").removeprefix("model: ")
        raise ValueError(f"model_name: {said}") from error
    return config
