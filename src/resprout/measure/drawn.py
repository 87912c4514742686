"""What a bootstrap over held-out text draws: documents, where they are told apart, else windows.

Windows of one document are alike: of Python files the losses of neighbouring windows correlate by
0.6 and more, over dozens of windows. Drawn one by one as if they were independent they give
intervals several times too narrow for the question that is asked, which is about other text of the
kind. So windows are added up by document (cluster bootstrap; Davison and Hinkley 1997, section 3.8)
and the documents are drawn. Of a single document nothing else can be drawn than its windows: such
an interval speaks of that document alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

DOCUMENTS = "window_documents"  # in a record's loss: which document each window is of


def owners(windows: Sequence[tuple[int, int, int]], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """(W,) the document of each window: that of its middle predicted token.

    Args:
        windows: (start, inputs, predicted) each; the last `predicted` tokens behind `start` + 1 ..
            `start` + `inputs` are predicted.
        ends: (D,) where each document ends in the stream, its end of text included.
    """
    middles = [start + inputs - (predicted - 1) // 2 for start, inputs, predicted in windows]
    found = np.searchsorted(ends, np.array(middles, dtype=np.int64), side="right")
    return np.minimum(found, len(ends) - 1)


def by_document(values: ArrayLike, documents: Sequence[int] | None) -> NDArray[Any]:
    """Sums over the windows of each document, (..., D) of (..., W); as given where there is one.

    Args:
        values: per window, along the last axis.
        documents: (W,) of each window, any whole numbers; None = not known (older records).
    """
    array = np.asarray(values)
    if documents is None:
        return array
    labels, place = np.unique(np.asarray(documents), return_inverse=True)
    if len(labels) < 2:
        return array
    sums = np.zeros((*array.shape[:-1], len(labels)), dtype=array.dtype)
    np.add.at(np.moveaxis(sums, -1, 0), place, np.moveaxis(array, -1, 0))
    return sums


def drawn(loss: Mapping[str, Any], measure: Mapping[str, Any] | None = None) -> NDArray[Any]:
    """(D,) summed nats of what is drawn, from a record's loss.

    Args:
        loss: the record's measure `loss`.
        measure: another over the same windows, such as the loss before recovery; default `loss`.
    """
    return by_document((measure or loss)["window_nats"], loss.get(DOCUMENTS))


def drawn_tokens(loss: Mapping[str, Any]) -> NDArray[Any]:
    """(D,) predicted tokens of what is drawn, from a record's loss."""
    return by_document(loss["window_tokens"], loss.get(DOCUMENTS))


def what_is_drawn(documents: Sequence[int] | None, windows: int) -> str:
    """In words, for a protocol: `30 documents`, or `12 windows`."""
    count = 0 if documents is None else len(np.unique(np.asarray(documents)))
    return f"{count:,} documents" if count > 1 else f"{windows:,} windows"
