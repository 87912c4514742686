"""Pre-training as `resprout train` does it: train, and leave a model that others can load."""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from resprout.files import WriteError, new_folder, write_json, writing
from resprout.measure.stage import stage
from resprout.models.biogpt import BioGPTForCausalLM
from resprout.models.biogpt.published import write_published
from resprout.models.positions import position_limit
from resprout.models.quiet import quiet_transformers
from resprout.seals import sealed
from resprout.train.callbacks import AfterValidation, Lines, SaveByTime
from resprout.train.options import TrainingOptions
from resprout.train.plan import Plan, make_plan
from resprout.train.processes import is_first_process
from resprout.train.request import TrainRequest
from resprout.train.run_folder import HISTORY, RunFolder
from resprout.train.running import Running
from resprout.train.trainer import TrainingResult, losses_of, train

Say = Callable[[str], None]


def pretrain(request: TrainRequest, say: Say, notice: Say) -> None:
    """Do what `resprout train` was asked for.

    Args:
        request: what to train.
        say: told of progress and results.
        notice: told of what deserves attention.

    Raises:
        ValueError: the request cannot be fulfilled; before anything is written.
        FloatingPointError, MemoryError, WriteError: training cannot go on; the message says what is
            kept and what to change.
    """
    plan = make_plan(request)
    if request.timing_test:
        time_training(plan, say)
        return
    folder = RunFolder(request.out_dir)
    with folder.opened(plan.recipe, request.start_over):
        # Started over, no process finds an end: the first may be removing the old one just now.
        done = None if request.start_over else folder.history(plan.recipe, notice)
        if done is None:
            if request.resume and not any(folder.checkpoints.glob("checkpoint-*")):
                notice(f"{request.out_dir} holds no checkpoint to resume: starting anew")
            done = _train_into(plan, folder, say, notice)
        else:
            say(f"{request.out_dir} holds this run, finished")
        if is_first_process():
            _export_published(plan, folder, done)
            say(f"model: {folder.final}  {_summary(done)}")


def _train_into(plan: Plan, folder: RunFolder, say: Say, notice: Say) -> dict[str, Any]:
    request = plan.request
    model = plan.build()
    say(
        f"training {request.model}: {sum(p.numel() for p in model.parameters()):,} parameters, "
        f"{plan.steps:,} steps of {plan.tokens_per_step:,} tokens "
        f"({plan.precision} on {plan.device})"
    )
    running = plan.running(notice, keep_work=True)
    if is_first_process():
        folder.hold_checkpoints(plan.recipe, notice)

    def keep(log: list[dict[str, Any]]) -> None:
        with writing(str(folder.path / HISTORY)):
            write_json(folder.path / HISTORY, sealed(_history(plan, log)))

    callbacks = [Lines(say, steps=not sys.stdout.isatty()), AfterValidation(keep)]
    if plan.world == 1:  # processes have to save together, and clocks differ
        callbacks.append(SaveByTime(request.checkpoint_minutes * 60))
    try:
        result, cost = _trained(
            plan,
            model,
            plan.options(checkpoint_every=request.eval_interval),
            folder.checkpoints,
            replace(running, callbacks=tuple(callbacks)),
            validation=plan.validation,
            meter=plan.meter(),
            notice=notice,
        )
    except FloatingPointError as error:
        raise FloatingPointError(f"{error}; {_kept(folder)}; a lower --max_lr may help") from error
    except (MemoryError, WriteError) as error:
        raise type(error)(f"{error}; {_kept(folder)}") from error
    done = _history(plan, result.history, cost)
    if is_first_process():
        with writing(str(folder.final)):
            folder.published.unlink(missing_ok=True)  # an earlier model's
            _export(plan, folder, model, result)
            write_json(folder.path / HISTORY, sealed(done))
    return done


def _trained(
    plan: Plan,
    model: PreTrainedModel,
    options: TrainingOptions,
    work_folder: Path,
    running: Running,
    **watched: Any,
) -> tuple[TrainingResult, dict[str, Any]]:
    """Train the plan's model; what came out, and what it cost (see `stage`)."""
    stages: dict[str, Any] = {}
    try:
        with stage(stages, "train", plan.device):
            result = train(
                model,
                plan.tokens.train.tokens,
                plan.block_size,
                options,
                plan.request.seed,
                work_folder,
                plan.device,
                running=running,
                **watched,
            )
    except MemoryError as error:
        raise MemoryError(f"{error}: {_smaller(plan, running)}") from error
    return result, stages["train"]


def _export(plan: Plan, folder: RunFolder, model: PreTrainedModel, result: TrainingResult) -> None:
    with new_folder(folder.final, digests=True) as final, quiet_transformers():
        model.save_pretrained(final, state_dict=result.state)
        limit = position_limit(model.config)
        plan.tokens.transformers_tokenizer(limit).save_pretrained(final)


def _export_published(plan: Plan, folder: RunFolder, done: dict[str, Any]) -> None:
    """The published program's own form, from the finished model; made once."""
    if not plan.request.export_pt or folder.published.exists():
        return
    with quiet_transformers():
        model = BioGPTForCausalLM.from_pretrained(folder.final)
    model.config.published = {
        "step": done["steps"],
        "val_loss": done["validation"][-1][1],
        "tokens_processed": done["tokens"],
    }
    write_published(model, folder.published)


def _history(
    plan: Plan, log: list[dict[str, Any]], stage: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What `training.json` holds; `stage`: of the process that came to the end."""
    losses, validation = losses_of(log)
    return {
        "finished": stage is not None,
        "name": plan.request.model,
        "recipe": plan.recipe,
        "steps": plan.steps,
        "tokens_per_step": plan.tokens_per_step,
        "tokens": plan.steps * plan.tokens_per_step,
        "losses": losses,
        "validation": validation,
        "log": log,
        "stage": stage,
        "device": str(plan.device),
        "processes": plan.world,
    }


def _summary(done: dict[str, Any]) -> str:
    last = next(entry for entry in reversed(done["log"]) if "eval_loss" in entry)
    return (
        f"validation {last['eval_loss']:.4f} nats per token, "
        f"{last['eval_bits_per_byte']:.4f} bits per byte after {done['tokens']:,} tokens"
    )


def _kept(folder: RunFolder) -> str:
    found = sorted(folder.checkpoints.glob("checkpoint-*/complete.json"), key=_step)
    return f"last good checkpoint: {found[-1].parent if found else 'none yet'}"


def _step(marker: Path) -> int:
    return int(marker.parent.name.rpartition("-")[2])


def _smaller(plan: Plan, running: Running) -> str:
    """What to change where the memory is too small, the windows per step left as they are."""
    batch, accumulation = plan.request.batch_size, plan.request.grad_accum
    advice = []
    if batch > 1:
        half = batch // 2
        advice.append(f"--batch_size {half} --grad_accum {-(-batch * accumulation // half)}")
    if not running.gradient_checkpointing:
        advice.append("--gradient_checkpointing on")
    if not advice:
        advice.append("a shorter --block_size, or several devices with --sharding fsdp")
    return "try " + " or ".join(advice)


def time_training(plan: Plan, say: Say) -> None:
    """Train `timing_steps` steps and throw them away; says speed, memory and time to the target."""
    request = plan.request
    model = plan.build()
    meter = plan.meter()
    running = replace(plan.running(say), log_every=1)
    options = plan.options(steps=request.timing_steps)
    with tempfile.TemporaryDirectory(prefix="resprout-") as work:
        result, cost = _trained(plan, model, options, Path(work) / "timing", running, meter=meter)
    if not is_first_process():
        return
    # The first steps choose kernels, compile and fill the allocator.
    rates = [entry["tokens_per_second"] for entry in result.history if "loss" in entry]
    settled = sorted(rates[len(rates) // 5 or 1 :])
    rate = settled[len(settled) // 2]
    say(f"tokens/s: {rate:,.0f} (median of {len(settled)} steps; {plan.precision}, {plan.device})")
    if meter is not None and meter.flops_per_token is not None and meter.peak is not None:
        share = rate * meter.flops_per_token / meter.peak.flops_per_second
        say(
            f"MFU: {share:.1%} of {meter.peak.flops_per_second / 1e12:,.2f} TFLOP/s "
            f"({meter.peak.source})"
        )
    say(f"peak memory: {cost['peak_bytes'] / 1e9:.2f} GB ({cost['memory']})")
    left = _duration(request.target_tokens / rate)
    say(f"estimated time for {request.target_tokens:,} tokens: {left}")


def _duration(seconds: float) -> str:
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} seconds"
