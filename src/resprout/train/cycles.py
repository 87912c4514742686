"""`prune_and_recover`: a cut in one go, along a ramp, or in cycles of cutting and recovering."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from transformers import PreTrainedModel

from resprout.data.tokens import TokenSet
from resprout.files import read_json, write_json, writing
from resprout.pruning.api import prune, windows_for
from resprout.pruning.cut import Cut
from resprout.pruning.options import read_options
from resprout.pruning.request import read_request
from resprout.refusals import check_seed
from resprout.train.checkpoints import (
    WEIGHTS,
    last_complete,
    mark_complete,
    read_weights,
    write_weights,
)
from resprout.train.masks import masks_digest
from resprout.train.processes import process_count
from resprout.train.recovery import Recovery, check_recovery, recover
from resprout.train.schedules import Schedule, check_growing, check_growth
from resprout.train.trainer import TrainingResult
from resprout.train.work_folder import remove_work, work_in

Told = Callable[[TrainingResult], None]

# Beside the outcome of a cycle: of each recovery up to it, what `_DID` names of its result.
_RECOVERIES = "recoveries.json"
_DID = ("losses", "tokens", "seconds")


def _untold(result: TrainingResult) -> None:
    pass


def prune_and_recover(
    model: PreTrainedModel,
    method: str,
    amount: float,
    tokens: str | Path | TokenSet | ArrayLike,
    steps: int,
    *,
    schedule: Schedule = "one-shot",
    cycles: int = 1,
    prune_options: Mapping[str, Any] | None = None,
    previous: Cut | None = None,
    seed: int = 0,
    work_folder: str | Path | None = None,
    keep_work: bool = False,
    told: Told = _untold,
    **recovery: Any,
) -> Cut:
    """Cut a model by masks and train it, in place.

    With `cycles` K, cycle k cuts to amount * k / K, on the weights as the cycles before left them,
    and recovers with all masks held (Han et al. 2015, section 3, "iterative pruning"). Each
    recovery runs the whole schedule of the learning rate again (Renda, Frankle and Carbin 2020,
    "learning rate rewinding") on windows in an order of its own. With a schedule other than
    `one-shot` the cut grows within one recovery (`gradual.amount_at`).

    Args:
        model: in fp32, on its device.
        method: of `prune`.
        amount: fraction of the prunable weights to cut in the end, 0 to 1.
        tokens: as in `recover`.
        steps: optimiser steps in all; a K-th of them in each cycle, the remainder in the last.
        schedule: `one-shot`, `linear` or `cubic`.
        cycles: K, 1 or more; more than one only with `one-shot`.
        prune_options: further arguments of `prune`, masks only: a removal comes afterwards, from
            the last cut. Calibration text is read once.
        previous: a cut that the model already has, held from the first step.
        seed: of the order of the windows; cycles after the first derive theirs from it.
        work_folder: where checkpoints and the outcomes of finished cycles go. The same call on the
            same model then goes on where a killed one was; all is removed when all is done.
        keep_work: leave it there at the end too, as `recover` does.
        told: called with what each recovery did, in order; a cycle that was finished before a kill
            is told again.
        recovery: further arguments of `recover`.

    Returns:
        The last cut, whose masks are held. Those on the way to it are not in its history.

    Raises:
        ValueError: as `prune` and `recover`; cycles with a schedule; fewer steps than cycles; a
            pattern such as 2:4, whose amount cannot grow, with any of them.
        TypeError: `recovery` holds what `recover` has not, or `prune_options` what `prune` has not.
    """
    check_growth(schedule, cycles, steps)
    check_seed(seed)
    if cycles > 1 and work_folder is not None and process_count() > 1:
        raise ValueError(f"work_folder: got one for {cycles} cycles, allowed in one process only")
    grows = cycles > 1 or schedule != "one-shot"
    options, calibration = _prune_options(model, method, amount, dict(prune_options or {}), grows)

    def cut_to(model: PreTrainedModel, amount: float, before: Cut | None) -> Cut:
        before = before or previous
        earlier: dict[str, Any] = {} if before is None else {"previous": before}
        return prune(model, method, amount, **options, **earlier)

    ramp: dict[str, Any] = {}
    if schedule != "one-shot":
        ramp = {"schedule": schedule, "amount": amount, "recut": cut_to}
    more = {**recovery, **ramp}
    call = signature(recover).bind(
        model, None, tokens, steps // cycles, seed=seed, work_folder=work_folder,
        keep_work=keep_work, **more,
    )  # fmt: skip
    call.apply_defaults()
    checked = check_recovery(**call.arguments)
    if cycles == 1:
        # A ramp begins with nothing cut, or with what was cut before, which is held meanwhile.
        begin = None if ramp and previous is None else cut_to(model, 0.0 if ramp else amount, None)
        more |= {"seed": seed, "work_folder": work_folder, "keep_work": keep_work}
        result = recover(model, begin, tokens, steps, **more)
        told(result)
        assert result.cut is not None
        return _as_one(result.cut, previous)
    request = {
        "method": method, "amount": float(amount), "cycles": cycles, "steps": steps,
        "prune_options": {name: _plain(value) for name, value in options.items()},
        "calibration": calibration,
        "previous": None if previous is None else masks_digest(previous.masks),
    }  # fmt: skip
    with _place(checked, request) as place:
        begun, cut, did = _finished_cycles(model, place)
        for one in did:
            told(_result(one))
        for cycle in range(begun + 1, cycles + 1):
            last = cycle == cycles
            cut = cut_to(model, amount if last else amount * cycle / cycles, cut)
            own = steps // cycles + (steps % cycles if last else 0)
            more |= {"seed": _cycle_seed(seed, cycle)}
            if place is not None:
                more |= {"work_folder": place / f"cycle-{cycle}", "keep_work": True}
            result = recover(model, cut, tokens, own, **more)
            told(result)
            did.append({name: getattr(result, name) for name in _DID})
            if place is not None:
                _keep_cycle(model, cut, did, place, cycle)
    assert cut is not None
    return _as_one(cut, previous)


def _as_one(cut: Cut, previous: Cut | None) -> Cut:
    """The cut with the history that one step to it would have given it."""
    return replace(cut, earlier=previous.history() if previous is not None else [])


def _prune_options(
    model: PreTrainedModel, method: str, amount: float, options: dict[str, Any], grows: bool
) -> tuple[dict[str, Any], str | None]:
    """The options with their calibration text read, and its digest; all checked.

    Raises:
        ValueError, TypeError: see `prune_and_recover`.
    """
    for name in ("method", "amount", "previous"):
        if name in options:
            raise ValueError(f"prune_options: got {name!r}, which is not theirs to say")
    signature(prune).bind(model, method, amount, **options)
    known = signature(read_options).parameters
    own = {name: value for name, value in options.items() if name in known}
    request = read_request(model, method, amount, **own)
    if request.cut != "mask":
        raise ValueError(f"cut: got {request.cut!r}, allowed is mask; remove the units afterwards")
    if grows:
        check_growing(request.name, request.scope)
    tokenizer = options.pop("tokenizer", None)
    windows = windows_for(model, request, options.pop("calibration", None), tokenizer)
    if windows is None:
        return options, None
    return options | {"calibration": windows}, windows.digest


@contextmanager
def _place(checked: Recovery, request: dict[str, Any]) -> Iterator[Path | None]:
    """Where the outcomes of cycles go; None: nowhere."""
    if checked.folder is None:
        yield None
        return
    asked = checked.request
    with work_in(checked.folder, "cycles", lambda: asked() | request, checked.keep) as place:
        yield place


def _keep_cycle(
    model: PreTrainedModel, cut: Cut, did: list[dict[str, Any]], place: Path, cycle: int
) -> None:
    """Write what a cycle came to, then remove its checkpoints and what the one before came to."""
    with writing(f"the outcome of cycle {cycle}"):
        folder = place / f"checkpoint-{cycle}"
        folder.mkdir(parents=True)
        write_weights(model.state_dict(), folder / WEIGHTS)
        cut.save(folder)
        write_json(folder / _RECOVERIES, did)
        mark_complete(folder)
    remove_work(place / f"cycle-{cycle}")
    remove_work(place / f"checkpoint-{cycle - 1}")


def _finished_cycles(
    model: PreTrainedModel, place: Path | None
) -> tuple[int, Cut | None, list[dict[str, Any]]]:
    """What a killed run finished: the last cycle, its cut, and what each recovery did.

    The weights of that cycle are put into the model.
    """
    found = last_complete(place) if place is not None else None
    if place is None or found is None:
        return 0, None, []
    read_weights(model, found / WEIGHTS)
    cycle = int(found.name.rpartition("-")[2])
    remove_work(place / f"cycle-{cycle}")  # where the kill came before that
    noted = found / _RECOVERIES
    did = read_json(noted) if noted.is_file() else []  # an earlier version noted nothing
    return cycle, Cut.load(found), did


def _result(did: dict[str, Any]) -> TrainingResult:
    """What is still known of a recovery of an earlier process."""
    losses = [(step, loss) for step, loss in did["losses"]]
    return TrainingResult(losses, did["tokens"], did["seconds"])


def _cycle_seed(seed: int, cycle: int) -> int:
    """The first cycle's is `seed`: one cycle is as no cycles; others are unlike any small seed."""
    if cycle == 1:
        return seed
    return int(np.random.SeedSequence((seed, cycle)).generate_state(1)[0])


def _plain(value: Any) -> Any:
    """As JSON holds it; of other things only what they are."""
    plain = value is None or isinstance(value, str | int | float | bool)
    return value if plain else type(value).__name__
