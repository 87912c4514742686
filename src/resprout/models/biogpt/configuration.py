"""Configuration of the dendritic BioGPT, as transformers wants it."""

from typing import Any

from transformers import PreTrainedConfig

from .layout import Entry, branches_of, cortical_layout, entry_of, feedback_pairs

NMDA_MODES = ("off", "trace")
START_VALUES = ("published", "scaled")
# Larger than any model, and products of them still fit a tensor's sizes: a number in a file can
# neither overflow these nor keep a machine busy for hours.
MOST_LAYERS = 4096
MOST_NEURONS = 4 * MOST_LAYERS  # of all layers
_MOST = 2**24
_MOST_TIMES = 1024  # of a width
_WHOLE_NUMBERS = {
    "vocab_size": _MOST,
    "hidden_size": _MOST,
    "num_hidden_layers": MOST_LAYERS,
    "max_position_embeddings": _MOST,
    "branch_expansion": _MOST_TIMES,
    "conv_kernel_size": _MOST,
}
_RANGES = (
    ("soma_expansion", 0, _MOST_TIMES),
    ("dropout", 0, 1),
    ("layer_norm_eps", 0, 1),
)


class BioGPTConfig(PreTrainedConfig):
    """All that determines a BioGPT's shape. The defaults are the published 294 M model.

    Args:
        vocab_size: V, rows of the token embedding and of the (untied) head.
        hidden_size: D, model width; every plain branch count must divide it.
        num_hidden_layers: L, cortical layers.
        max_position_embeddings: longest context, in tokens.
        soma_expansion: width of the soma FFN as a multiple of D.
        branch_expansion: width of the per-branch FFN as a multiple of the branch's width.
        conv_kernel_size: how many positions (this one and earlier) the temporal convolution sees.
        dropout: probability used inside the soma FFN while training.
        n_passes: 1, or 2 to run the layers again on gated feedback from the late zone.
        nmda: `off` (as published: the decays are carried, and unused) or `trace` (values are
            enriched by an exponentially decaying trace of earlier ones).
        init: start values of a new model: `published`, or `scaled`, which learn faster.
        cortical_layout: an entry per neuron per layer: a branch count n, for branches of width
            D / n, or a pair `[n, d]`, for n branches of any width d. A pair with n * d = D becomes
            the plain count. None = the published rule.
        feedback_pairs: [source layer, target layer] pairs; None = the published rule.

    Raises:
        ValueError: a field out of range; the message names the field and its value.
    """

    # transformers has an unrelated `biogpt` (Microsoft's biomedical GPT): ours has its own name.
    model_type = "dendritic_biogpt"
    keys_to_ignore_at_inference = ("past_key_values",)
    # The published program's names are understood too.
    attribute_map = {  # noqa: RUF012
        "d_model": "hidden_size",
        "n_layers": "num_hidden_layers",
        "max_seq_len": "max_position_embeddings",
        "soma_ffn_expansion": "soma_expansion",
    }

    vocab_size: int = 50304
    hidden_size: int = 768
    num_hidden_layers: int = 12
    max_position_embeddings: int = 1024
    soma_expansion: float | int = 3.0
    branch_expansion: int = 2
    conv_kernel_size: int = 5
    dropout: float | int = 0.0
    n_passes: int = 1
    nmda: str = "off"
    init: str = "published"
    cortical_layout: list[list[Entry]] | None = None
    feedback_pairs: list[list[int]] | None = None
    layer_norm_eps: float = 1e-5
    use_cache: bool = True
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 0
    pad_token_id: int | None = None
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill in the layout and feedback rules, then refuse what cannot be built."""
        for alias, field in self.attribute_map.items():
            if alias in kwargs:  # else transformers would set it after all checks
                setattr(self, field, kwargs.pop(alias))
        for field, most in _WHOLE_NUMBERS.items():
            value = getattr(self, field)
            if not _is_count(value, most):
                raise ValueError(
                    f"{field}: got {_shown(value)}, allowed is a whole number above 0, up to {most}"
                )
        for field, low, high in _RANGES:
            value = getattr(self, field)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not low <= value < high:
                raise ValueError(
                    f"{field}: got {_shown(value)}, allowed is a number from {low} up to (not "
                    f"with) {high}"
                )
        if self.soma_width < 1:
            raise ValueError(
                f"soma_expansion: got {self.soma_expansion!r}, allowed is at least "
                f"1/hidden_size = {1 / self.hidden_size:.4g}"
            )
        if not _is_count(self.n_passes, 2):
            raise ValueError(f"n_passes: got {_shown(self.n_passes)}, allowed are 1 and 2")
        for field, allowed in (("nmda", NMDA_MODES), ("init", START_VALUES)):
            if (value := getattr(self, field)) not in allowed:
                raise ValueError(f"{field}: got {_shown(value)}, allowed are {', '.join(allowed)}")
        if self.cortical_layout is None:
            self.cortical_layout = cortical_layout(self.hidden_size, self.num_hidden_layers)
        if self.feedback_pairs is None:
            self.feedback_pairs = feedback_pairs(self.num_hidden_layers)
        self.cortical_layout = _lists(self.cortical_layout)
        self.feedback_pairs = _lists(self.feedback_pairs)
        self._check_layout(self.cortical_layout)
        self._check_feedback(self.feedback_pairs)
        D = self.hidden_size
        self.cortical_layout = [
            [entry_of(*branches_of(entry, D), D) for entry in entries]
            for entries in self.cortical_layout
        ]
        super().__post_init__(**kwargs)

    @property
    def soma_width(self) -> int:
        """Hidden width of the soma FFN."""
        return int(self.soma_expansion * self.hidden_size)

    def _check_layout(self, layout: list[list[Entry]]) -> None:
        if not isinstance(layout, list) or not all(isinstance(row, list) for row in layout):
            raise ValueError(
                f"cortical_layout: got {_shown(layout)}, allowed is a list of branch counts or "
                "pairs [branches, width] per layer"
            )
        if len(layout) != self.num_hidden_layers:
            raise ValueError(
                f"cortical_layout: got {len(layout)} layers, allowed is one list for each of the "
                f"num_hidden_layers={self.num_hidden_layers}"
            )
        if (neurons := sum(map(len, layout))) > MOST_NEURONS:
            raise ValueError(
                f"cortical_layout: got {neurons} neurons, allowed are up to {MOST_NEURONS}"
            )
        for layer, entries in enumerate(layout):
            if not entries:
                raise ValueError(f"cortical_layout: layer {layer} has no neuron, needs at least 1")
            for entry in entries:
                if isinstance(entry, list):
                    pair = len(entry) == 2 and all(map(_is_count, entry))
                    if not pair or entry[0] * entry[1] > _MOST:
                        raise ValueError(
                            f"cortical_layout: layer {layer} has a neuron of {_shown(entry)}, "
                            "allowed is a pair [branches, width] of whole numbers above 0, whose "
                            f"product is up to {_MOST}"
                        )
                elif not _is_count(entry) or self.hidden_size % entry:
                    raise ValueError(
                        f"cortical_layout: layer {layer} has a neuron of {_shown(entry)} branches, "
                        f"allowed are divisors of hidden_size={self.hidden_size} and pairs "
                        "[branches, width]"
                    )

    def _check_feedback(self, pairs: list[list[int]]) -> None:
        if not isinstance(pairs, list):
            raise ValueError(f"feedback_pairs: got {_shown(pairs)}, allowed is a list of pairs")
        for pair in pairs:
            fits = isinstance(pair, list) and len(pair) == 2
            fits = fits and all(type(end) is int for end in pair)
            if not fits or not 0 <= pair[1] < pair[0] < self.num_hidden_layers:
                raise ValueError(
                    f"feedback_pairs: got {_shown(pair)}, allowed is [source, target] with "
                    f"0 <= target < source < num_hidden_layers={self.num_hidden_layers}"
                )
        if len({tuple(pair) for pair in pairs}) != len(pairs):
            raise ValueError(f"feedback_pairs: got {_shown(pairs)}, allowed is each pair once")


def _is_count(value: Any, most: int = _MOST) -> bool:
    """Whether this is a whole number above 0, and no larger than that."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most


def _shown(value: Any) -> str:
    """A value in few words; Python has none for a whole number of thousands of digits."""
    try:
        words = repr(value)
    except ValueError:
        return f"{type(value).__name__} beyond words"
    return words if len(words) <= 200 else f"{words[:200]}..."


def _lists(value: Any) -> Any:
    """Tuples of tuples as lists of lists, as they come back from a saved configuration."""
    return [_lists(part) for part in value] if isinstance(value, list | tuple) else value
