"""One cut of one subject, from a model to a folder: loaded, cut, recovered, saved."""

import copy
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from resprout.measure.stage import bytes_in_use, stage
from resprout.models.quiet import quiet_transformers
from resprout.models.subject import load
from resprout.pruning.api import prune, remove
from resprout.pruning.saving import save
from resprout.pruning.statistics import Progress
from resprout.study.cut_figures import Figures, figures_of, folder_bytes
from resprout.study.cut_plan import Plan
from resprout.study.cut_work import cut_work, training_place
from resprout.train.cycles import prune_and_recover
from resprout.train.recovery import recover
from resprout.train.trainer import TrainingResult
from resprout.train.work_folder import training_stage

FIGURES = "prune.json"


def carry_out(plan: Plan, progress: Progress) -> Figures:
    """Load, cut, recover and save.

    A recovery that was killed goes on where it was when the same is asked again; its checkpoints
    stay until the folder is there.

    Args:
        plan: what `plan_cut` made.
        progress: of the cut, where it is not part of a training.

    Returns:
        What stands in the folder's `prune.json`, and the bytes of the whole folder.

    Raises:
        ValueError: weights that cannot be loaded or are NaN; checkpoints of another request;
            another process works on the same folder.
        FloatingPointError: the recovery diverged.
        WriteError: the folder cannot be written.
    """
    with cut_work(plan.asked) as folder:
        figures = _carry_out(plan, progress, folder)
    return figures | {"bytes": figures["bytes"] | folder_bytes(plan.asked.out)}


def _carry_out(plan: Plan, progress: Progress, out: Path) -> Figures:
    """The same into `out`; what stands in its `prune.json`."""
    asked, request = plan.asked, plan.request
    stages: dict[str, Any] = {}
    trained: list[TrainingResult] = []
    with quiet_transformers():
        model, tokenizer = load(asked.model, asked.revision, plan.device, asked.dtype)
        stored = model.dtype
        teacher = None
        if plan.recovery is not None:
            model.float()  # an optimiser's small steps are lost in bf16
            teacher = copy.deepcopy(model) if asked.distill else None
        _touch(model)
        at_rest = bytes_in_use(plan.device)
        options: dict[str, Any] = asked.cut_options() | {"calibration": plan.windows}
        more = asked.recovery_options() | {"teacher": teacher, "keep_work": True}
        if asked.grows:
            assert request.amount is not None and plan.tokens is not None and asked.recover_steps
            with _recovering(plan, stages, "cut_and_recovery"):
                cut = prune_and_recover(
                    model, asked.method, request.amount, plan.tokens, asked.recover_steps,
                    schedule=asked.schedule or "one-shot",  # type: ignore[arg-type]
                    cycles=asked.cycles or 1,
                    prune_options=options | {"cut": "mask", "expansion_rate": None},
                    previous=plan.previous, told=trained.append, **more,
                )  # fmt: skip
            if request.cut == "remove" and (request.method.unit != "weight" or cut.dead_units):
                cut = remove(model, cut)
        else:
            with stage(stages, "cut", plan.device):
                cut = prune(
                    model, asked.method, asked.amount, previous=plan.previous, progress=progress,
                    **options,
                )  # fmt: skip
            if plan.tokens is not None and asked.recover_steps:
                with _recovering(plan, stages, "recovery"):
                    trained.append(recover(model, cut, plan.tokens, asked.recover_steps, **more))
        del teacher
        model.to(stored)
        figures = figures_of(plan, model, cut)
        figures["stages"] = stages
        figures["extra_peak_bytes"] = _extra(stages, at_rest)
        figures["recovery"] = _of_recovery(plan, trained)

        def record(folder: Path) -> dict[str, Any]:
            figures["bytes"] |= folder_bytes(folder)
            return {FIGURES: figures}

        save(
            model, cut, out, tokenizer,
            sparse=asked.sparse, portable=asked.portable, extra=record,
        )  # fmt: skip
    return figures


def _recovering(plan: Plan, stages: dict[str, Any], name: str) -> AbstractContextManager[None]:
    """The stage in which the model is trained."""
    place = training_place(plan.asked)
    assert place is not None
    return training_stage(stages, name, plan.device, place)


def _touch(model: PreTrainedModel) -> None:
    """Have all weights in memory: files are mapped, and would be counted as the cut's own."""
    for parameter in model.parameters():
        if parameter.device.type == "cpu" and parameter.is_contiguous():
            parameter.detach().view(-1)[:: 4096 // parameter.element_size()].sum()


def _extra(stages: dict[str, Any], at_rest: int | None) -> int | None:
    """Bytes above the model at the peak of the first stage; None where the system does not tell."""
    first = next(iter(stages.values()))
    if at_rest is None or first["memory"] == "process since start":
        return None
    return max(0, int(first["peak_bytes"]) - at_rest)


def _of_recovery(plan: Plan, trained: list[TrainingResult]) -> dict[str, Any] | None:
    """How it was recovered and what came of it."""
    if plan.recovery is None or plan.tokens is None:
        return None
    asked = plan.asked
    losses = [loss for result in trained for _, loss in result.losses]
    return {
        **plan.recovery.options.identity(),
        "steps": asked.recover_steps,
        "window": plan.recovery.window,
        "schedule": asked.schedule or "one-shot",
        "cycles": asked.cycles or 1,
        "distilled": asked.distill,
        "tokens_digest": plan.tokens.digest,
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
    }
