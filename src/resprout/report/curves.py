"""Degradation curves: the losses of a subject under a method, level by level, window by window."""

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resprout.measure.statistics import (
    RESAMPLES,
    Estimate,
    Floats,
    estimate,
    resampling_weights,
    weighted_mean,
)

Record = dict[str, Any]


@dataclass(frozen=True)
class Curve:
    """One subject under one method.

    Attributes:
        label: the subject's name, with the method's where the run has several.
        subject, method: their names.
        amounts: (L,) requested, increasing.
        achieved: (L,) mean over seeds.
        surviving: (L,) mean surviving parameters.
        non_embedding: (L,) the same without embeddings and head; None where a record lacks it.
        flops: (L,) mean FLOPs per token, weights at zero left out; None where a record lacks it.
        flops_context_tokens: in a context of so many tokens; None with `flops`.
        nats: (L, S, W) summed loss per level, seed and held-out window.
        before: the same before recovery, or None where it was not measured.
        sizes: (W,) tokens per window.
        tokens: digest of the tokens: curves on the same tokens are compared window by window.
        bits_per_nat: bits per byte for each nat per token.
    """

    label: str
    subject: str
    method: str
    amounts: Floats
    achieved: Floats
    surviving: Floats
    non_embedding: Floats | None
    flops: Floats | None
    flops_context_tokens: int | None
    nats: Floats
    before: Floats | None
    sizes: NDArray[np.int64]
    tokens: str
    bits_per_nat: float

    @property
    def seeds(self) -> int:
        """How many training runs."""
        return int(self.nats.shape[1])

    def losses(self, weights: Floats, nats: Floats | None = None) -> Floats:
        """Nats per token per resample and level, (R, L)."""
        levels = self.nats if nats is None else nats
        return np.stack([weighted_mean(level, self.sizes, weights) for level in levels], axis=1)

    def weights(self, seed: int = 0, resamples: int = RESAMPLES) -> Floats:
        """Bootstrap weights of this curve's seeds and windows, (R, S, W)."""
        return resampling_weights(self.seeds, len(self.sizes), resamples, seed)

    def estimates(self, nats: Floats | None = None) -> list[Estimate]:
        """Nats per token with interval, one per level."""
        weights = self.weights()
        levels = self.nats if nats is None else nats
        return [estimate(partial(weighted_mean, level, self.sizes), weights) for level in levels]


def curves(records: list[Record]) -> list[Curve]:
    """The curves of a run, subjects in the run's order; levels that all seeds have."""
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        groups[record["subject"], record["method"]].append(record)
    several_methods = len({method for _, method in groups}) > 1
    found = []
    for (subject, method), members in groups.items():
        seeds = sorted({record["seed"] for record in members})
        levels: dict[float, dict[int, Record]] = defaultdict(dict)
        for record in members:
            levels[record["amount"]][record["seed"]] = record
        whole = [amount for amount in sorted(levels) if len(levels[amount]) == len(seeds)]
        if not whole:
            continue
        table = [[levels[amount][seed] for seed in seeds] for amount in whole]
        loss = table[0][0]["measures"]["loss"]
        contexts = {r["parameters"].get("flops_context_tokens") for row in table for r in row}
        context = contexts.pop() if len(contexts) == 1 else None
        found.append(
            Curve(
                label=f"{subject}, {method}" if several_methods else subject,
                subject=subject,
                method=method,
                amounts=np.array(whole),
                achieved=np.array([[r["achieved"] for r in row] for row in table]).mean(1),
                surviving=np.array(
                    [[r["parameters"]["surviving"] for r in row] for row in table]
                ).mean(1),
                non_embedding=_sizes(table, "non_embedding"),
                flops=None if context is None else _sizes(table, "effective_flops_per_token"),
                flops_context_tokens=context,
                nats=_window_nats(table, "loss"),
                before=_window_nats(table, "loss_before_recovery")
                if all(
                    "window_nats" in r["measures"].get("loss_before_recovery", {})
                    for row in table
                    for r in row
                )
                else None,
                sizes=np.array(loss["window_tokens"]),
                tokens=table[0][0]["digests"]["tokens"],
                bits_per_nat=loss["tokens_per_byte"] / math.log(2),
            )
        )
    return found


def _window_nats(table: list[list[Record]], measure: str) -> Floats:
    return np.array([[r["measures"][measure]["window_nats"] for r in row] for row in table])


def _sizes(table: list[list[Record]], name: str) -> Floats | None:
    """(L,) a size per level, mean over seeds; None where any record has none (older ones)."""
    found = [[record["parameters"].get(name) for record in row] for row in table]
    if any(size is None for row in found for size in row):
        return None
    return np.array(found, dtype=np.float64).mean(1)
