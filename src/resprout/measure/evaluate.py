"""All measures of one model in memory, in one call: what Python users type."""

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from resprout.data.held_out import HeldOut, of_texts, read_held_out
from resprout.data.wikitext import NAME as WIKITEXT
from resprout.data.wikitext import read_wikitext
from resprout.measure.energy import EnergyOptions, measure_energy
from resprout.measure.figure import Measured
from resprout.measure.held_out_loss import measure_loss
from resprout.measure.loss_options import LossOptions
from resprout.measure.names import read_measures
from resprout.measure.speed import SpeedOptions, check_speed, measure_speed
from resprout.measure.tasks.plan import plan_tasks
from resprout.measure.tasks.request import TaskRequest
from resprout.measure.tasks.running import run_tasks
from resprout.measure.text import Reference, TextOptions, check_lengths, measure_text
from resprout.models.tokenizers import check_begin, check_vocabulary
from resprout.refusals import (
    check_callable,
    check_instance,
    check_language_model,
    check_loaded_tokenizer,
    check_path,
    shown,
)

_MODEL = "model"


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    measures: str | Sequence[str] | None = None,
    *,
    data: str | Path | Sequence[str] | HeldOut = "stdlib",
    loss: LossOptions | None = None,
    tasks: str | Sequence[str] | None = None,
    task_data: str | Path | None = None,
    limit: int | None = None,
    folder: str | Path | None = None,
    model_digest: str = "in memory",
    speed: SpeedOptions | None = None,
    text: TextOptions | None = None,
    reference: Reference | None = None,
    energy: EnergyOptions | None = None,
    notice: Callable[[str], None] = lambda line: None,
) -> dict[str, Measured]:
    """Measure a model; nothing but `folder` is written.

    Args:
        model: on its device, cut or not; it is left as it was.
        tokenizer: its own; speed and energy need none.
        measures: of `loss,tasks,speed,text,energy`; default `tasks` where tasks are named, else
            all others.
        data: held-out text of the loss: a list of texts, a source or prepared folder as
            `resprout.data.held_out.read_held_out` takes it, or `wikitext2` as lm-eval defines it.
        loss: windows and precision.
        tasks: `glu13` (default), `standard`, or lm-eval's names.
        task_data: a folder of the tasks' rows; default from the Hub.
        limit: the first so many items of each task.
        folder: where finished tasks and their items are kept, and found again under the same
            `model_digest`; default a temporary one.
        model_digest: names the weights to `folder`.
        speed: workloads and repeats, of the energy too.
        text: prompts and how they are continued.
        reference: a model that judges the texts, usually the uncut one.
        energy: for how long.
        notice: told what is done, in one line.

    Returns:
        By measure. Tasks that fail stand in its `details["failed"]`.

    Raises:
        ValueError: before anything costly: an unknown measure or task, data that is missing or
            malformed, a tokenizer that is not the model's, prompts beyond the context.
        FloatingPointError: a loss or logit is not a number.
    """
    check_language_model(model)
    check_loaded_tokenizer(tokenizer)
    for option, value, kind in (
        ("loss", loss, LossOptions),
        ("speed", speed, SpeedOptions),
        ("text", text, TextOptions),
        ("reference", reference, Reference),
        ("energy", energy, EnergyOptions),
    ):
        check_instance(option, value, kind, "an" if option == "energy" else "a")
    for option, place in (("task_data", task_data), ("folder", folder)):
        if place is not None:
            check_path(option, place)
    check_callable("notice", notice)
    named = _joined("tasks", tasks)
    wanted = read_measures(_joined("measures", measures), named)
    speed, text = speed or SpeedOptions(), text or TextOptions()
    needing = sorted({"loss", "tasks", "text"} & set(wanted))
    if needing and tokenizer is None:
        raise ValueError(f"tokenizer: got none; {needing[0]} needs the model's own")
    if tokenizer is not None:
        check_vocabulary(tokenizer, model.config)
    if "speed" in wanted or "energy" in wanted:
        check_speed(model.config, speed, model.device, notice)
    if "text" in wanted and tokenizer is not None:
        check_lengths(model, tokenizer, text.prompts, text.new_tokens)
    plan = None
    if "tasks" in wanted:
        assert tokenizer is not None
        check_begin(tokenizer)
        rows = None if task_data is None else Path(task_data)
        plan = plan_tasks(TaskRequest("glu13" if named is None else named, limit, rows))
    held_out = None
    if "loss" in wanted:
        held_out = _held_out(data, tokenizer, None if task_data is None else Path(task_data))
    training = [module for module in model.modules() if module.training]
    found: dict[str, Measured] = {}
    try:
        for name in wanted:
            notice(name)
            if name == "loss":
                assert held_out is not None
                found[name] = measure_loss(model, tokenizer, held_out, loss)
            elif name == "tasks":
                assert plan is not None and tokenizer is not None
                with tempfile.TemporaryDirectory() as temporary:
                    kept = Path(folder or temporary)
                    found[name] = run_tasks(model, tokenizer, plan, kept, model_digest, notice)
            elif name == "text":
                assert tokenizer is not None
                found[name] = measure_text(model, tokenizer, text, reference)
            elif name == "speed":
                found[name] = measure_speed({_MODEL: model}, speed)[_MODEL]
            else:
                found[name] = measure_energy({_MODEL: model}, speed, energy)[_MODEL]
    finally:
        for module in training:
            module.training = True
    return found


def _joined(option: str, names: str | Sequence[str] | None) -> str | None:
    """Names as one text, comma-separated.

    Raises:
        ValueError: something else than a text or a list of texts.
    """
    if names is None or isinstance(names, str):
        return names
    one_by_one = isinstance(names, Sequence) and not isinstance(names, bytes)
    if not one_by_one or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{option}: got {shown(names)}, allowed are names, comma-separated")
    return ",".join(names)


def _held_out(
    data: str | Path | Sequence[str] | HeldOut,
    tokenizer: PreTrainedTokenizerBase | None,
    task_data: Path | None,
) -> HeldOut:
    if isinstance(data, HeldOut):
        return data
    if isinstance(data, str | Path):
        if str(data) == WIKITEXT:
            return read_wikitext(tokenizer, task_data)
        return read_held_out(data, tokenizer)
    if not isinstance(data, Iterable) or isinstance(data, bytes | Mapping):
        got = type(data).__name__
        raise ValueError(
            f"data: got {got}, allowed are a source, a prepared folder, a list of texts"
        )
    texts = list(data)
    if not all(isinstance(one, str) for one in texts):
        raise ValueError("data: got a list with something else than text in it")
    return of_texts(texts, tokenizer)
