"""Training curves: the losses of one or more pre-training runs along the tokens they were shown."""

from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from resprout.record import TrainingFile, read_checked
from resprout.report.charts import COLOURS, MARKERS, STYLE

HISTORY = "training.json"


@dataclass(frozen=True)
class Training:
    """One run: millions of tokens and nats per token, in training and on the held-out windows."""

    name: str
    tokens: NDArray[np.float64]
    losses: NDArray[np.float64]
    validation_tokens: NDArray[np.float64]
    validation: NDArray[np.float64]


def read_training(folder: Path) -> Training:
    """The history of a run's folder.

    Raises:
        ValueError: it has none (yet), or one that is damaged.
    """
    path = folder / HISTORY
    if not path.is_file():
        raise ValueError(
            f"run: {str(folder)!r} has no {HISTORY}; allowed is a folder of a training"
        )
    values = read_checked(path, TrainingFile)
    losses, validation = (
        np.array(values[kind], dtype=np.float64).reshape(-1, 2) for kind in ("losses", "validation")
    )
    millions = values["tokens_per_step"] / 1e6
    name = values["name"] if values["finished"] else f"{values['name']} (so far)"
    return Training(
        name, losses[:, 0] * millions, losses[:, 1], validation[:, 0] * millions, validation[:, 1]
    )


def training_curves(runs: list[Training]) -> tuple[Figure, Axes]:
    """Held-out loss (marked) over the training loss (faint; a mean over the steps between)."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.add_subplot()
    names = [run.name for run in runs]
    for i, run in enumerate(runs):
        colour = COLOURS[i % len(COLOURS)]
        label = run.name if names.count(run.name) == 1 else f"{run.name} {i + 1}"
        axes.plot(run.tokens, run.losses, color=colour, alpha=0.35, linewidth=1)
        axes.plot(
            run.validation_tokens,
            run.validation,
            color=colour,
            marker=MARKERS[i % len(MARKERS)],
            markersize=4,
            label=f"{label}: held-out (faint: training)",
        )
    axes.set_xlabel("training tokens (millions)")
    axes.set_ylabel("loss (nats per token)")
    axes.set_title("Training")
    axes.legend()
    return figure, axes
