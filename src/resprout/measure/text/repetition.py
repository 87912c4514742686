"""How varied and how repetitive a text is. Pure functions of token ids and of strings.

T: tokens of a text. A *run* is a stretch that repeats one period of p tokens, the last time perhaps
not to its end: ids[i] == ids[i + p] all along it, at least two periods long.
"""

import zlib
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

# Below it zlib's own 11 bytes and its empty window count more than what repeats.
COMPRESSION_BYTES = 200
# What counts as looping, in tokens and in repeats of the period.
LOOP_TOKENS = 16
LOOP_REPEATS = 3


class Run(NamedTuple):
    """The longest stretch of one period.

    Attributes:
        tokens: covered by it, an unfinished last repeat too; 0 where nothing stands twice in a row.
        period: its shortest period, in tokens; 0 where there is no run.
    """

    tokens: int
    period: int

    @property
    def repeats(self) -> float:
        """How often the period stands there."""
        return self.tokens / self.period if self.period else 0.0


def n_grams(ids: Sequence[Hashable], n: int) -> list[tuple[Hashable, ...]]:
    """All T - n + 1 runs of n neighbours, in order."""
    return [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]


def distinct_n(sequences: Sequence[Sequence[Hashable]], n: int) -> float | None:
    """Different n-grams over all n-grams of the sequences together (Li et al. 2016, distinct-n).

    It falls as there is more text, of whatever quality: compare equal amounts only. None where no
    sequence has n tokens.
    """
    grams = [gram for ids in sequences for gram in n_grams(ids, n)]
    return len(set(grams)) / len(grams) if grams else None


def repetition_n(sequences: Sequence[Sequence[Hashable]], n: int) -> float | None:
    """Mean over sequences of the share of n-grams already seen in the same sequence.

    seq-rep-n of Welleck et al. 2019 (section 6.1): 1 - different / all n-grams. None where no
    sequence has n tokens.
    """
    shares = []
    for ids in sequences:
        own = distinct_n([ids], n)
        if own is not None:
            shares.append(1 - own)
    return sum(shares) / len(shares) if shares else None


def distinct_without_each(groups: Sequence[Sequence[Sequence[Hashable]]], n: int) -> list[float]:
    """distinct-n of all groups of texts but one, for each group in turn (for a jackknife).

    Groups without n-grams of their own are left out, and so is a group that holds all there are.
    """
    counts = [Counter(gram for ids in texts for gram in n_grams(ids, n)) for texts in groups]
    holders = Counter(gram for own in counts for gram in own)
    total = sum(own.total() for own in counts)
    return [
        (len(holders) - sum(1 for gram in own if holders[gram] == 1)) / (total - own.total())
        for own in counts
        if 0 < own.total() < total
    ]


def longest_run(ids: Sequence[Hashable]) -> Run:
    """The longest run; of equal ones that of the shortest period. O(T log T).

    Main and Lorentz 1984: halve the sequence; a run that crosses the middle has a whole period on
    its left or on its right, and how far it extends from there is a longest common prefix or
    suffix, which the Z function gives for all periods at once.
    """
    numbers: dict[Hashable, int] = {}
    values = [numbers.setdefault(token, len(numbers)) for token in ids]
    best = Run(0, 0)
    parts = [(0, len(values))]
    while parts:
        start, end = parts.pop()
        if end - start < max(2, best.tokens):
            continue  # nothing longer fits
        middle = (start + end) // 2
        left, right = values[start:middle], values[middle:end]
        best = _better(best, _across(left, right))
        parts += [(start, middle), (middle, end)] if end - start > 2 else []
    return best


def _across(left: list[int], right: list[int]) -> Run:
    """The longest run that crosses from `left` into `right`, or touches their border."""
    best = Run(0, 0)
    backwards = left[::-1]
    suffixes = z_function(backwards)  # of left with itself, p further to the left
    prefixes = z_function([*right, -1, *left, *right])
    for p in range(1, len(left) + 1):  # a period within left: compare with p places earlier
        after = prefixes[len(right) + 1 + len(left) - p] if right else 0
        tokens = p + (suffixes[p] if p < len(left) else 0) + min(after, len(right))
        if tokens >= 2 * p:
            best = _better(best, Run(tokens, p))
    own = z_function(right)
    before = z_function([*backwards, -1, *right[::-1], *backwards])
    for p in range(1, len(right) + 1):  # a period within right: compare with p places later
        back = before[len(left) + 1 + len(right) - p]
        tokens = p + (own[p] if p < len(right) else 0) + min(back, len(left))
        if tokens >= 2 * p:
            best = _better(best, Run(tokens, p))
    return best


def _better(one: Run, other: Run) -> Run:
    return min(one, other, key=lambda run: (-run.tokens, run.period))


def z_function(values: Sequence[Hashable]) -> list[int]:
    """For each place, how many values from there on equal those from the start. O(T).

    Gusfield 1997, section 1.4; the first is the whole length.
    """
    T = len(values)
    z = [T] + [0] * (T - 1) if T else []
    low = high = 0
    for i in range(1, T):
        length = min(high - i, z[i - low]) if i < high else 0
        while i + length < T and values[length] == values[i + length]:
            length += 1
        z[i] = length
        if i + length > high:
            low, high = i, i + length
    return z


def is_looping(
    ids: Sequence[Hashable], tokens: int = LOOP_TOKENS, repeats: float = LOOP_REPEATS
) -> bool:
    """Whether the last `tokens` or more are one period, `repeats` times or more. O(T)."""
    z = z_function(list(ids)[::-1])
    return any(
        p + z[p] >= max(tokens, repeats * p) for p in range(1, len(ids) // 2 + 1) if z[p] >= p
    )


def compression_ratio(text: str) -> float | None:
    """Bytes of the text in UTF-8 over those of its zlib stream at level 9.

    Prose of a few hundred bytes has 1.3 to 2, a loop far more. Short texts compress badly whatever
    they say: judge none under `COMPRESSION_BYTES`. None for no text.
    """
    raw = text.encode("utf-8", "surrogatepass")
    return len(raw) / len(zlib.compress(raw, 9)) if raw else None
