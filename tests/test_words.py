"""Remembered words give the library's own tokens, whatever the text."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers

from resprout.data import words as words_module
from resprout.data.encoder import Encoder
from resprout.data.tokenizer import train_bpe
from resprout.data.words import Words

SAMPLE = [
    "def words(x_1):\n    return 'it''s' + x  # naïve, they're 12 34\n\n\tdone; 你好 über"
] * 3


def plain() -> Tokenizer:
    tokenizer = train_bpe(SAMPLE, 330)
    tokenizer.encode_special_tokens = True
    return tokenizer


def like_neox() -> Tokenizer:
    """NFC, and runs of spaces as added tokens, as GPT-NeoX's tokenizer has them."""
    tokenizer = plain()
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_tokens([AddedToken(" " * n, normalized=True) for n in range(2, 9)])
    return tokenizer


TOKENIZERS = {"plain": plain(), "like_neox": like_neox()}
PARTS = ["'s", "'re", "'", " ", "  ", "     ", "\n", "\t", "\r\n", "\x1c", "\x85", "\xa0", "_", "1",
         "word", "The", "é", "e\u0301", "ß", "你好", "🙂", "²", "\u2003", "a b", "x\ny",
         "<|endoftext|>"]  # fmt: skip
texts = st.lists(st.sampled_from(PARTS) | st.characters(exclude_categories=["Cs"])).map("".join)


@pytest.mark.parametrize("kind", ["plain", pytest.param("like_neox", marks=pytest.mark.slow)])
@given(given_texts=st.lists(texts, min_size=1, max_size=4))
def test_the_same_as_the_library(kind, given_texts):
    tokenizer = TOKENIZERS[kind]
    words = Words.of(tokenizer, "H")
    assert words is not None
    encodings = tokenizer.encode_batch(given_texts, add_special_tokens=False)
    for _ in range(2):  # new words, then known ones
        found = words.encode(given_texts)
        assert [array("H", ids).tolist() for ids in found] == [e.ids for e in encodings]


def test_memory_stays_flat(monkeypatch):
    monkeypatch.setattr(words_module, "REMEMBERED_WORDS", 100)
    words = Words.of(TOKENIZERS["plain"], "H")
    text = " ".join(f"word{i}" for i in range(300)) + " " + "x" * 1000
    expected = array("H", TOKENIZERS["plain"].encode(text).ids).tobytes()
    assert [words.encode([text]) for _ in range(3)] == [[expected]] * 3
    assert max(map(len, words.known)) <= words_module.LONGEST_REMEMBERED


def test_other_tokenizers_are_left_to_the_library():
    def changed(change):
        tokenizer = plain()
        change(tokenizer)
        return Words.of(tokenizer, "H")

    def prefixed(tokenizer):
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)

    def lower(tokenizer):
        tokenizer.normalizer = normalizers.Lowercase()

    def other_words(tokenizer):
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.ByteLevel()])

    def spaced(tokenizer):
        tokenizer.add_tokens([AddedToken("New York")])

    def stripping(tokenizer):
        tokenizer.add_tokens([AddedToken("xyz", lstrip=True)])

    for change in (prefixed, lower, other_words, spaced, stripping):
        assert changed(change) is None, change
    assert changed(lambda tokenizer: None) is not None


def test_many_cores_are_the_librarys(monkeypatch):
    from resprout.data import encoder

    monkeypatch.setattr(encoder, "usable_cores", lambda: 64)
    assert Encoder(TOKENIZERS["plain"], 0).words is None
    monkeypatch.setattr(encoder, "usable_cores", lambda: 2)
    assert Encoder(TOKENIZERS["plain"], 0).words is not None
