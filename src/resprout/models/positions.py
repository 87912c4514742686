"""How long a text a model can read."""

from transformers import PreTrainedConfig


def position_limit(config: PreTrainedConfig) -> int | None:
    """How many positions a model has; None where its configuration sets no limit."""
    limit = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
    return int(limit) if limit else None
