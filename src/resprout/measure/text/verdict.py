"""What a text looks like to a reader, by stated thresholds: fine, repetitive or collapsed.

Judged on the text itself, not on tokens, so that subjects with different tokenizers are judged
alike. A *piece* is a word, a number or a single other character.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from resprout.measure.text.repetition import repetition_n

FINE = "no visible degradation"
REPETITIVE = "repetitive"
COLLAPSED = "collapsed"
VERDICTS = (FINE, REPETITIVE, COLLAPSED)  # from best to worst

_PIECE = re.compile(r"[^\W_]+|[^\w\s]|_")
_WORD = re.compile(r"[^\W\d_]{2,}")
_CONSONANTS = re.compile(r"[b-df-hj-np-tv-xzB-DF-HJ-NP-TV-XZ]{5,}")
_NO_TEXT = "\N{REPLACEMENT CHARACTER}"
_STUTTER = re.compile(r"(.{1,40}?)\1{3,}")


@dataclass(frozen=True)
class Thresholds:
    """Where one verdict ends and the next begins.

    The shares of good text were counted on Python's own library: 1,580 stretches of 400 characters
    of code, and 1,343 of 250 of prose (its help pages and common licences). Those of bad text, and
    the ratio, come from a small language model of children's stories (260 thousand parameters)
    whose smallest weights were cut away, 0 to 90 % in steps of ten.

    Attributes:
        repetition_3: repetitive from this share of pieces in threes that stood there before.
            Of the prose, 99 % lie below 0.23 (250 characters) or 0.32 (500).
        repetition_3_code: the same in code, which repeats by its nature: 99.5 % lie below 0.61.
        repetition_3_collapsed: collapsed from here on; 120 pieces that say the same 17 over and
            over reach it. No stretch of prose or code but tables did.
        stutter: repetitive from this share of characters in something short that stands there four
            times in a row or more. Of the code, 99.5 % lie below 0.17 (rulers and tables).
        stuck: collapsed from this share in stutters of less than two words, or of eight repeats or
            more. At 70 % and more of its weights, most greedy texts of the stories' model had more.
        letters: collapsed below this share of letters and digits among all that is not space.
            Of the code, 99.5 % lie above 0.55; tables of symbols go down to 0.15.
        undecodable: collapsed from this share of signs that stand for bytes that are no UTF-8; the
            last ones do not count, which a text's end may have cut.
        consonants: collapsed from this share of Latin letters in rows of five consonants or more.
            Of code, 99.9 % lie below, of prose too; of letters drawn at random 95 % above.
        perplexity_ratio: collapsed from so many times the perplexity of the uncut subject's texts,
            both under the same reference. At 30 % the stories read oddly and had 2 times that, at
            40 % they were no language any more and had 12 times; words in random order have 20.
        level_share: a level, or a category, has the worst verdict that so many of its texts have,
            those with a worse one counted in.
        window_pieces: repetition is counted in stretches of about so many pieces and averaged,
            since it grows with length: a long text is judged as a short one is.
        shortest_pieces: fewer are too few to speak of repetition.
        shortest_characters: fewer are too few to speak of a share of letters, or of consonants.
    """

    repetition_3: float = 0.35
    repetition_3_code: float = 0.65
    repetition_3_collapsed: float = 0.85
    stutter: float = 0.2
    stuck: float = 0.5
    letters: float = 0.25
    undecodable: float = 0.05
    consonants: float = 0.15
    perplexity_ratio: float = 8.0
    level_share: float = 1 / 3
    window_pieces: int = 120
    shortest_pieces: int = 8
    shortest_characters: int = 20


@dataclass(frozen=True)
class Verdict:
    """One of `VERDICTS`, and the reason in a few words."""

    verdict: str
    why: str


def judge(
    text: str,
    code: bool = False,
    thresholds: Thresholds = Thresholds(),
    perplexity_ratio: float | None = None,
) -> Verdict:
    """What one continuation looks like.

    Args:
        text: the continuation, without its prompt.
        code: it was to be code.
        thresholds: where the verdicts begin.
        perplexity_ratio: the text's perplexity over that of the uncut subject's texts; None =
            not known, and then nonsense in good words is not seen.
    """
    limits = thresholds
    letters = letters_share(text)
    if letters is None or letters == 0:
        return Verdict(COLLAPSED, "nothing written" if letters is None else "no letter or digit")
    if letters < limits.letters and len("".join(text.split())) >= limits.shortest_characters:
        return Verdict(COLLAPSED, f"{letters:.0%} letters and digits")
    if (undecodable := undecodable_share(text)) >= limits.undecodable:
        return Verdict(COLLAPSED, f"{undecodable:.0%} is no text but bytes")
    stutter, stuck = stutter_shares(text)
    if stuck >= limits.stuck:
        return Verdict(COLLAPSED, f"{stuck:.0%} is something short, over and over")
    repetition = piece_repetition(text, limits.window_pieces, limits.shortest_pieces)
    if repetition >= limits.repetition_3_collapsed:
        return Verdict(COLLAPSED, f"{repetition:.0%} of its threes of words stood there before")
    consonants = consonant_share(text, limits.shortest_characters)
    if consonants >= limits.consonants:
        return Verdict(COLLAPSED, f"{consonants:.0%} of its letters are rows of consonants")
    if perplexity_ratio is not None and perplexity_ratio >= limits.perplexity_ratio:
        return Verdict(
            COLLAPSED, f"{perplexity_ratio:.3g} times the perplexity of the uncut subject's texts"
        )
    if repetition >= (limits.repetition_3_code if code else limits.repetition_3):
        return Verdict(REPETITIVE, f"{repetition:.0%} of its threes of words stood there before")
    if stutter >= limits.stutter:
        return Verdict(REPETITIVE, f"{stutter:.0%} stands there four times in a row or more")
    return Verdict(FINE, "below all thresholds")


def of_all(verdicts: Sequence[str], share: float) -> str:
    """The worst verdict that at least this share of the texts have, worse ones counted in."""
    assert verdicts
    ranks = [VERDICTS.index(verdict) for verdict in verdicts]
    for rank in range(len(VERDICTS) - 1, 0, -1):
        if sum(own >= rank for own in ranks) >= share * len(ranks) - 1e-9:
            return VERDICTS[rank]
    return FINE


def pieces(text: str) -> list[str]:
    """Words and numbers in lower case, and single other characters; no space."""
    return [piece.lower() for piece in _PIECE.findall(text)]


def letters_share(text: str) -> float | None:
    """Letters and digits among all that is not space; None where there is only space."""
    visible = "".join(text.split())
    return sum(map(str.isalnum, visible)) / len(visible) if visible else None


def undecodable_share(text: str) -> float:
    """Signs for bytes that are no UTF-8 among all that is not space; those at the end left out."""
    visible = "".join(text.split()).rstrip(_NO_TEXT)
    return visible.count(_NO_TEXT) / len(visible) if visible else 0.0


def consonant_share(text: str, fewest_letters: int) -> float:
    """Latin letters in rows of five consonants or more among all Latin letters without accents.

    0 where there are fewer letters than `fewest_letters`.
    """
    letters = sum(char.isascii() and char.isalpha() for char in text)
    if letters < fewest_letters:
        return 0.0
    return sum(len(row) for row in _CONSONANTS.findall(text)) / letters


def piece_repetition(text: str, window_pieces: int, shortest_pieces: int) -> float:
    """rep-3 over pieces (see `repetition_n`), the mean over equal stretches of the text."""
    found = pieces(text)
    if len(found) < max(3, shortest_pieces):
        return 0.0
    stretches = max(1, round(len(found) / window_pieces))
    cuts = [len(found) * i // stretches for i in range(stretches + 1)]
    parts = [found[a:b] for a, b in pairwise(cuts)]
    return repetition_n(parts, 3) or 0.0


def stutter_shares(text: str) -> tuple[float, float]:
    """Shares of the characters in stutters, and in those that a text is stuck in.

    A stutter is up to 40 characters, four times in a row or more, eight characters at least; stuck
    is one of less than two words, or of eight repeats or more. Space counts as one character.
    """
    flat = " ".join(text.split())
    stutter = stuck = 0
    for match in _STUTTER.finditer(flat):
        length, period = match.end() - match.start(), match[1]
        if length < 8:
            continue
        stutter += length
        if length >= 8 * len(period) or len(_WORD.findall(period)) < 2:
            stuck += length
    return (stutter / len(flat), stuck / len(flat)) if flat else (0.0, 0.0)
