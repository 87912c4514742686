"""The published figures of a study, to be laid over its measured curves; switched off at first."""

from collections.abc import Sequence
from typing import Any

from resprout.report.published import PublishedCurve, published_folder, read_published

# A word of a study's or a subject's name -> the published study that it is a version of.
_STUDIES = {"biogpt": "biogpt", "glu": "glu_width_llama", "agency": "agency"}
_LOSSES = {"nats_per_token": "nats", "perplexity": "perplexity"}


def published_overlay(names: Sequence[str], first_colour: int) -> list[dict[str, Any]]:
    """Published curves as `plot_data` has curves, with `published` and their `source`.

    Args:
        names: of the runs' studies and of their subjects.
        first_colour: the number of the first colour that no measured curve has.

    Returns:
        Those of the studies that the names speak of; none where the repository's
        `results/published` is not at hand, as in an installed package.
    """
    if published_folder() is None:
        return []
    words = {word for name in names for word in name.replace("_", "-").lower().split("-")}
    studies = dict.fromkeys(study for word, study in _STUDIES.items() if word in words)
    merged: dict[str, dict[str, Any]] = {}
    for study in studies:
        for curve in read_published(study).published_curves:
            # A subject's tables stand apart where it was printed so; they are one curve here.
            own = merged.setdefault(curve.subject, _curve(curve, first_colour + len(merged)))
            own["y"] |= _values(curve)
    return list(merged.values())


def _curve(curve: PublishedCurve, colour: int) -> dict[str, Any]:
    x: dict[str, list[float]] = {"amount": [100 * amount for amount in curve.amounts]}
    if curve.surviving is not None:
        x["surviving"] = list(curve.surviving)
    return {
        "label": f"{curve.subject}, published",
        "subject": curve.subject,
        "published": True,
        "source": curve.source,
        "colour": colour,
        "dash": 2,
        "x": x,
        "y": {},
    }


def _values(curve: PublishedCurve) -> dict[str, Any]:
    absent = [None] * len(curve.amounts)  # no interval was published
    return {
        _LOSSES.get(name, f"task {name}"): {"value": list(values), "low": absent, "high": absent}
        for name, values in curve.figures.items()
    }
