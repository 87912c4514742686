"""How probable a model's texts are to another model: the reference, usually the uncut subject.

What loops is probable to a good reference too; what is no language is not. Shapes: B texts, T
tokens, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from resprout.data.tokenizer import same_encoding
from resprout.measure.scoring import batch_size, token_nats
from resprout.measure.text.writing import Text
from resprout.models.positions import position_limit
from resprout.models.quiet import quiet_transformers


@dataclass(frozen=True)
class Reference:
    """The model that judges, on its device, its own tokenizer, and what it is called."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str


class Scored(NamedTuple):
    """Summed cross-entropy of a continuation in nats, over so many of the reference's tokens."""

    nats: float
    tokens: int


def same_tokens(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Whether two tokenizers give every text the same tokens."""
    if one is other:
        return True
    inner = [getattr(tokenizer, "backend_tokenizer", None) for tokenizer in (one, other)]
    return inner[0] is not None and inner[1] is not None and same_encoding(inner[0], inner[1])


@torch.inference_mode()
def score(
    reference: Reference, tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text]
) -> list[Scored]:
    """The cross-entropy of each continuation given its prompt.

    Where the tokenizers are the same, the tokens are those that were written. Else prompt and
    continuation are tokenised together for the reference, and its tokens from the first one that
    differs from the prompt's own count. Of a text that is longer than the reference's context, the
    last part is scored.

    Args:
        reference: put in evaluation mode here.
        tokenizer: the one that the texts were written with.
        texts: as written.

    Returns:
        One for each text; no token where nothing was written.

    Raises:
        FloatingPointError: the reference's loss is not finite.
    """
    reference.model.eval()
    limit = position_limit(reference.model.config)
    same = same_tokens(tokenizer, reference.tokenizer)
    spans = []  # (ids, where the continuation starts in them)
    with quiet_transformers():
        for text in texts:
            if same:
                ids, start = text.prompt_ids + text.ids, len(text.prompt_ids)
            else:
                ids, start = _tokenise(reference.tokenizer, text)
            if limit is not None and len(ids) > limit + 1:  # the last one is only predicted
                start, ids = start - (len(ids) - limit - 1), ids[-limit - 1 :]
            spans.append((ids, max(start, 1)))
    scored = [Scored(0.0, 0)] * len(texts)
    order = sorted(
        (i for i, (ids, start) in enumerate(spans) if len(ids) > start),
        key=lambda i: -len(spans[i][0]),
    )
    V = int(reference.model.get_input_embeddings().weight.shape[0])
    while order:
        rows = batch_size(V, len(spans[order[0]][0]), len(order))
        chosen, order = order[:rows], order[rows:]
        for i, nats in zip(chosen, _nats(reference, [spans[i] for i in chosen]), strict=True):
            scored[i] = Scored(nats, len(spans[i][0]) - spans[i][1])
    return scored


def _tokenise(tokenizer: PreTrainedTokenizerBase, text: Text) -> tuple[list[int], int]:
    """Prompt and continuation in the reference's tokens, and the first that is not the prompt's."""
    alone = list(tokenizer(text.prompt.text).input_ids)
    ids = list(tokenizer(text.prompt.text + text.text).input_ids)
    shared = next(
        (at for at, (a, b) in enumerate(zip(alone, ids, strict=False)) if a != b),
        min(len(alone), len(ids)),
    )
    return ids, shared


def _nats(reference: Reference, spans: list[tuple[list[int], int]]) -> list[float]:
    """Summed cross-entropy of each row from its start on; padding stands behind, unseen."""
    T = max(len(ids) for ids, _ in spans) - 1
    inputs = torch.tensor([ids[:-1] + [0] * (T + 1 - len(ids)) for ids, _ in spans])  # (B, T)
    targets = torch.tensor(
        [[-100] * (start - 1) + ids[start:] + [-100] * (T + 1 - len(ids)) for ids, start in spans]
    )  # (B, T), -100 = not counted
    device = reference.model.device
    logits = reference.model(input_ids=inputs.to(device), use_cache=False).logits
    losses = token_nats(logits.flatten(0, 1), targets.to(device).flatten())
    nats = losses.view(len(spans), T).double().cpu().sum(-1)
    if not bool(nats.isfinite().all()):
        raise FloatingPointError(f"the loss of the reference {reference.name!r} is not finite")
    return [float(value) for value in nats]
