"""Byte-level BPE by remembered words: each distinct word is encoded once, then looked up.

BPE works within words (pre-tokens) alone, and text repeats its words, so nearly all of it is one
regular expression and a dictionary away. Words that are new go to `tokenizers`; so does whatever
stands around a letter beyond ASCII, where Python's idea of a letter might not be the library's.
"""

import json
import random
import re
import string
import threading
from array import array
from itertools import chain

from tokenizers import Tokenizer

# GPT-2's pre-tokenizer (Radford et al. 2019, as `ByteLevel` has it), for ASCII.
SPACE = r" \t\n\r\f\v"
ASCII_WORDS = re.compile(
    rf"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^{SPACE}A-Za-z0-9]+|"
    rf"[{SPACE}]+(?![^{SPACE}])|[{SPACE}]+"
)
BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")
# Here a word ends in any case, so a text may be taken apart.
BETWEEN_WORDS = re.compile(r"(?<=[A-Za-z0-9])[ \n](?=[A-Za-z0-9])")
REMEMBERED_WORDS = 400_000  # some 80 MB
LONGEST_REMEMBERED = 48


class Words:
    """What a tokenizer makes of the words seen so far."""

    def __init__(self, tokenizer: Tokenizer, typecode: str, added: list[str]):
        """Args: `typecode`: of an id in `array`; `added`: texts that are cut out before words."""
        self.tokenizer = tokenizer
        self.typecode = typecode
        literal = "|".join(re.escape(word) for word in sorted(added, key=len, reverse=True))
        self.added = re.compile(f"({literal})") if added else None
        self.known: dict[str, bytes] = {}
        self.lock = threading.Lock()

    @classmethod
    def of(cls, tokenizer: Tokenizer, typecode: str) -> "Words | None":
        """For a tokenizer that works as said above; None for any other.

        Its parts are read from its own JSON, and the outcome is compared with the library's on
        text that has every neighbourhood of ASCII characters which the expression tells apart.
        """
        described = json.loads(tokenizer.to_str())
        before = described["pre_tokenizer"] or {}
        plain = before.get("type") == "ByteLevel" and not before.get("add_prefix_space")
        normal = (described["normalizer"] or {}).get("type", "NFC") == "NFC"
        model = described["model"]
        exact = model.get("type") == "BPE" and not model.get("dropout")
        # Special ones are plain text here (`encode_special_tokens`).
        added = [word for word in described["added_tokens"] if not word["special"]]
        if not (plain and before.get("use_regex", True) and normal and exact):
            return None
        if any(word[flag] for word in added for flag in ("lstrip", "rstrip", "single_word")):
            return None
        contents = [word["content"] for word in added]
        if any(not text.isascii() or BETWEEN_WORDS.search(text) for text in contents):
            return None
        words = cls(tokenizer, typecode, contents)
        probes = _probes(contents)
        encodings = tokenizer.encode_batch_fast(probes, add_special_tokens=False)
        expected = [array(typecode, encoding.ids).tobytes() for encoding in encodings]
        return words if words.encode(probes) == expected else None

    def encode(self, texts: list[str]) -> list[bytes]:
        """The ids of each text, as the bytes of an array."""
        taken_apart = [self._words(text) for text in texts]
        with self.lock:
            known = self.known
            if len(known) > REMEMBERED_WORDS:
                known.clear()
            new = list(set(chain.from_iterable(taken_apart)).difference(known))
            encodings = self.tokenizer.encode_batch_fast(new, add_special_tokens=False)
            for word, encoding in zip(new, encodings, strict=True):
                known[word] = array(self.typecode, encoding.ids).tobytes()
            found = [b"".join(map(known.__getitem__, words)) for words in taken_apart]
            for word in new:
                if len(word) > LONGEST_REMEMBERED:
                    del known[word]
        return found

    def _words(self, text: str) -> list[str]:
        """The text in words, and in stretches around what is not ASCII."""
        if text.isascii():
            return self._ascii_words(text)
        words: list[str] = []
        at = 0
        while beyond := BEYOND_ASCII.search(text, at):
            start = _last_between_words(text, at, beyond.start())
            after = BETWEEN_WORDS.search(text, beyond.end())
            end = after.start() if after else len(text)
            words += self._ascii_words(text[at:start])
            words.append(text[start:end])
            at = end
        return words + self._ascii_words(text[at:])

    def _ascii_words(self, text: str) -> list[str]:
        if self.added is None:
            return ASCII_WORDS.findall(text)
        words: list[str] = []
        for number, part in enumerate(self.added.split(text)):
            if number % 2:
                words.append(part)
            elif part:
                words += ASCII_WORDS.findall(part)
        return words


def _last_between_words(text: str, at: int, end: int) -> int:
    """The last place before `end` where the text may be taken apart; `at` where there is none."""
    place = end
    while (place := text.rfind(" ", at + 1, place)) > 0:
        if BETWEEN_WORDS.match(text, place):
            return place
    return at


def _probes(added: list[str]) -> list[str]:
    """Random ASCII, dense in what words end at."""
    draw = random.Random(0)
    parts = ["'s", "'re", "'ll", "'", " ", "  ", "\n", "\t", "\r\n", "\v\f", "\x1c", "\x00", "\x7f",
             "_", "12", "3", "word", "The", "it", *string.ascii_letters, *string.punctuation,
             *map(chr, range(32)), *added]  # fmt: skip
    texts = ["".join(draw.choices(parts, k=40)) for _ in range(200)]
    return [*texts, *(f"{text[:40]} end é über {text[40:]} 你好 {text[:9]}" for text in texts)]
