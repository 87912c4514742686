"""Degradation curves: losses of a subject under a method, by level, seed and held-out document."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resprout.measure.drawn import drawn, drawn_tokens
from resprout.measure.statistics import (
    RESAMPLES,
    Estimate,
    Floats,
    effective_number,
    from_resamples,
    kept_weights,
    weighted_mean,
)
from resprout.report.series import Series, series_of, whole_grid

Record = dict[str, Any]


@dataclass(frozen=True)
class Curve:
    """One subject under one method.

    Attributes:
        label: the subject's name, with the method's, the protocol's and the run's where there are
            several.
        subject, method: their names; the method's with what sets it apart from its like.
        protocol: by which rules it was cut and recovered.
        run: which of several runs, else empty.
        amounts: (L,) requested, increasing.
        achieved: (L,) mean over seeds.
        surviving: (L,) mean surviving parameters.
        non_embedding: (L,) the same without embeddings and head; None where a record lacks it.
        flops: (L,) mean FLOPs per token, weights at zero left out; None where a record lacks it.
        flops_context_tokens: in a context of so many tokens; None with `flops`.
        nats: (L, S, W) summed loss per level, seed and held-out document (or window, where the
            records do not tell documents apart: `measure.drawn`).
        before: the same before recovery, or None where it was not measured or nothing recovered.
        sizes: (W,) tokens of each.
        windows: tokens of each window, of which the documents are made up.
        tokens: digest of the tokens: curves on the same tokens are compared window by window.
        bits_per_nat: bits per byte for each nat per token.
        records: what it was made from, per level one of each seed.
        borrowed: whether the uncut records are another method's, whose uncut model is the same.
        left_out: (amount, seed) of the records that have no place in it: other levels lack the
            seed, or other seeds the level.
    """

    label: str
    subject: str
    method: str
    protocol: str
    run: str
    amounts: Floats
    achieved: Floats
    surviving: Floats
    non_embedding: Floats | None
    flops: Floats | None
    flops_context_tokens: int | None
    nats: Floats
    before: Floats | None
    sizes: NDArray[np.int64]
    windows: tuple[int, ...] = field(repr=False)
    tokens: str
    bits_per_nat: float
    records: list[list[Record]] = field(repr=False)
    borrowed: bool = False
    left_out: tuple[tuple[float, int], ...] = ()

    @property
    def seeds(self) -> int:
        """How many training runs."""
        return int(self.nats.shape[1])

    def losses(self, weights: Floats, nats: Floats | None = None) -> Floats:
        """Nats per token per resample and level, (R, L)."""
        levels = self.nats if nats is None else nats
        return np.stack([weighted_mean(level, self.sizes, weights) for level in levels], axis=1)

    def weights(self, seed: int = 0, resamples: int = RESAMPLES) -> Floats:
        """Bootstrap weights of this curve's seeds and documents, (R, S, W)."""
        effective = effective_number(self.sizes)
        return kept_weights(self.seeds, len(self.sizes), resamples, seed, effective)

    def resampled(self, nats: Floats | None = None) -> Floats:
        """(1 + R, L): nats per token of the data itself, then of each resample."""
        weights = self.weights()
        plain = np.ones((1, *weights.shape[1:]))
        return np.concatenate([self.losses(plain, nats), self.losses(weights, nats)])

    def estimates(self, nats: Floats | None = None) -> list[Estimate]:
        """Nats per token with interval, one per level."""
        return [from_resamples(level) for level in self.resampled(nats).T]


def curves(records: Sequence[Record]) -> list[Curve]:
    """The curves of a run (or several), in the order of the records; see `whole_grid`."""
    all_series = series_of(records)
    several = {
        name: len({getattr(series, name) for series in all_series}) > 1
        for name in ("method", "protocol", "run")
    }
    if not several["method"]:
        several["method"] = any(series.variant for series in all_series)
    return [_curve(series, several) for series in all_series]


def _curve(series: Series, several: dict[str, bool]) -> Curve:
    """Of the levels and seeds that keep most points without a gap."""
    whole, seeds = whole_grid({level: set(own) for level, own in series.points.items()})
    left_out = tuple(
        (amount, seed)
        for amount in series.levels
        for seed in series.seeds_at(amount)
        if amount not in whole or seed not in seeds
    )
    table = [series.records(amount, seeds) for amount in whole]
    _check_windows(table)
    loss = table[0][0]["measures"]["loss"]
    contexts = {r["parameters"].get("flops_context_tokens") for row in table for r in row}
    context = contexts.pop() if len(contexts) == 1 else None
    # Where nothing was recovered the loss before is the same loss.
    measured_before = any(r.get("recovered", True) for row in table for r in row) and all(
        "window_nats" in r["measures"].get("loss_before_recovery", {}) for row in table for r in row
    )
    names = {"method": series.named_method, "protocol": series.protocol, "run": series.run}
    return Curve(
        label=", ".join([series.subject, *(name for key, name in names.items() if several[key])]),
        subject=series.subject,
        method=series.named_method,
        protocol=series.protocol,
        run=series.run,
        amounts=np.array(whole),
        achieved=np.array([[r["achieved"] for r in row] for row in table]).mean(1),
        surviving=np.array([[r["parameters"]["surviving"] for r in row] for row in table]).mean(1),
        non_embedding=_sizes(table, "non_embedding"),
        flops=None if context is None else _sizes(table, "effective_flops_per_token"),
        flops_context_tokens=context,
        nats=_drawn_nats(table, "loss"),
        before=_drawn_nats(table, "loss_before_recovery") if measured_before else None,
        sizes=drawn_tokens(loss),
        windows=tuple(loss["window_tokens"]),
        tokens=table[0][0]["digests"]["tokens"],
        bits_per_nat=loss["tokens_per_byte"] / math.log(2),
        records=table,
        borrowed=series.borrowed,
        left_out=left_out,
    )


def _check_windows(table: list[list[Record]]) -> None:
    first = table[0][0]["measures"]["loss"]["window_tokens"]
    for record in (record for row in table for record in row):
        if record["measures"]["loss"]["window_tokens"] != first:
            raise ValueError(
                f"run: point {record.get('id')} was measured in other windows than the first of "
                "its curve; allowed are points of one study"
            )


def _drawn_nats(table: list[list[Record]], measure: str) -> Floats:
    """(L, S, W) summed loss of what intervals draw, of a loss measure."""
    found = [[(r["measures"]["loss"], r["measures"][measure]) for r in row] for row in table]
    return np.array([[drawn(loss, this) for loss, this in row] for row in found])


def _sizes(table: list[list[Record]], name: str) -> Floats | None:
    """(L,) a size per level, mean over seeds; None where any record has none (older ones)."""
    found = [[record["parameters"].get(name) for record in row] for row in table]
    if any(size is None for row in found for size in row):
        return None
    return np.array(found, dtype=np.float64).mean(1)
