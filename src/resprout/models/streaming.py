"""Text from tokens as they come: never half a character, and in all exactly the whole text."""

from collections.abc import Callable

from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.generation import BaseStreamer

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class PieceStreamer(BaseStreamer):
    """Hands each new piece of text to `emit`; what is given to `put` first is the prompt.

    Tokens whose bytes do not yet make whole characters wait for the next ones. New tokens are
    decoded after the piece before them (the first after the whole prompt), as what a token reads
    like can depend on its neighbour: some tokenizers drop the space at the start of a text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, emit: Callable[[str], None]):
        self.tokenizer = tokenizer
        self.emit = emit
        self.ids: list[int] = []
        self.start = 0  # of the piece before; always the start of a character
        self.read = -1  # up to here it has been emitted; -1 = the prompt has not come yet

    def put(self, value: Tensor) -> None:
        """Take the prompt, (1, T), or new tokens, (n,)."""
        self.ids += value.flatten().tolist()
        if self.read < 0:
            self.read = len(self.ids)
            return
        before = self._decode(self.ids[self.start : self.read])
        now = self._decode(self.ids[self.start :])
        if len(now) > len(before) and not now.endswith(_UNFINISHED):
            self.emit(now[len(before) :])
            self.start, self.read = self.read, len(self.ids)

    def end(self) -> None:
        """Emit what is left: the text ends with half a character."""
        before = self._decode(self.ids[self.start : self.read])
        if rest := self._decode(self.ids[self.start :])[len(before) :]:
            self.emit(rest)
        self.read = len(self.ids)

    def _decode(self, ids: list[int]) -> str:
        text = self.tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return str(text)
