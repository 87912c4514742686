"""The shape of a model to train from nothing: any known one, with the vocabulary of the data."""

from typing import Any

from transformers import GPT2Config, PreTrainedConfig

from resprout.hints import first_line
from resprout.models.biogpt import BioGPTConfig
from resprout.models.sizes import SIZES, configuration
from resprout.models.subject import load_configuration

_ONLY_BIOGPT = ("n_passes", "soma_ffn_expansion")


def training_configuration(
    name: str,
    vocab_size: int,
    revision: str | None = None,
    *,
    end_of_text: int,
    **changes: Any,
) -> PreTrainedConfig:
    """The configuration of a new model for given data.

    Its beginning and end of text are the data's. Its padding is None: windows have none, and
    families such as Llama never train the embedding of a token that is named as padding.

    Args:
        name: a size (`biogpt-294m`), `gpt2` (the published GPT-2 small, without asking the Hub),
            or a local folder, checkpoint or Hub id, of which only the configuration is read.
        vocab_size: V of the data's tokenizer.
        revision: of a Hub model.
        end_of_text: the id that ends a document.
        changes: `n_passes`, `soma_ffn_expansion` (both BioGPT's alone), `max_position_embeddings`;
            None = unchanged.

    Raises:
        ValueError: no such model; a change that the family has not, or refuses; a vocabulary
            without the end of text.
    """
    if not 0 <= end_of_text < vocab_size:
        raise ValueError(
            f"end_of_text: got {end_of_text}, allowed are 0 to vocab_size - 1 = {vocab_size - 1}"
        )
    config = _known_shape(name, revision)
    kind = config.model_type
    changes = {option: value for option, value in changes.items() if value is not None}
    positions = changes.get("max_position_embeddings", 1)
    if not isinstance(positions, int) or positions < 1:
        raise ValueError(
            f"max_position_embeddings: got {positions!r}, allowed is a whole number above 0"
        )
    for option in changes:
        if option in _ONLY_BIOGPT and not isinstance(config, BioGPTConfig):
            raise ValueError(
                f"{option}: got {changes[option]!r}, only a BioGPT has it, {name!r} is {kind}"
            )
    changes |= {
        "vocab_size": vocab_size,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "pad_token_id": None,
    }
    for option, value in changes.items():
        if not hasattr(config, option):
            raise ValueError(f"{option}: got {value!r}, {name!r} ({kind}) has no such field")
    own_names = type(config).attribute_map  # a family's own name for a field, e.g. `n_positions`
    fields = config.to_dict() | {own_names.get(key, key): value for key, value in changes.items()}
    fields.pop("published", None)  # what a checkpoint's own training reached
    try:
        return type(config).from_dict(fields)
    except Exception as error:  # transformers wraps some of its own around ours
        raise ValueError(f"model: {name!r}: {first_line(error)}") from error


def _known_shape(name: str, revision: str | None) -> PreTrainedConfig:
    if name == "gpt2":
        return GPT2Config()
    if name in SIZES:
        return configuration(name)
    try:
        return load_configuration(name, revision)
    except ValueError as error:
        raise ValueError(f"model: {str(error).removeprefix('subject: ')}") from error
