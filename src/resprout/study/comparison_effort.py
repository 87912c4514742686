"""How much a comparison does of what its published flags do not say."""

from collections.abc import Sequence
from dataclasses import dataclass

from resprout.data.sources import Document, is_held_out

_SHARES = 10_000  # held-out shares are tried in steps of one ten-thousandth


@dataclass(frozen=True)
class Effort:
    """How much is done of what the published flags do not say.

    Attributes:
        growing_steps: of 8 windows, for a size that is grown here.
        vocabulary: of the tokenizer trained for it; None = the size's own.
        batch_windows: of adaptation and recovery of a grown size,
        trained_batch_windows: of a model that was trained before.
        held_out_characters: at least so many are held out for the perplexity of a grown size,
        trained_held_out_characters: of a model that was trained before, which is usually larger.
        repeats: timed runs.
        calibration_windows: on which agency observes a model's heads.
        scored_windows: on which the methods that need text score heads.
    """

    growing_steps: int = 400
    vocabulary: int | None = None
    batch_windows: int = 8
    trained_batch_windows: int = 4
    held_out_characters: int = 100_000
    trained_held_out_characters: int = 10_000
    repeats: int = 5
    warmup: int = 2
    calibration_windows: int = 32
    scored_windows: int = 32


FULL = Effort()
# Of the test on a CPU, and of that with --debug.
QUICK = Effort(60, 1024, 4, 1, 20_000, 600, 2, 1, 4, 8)
DEBUG = Effort(20, 1024, 2, 1, 5_000, 500, 1, 1, 4, 8)


def held_out_share(documents: Sequence[Document], characters: int) -> float:
    """The smallest share whose held-out documents have so many characters, and leave others.

    Perplexity on a whole held-out split would take a large model many minutes.

    Raises:
        ValueError: there are no two documents that a share divides.
    """

    def held(share: int) -> int:
        return sum(
            len(document.text)
            for document in documents
            if is_held_out(document.name, share / _SHARES)
        )

    total = held(_SHARES)
    enough, too_few = _SHARES, 0
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        if held(middle) >= min(characters, total // 2):
            enough = middle
        else:
            too_few = middle
    while enough > 1 and held(enough) == total:  # one long document: what lies before it
        enough -= 1
    if not 0 < held(enough) < total:
        raise ValueError(
            f"data: {len(documents)} documents cannot be divided into training and held-out text; "
            "allowed are several files"
        )
    return enough / _SHARES
