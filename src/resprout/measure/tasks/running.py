"""Running tasks: everything checked first, each kept when it is done, failures put down by name."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from resprout.data.reachable import hub_or_cache
from resprout.data.wikitext import HUB_DATA
from resprout.hints import first_line
from resprout.measure.figure import Measured
from resprout.measure.tasks import harness, kept, local, results
from resprout.measure.tasks.names import HEADLINE_RULE, Wanted
from resprout.measure.tasks.plan import (
    TaskPlan,
    digests,
    identity,
    plan_tasks,
    tables_for,
)
from resprout.measure.tasks.request import TaskRequest
from resprout.models.tokenizers import check_begin


def run_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    request: TaskRequest | TaskPlan,
    folder: Path,
    model_digest: str,
    notice: Callable[[str], None] | None = None,
    aside: Callable[[str], None] | None = None,
) -> Measured:
    """Measure tasks with lm-eval; what is finished in `folder` for the same model is taken.

    Args:
        model: on its device, in the precision to be measured in; it is not changed.
        tokenizer: the model's own; it is not changed.
        request: or what `plan_tasks` made of it.
        folder: where each finished task is kept as `TASK.json` and `TASK.samples.jsonl`.
        model_digest: names the weights; equal names, equal models.
        notice: gets one line per task.
        aside: told which kept file is damaged and set aside; default as `notice`.

    Returns:
        Figures `TASK/METRIC`; details with `tasks` (a summary each) and `failed` (task -> why).

    Raises:
        ValueError: as `plan_tasks`; a tokenizer that is not the model's.
    """
    plan = request if isinstance(request, TaskPlan) else plan_tasks(request)
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise ValueError(
            f"tokenizer: it has {len(tokenizer)} tokens, allowed are the {rows} of the model"
        )
    check_begin(tokenizer)
    say = notice or (lambda _: None)
    tell_aside = aside or say
    training = model.training
    lm: Any = None
    records, failed = {}, {}
    data_folder = None if plan.request.task_data is None else Path(plan.request.task_data)
    with (
        harness.own_random_state(model.device),
        tables_for(plan.wanted, data_folder),
        ExitStack() as hub,
    ):
        for number, one in enumerate(plan.wanted, 1):
            place = f"{one.name} ({number} of {len(plan.wanted)})"
            made_from = identity(plan, one, model, tokenizer, model_digest)
            record = kept.read_if_same(folder, one.name, made_from, tell_aside)
            if record is not None:
                records[one.name] = record
                say(f"{place}: finished before, {_in_short(record)}")
                continue
            try:
                if lm is None:
                    if data_folder is None:
                        hub.enter_context(hub_or_cache(HUB_DATA[0]))
                    lm = harness.evaluator(model, tokenizer, plan.request.batch_size)
                model.eval()
                record, rows_kept = _run_one(plan, one, lm)
            except Exception as error:  # any task's code may raise anything; the others go on
                failed[one.name] = f"{type(error).__name__}: {first_line(error)}"
                say(f"{place}: failed, {failed[one.name]}")
                continue
            finally:
                model.train(training)
            record = kept.keep(folder, record | {"identity": made_from}, rows_kept)
            records[one.name] = record
            say(f"{place}: {_in_short(record)}, {record['seconds']:.0f} s")
    return _measured(plan, records, failed)


def _run_one(plan: TaskPlan, one: Wanted, lm: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    started, clock = datetime.now(UTC), time.perf_counter()
    index, limit = plan.manager.task_index, plan.request.limit
    data = plan.data.get(one.name)
    before = dict(index)
    sources = {name: entry.yaml_path for name, entry in before.items()}
    try:
        with harness.quietly():
            local.install(index, dict(data or {}))
            loaded = plan.manager.load([one.name])
            group = loaded.get("groups", {}).get(one.name)
            changed = harness.fit_generation(lm, loaded["tasks"])
            items = [min(len(task.eval_docs), limit or 10**9) for task in loaded["tasks"].values()]
            with harness.same_results_faster(max(items)):
                task = group if group is not None else loaded["tasks"][one.name]
                raw = harness.evaluate(lm, plan.manager, task, one.shots, limit)
    finally:
        index.clear()
        index.update(before)
    scores = results.summary(one.name, group, raw)
    files = None if data is None else digests(data)
    record = {
        "task": one.name,
        "protocol": _protocol(plan, scores, changed),
        "lm_eval": plan.lm_eval,
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - clock, 3),
        "limit": limit,
        "batch_size": plan.request.batch_size,
        "max_length": lm.max_length,
        "seeds": harness.SEEDS,
        "bootstrap_resamples": harness.BOOTSTRAP_RESAMPLES,
        "max_gen_toks": changed,
        "data": "Hub" if files is None else files,
        **scores,
        "configs": {
            name: results.recorded_config(
                config, sources.get(name), None if files is None else files[name]
            )
            for name, config in raw["configs"].items()
        },
    }
    return record, list(results.sample_rows(raw))


def _protocol(
    plan: TaskPlan, scores: Mapping[str, Any], changed: Mapping[str, Mapping[str, int]]
) -> str:
    shots = sorted(set(scores["shots"].values()))
    versions = sorted({str(version) for version in scores["versions"].values()})
    limit = plan.request.limit
    parts = [
        f"lm-eval {plan.lm_eval}",
        f"task version {' and '.join(versions)}",
        f"{' or '.join(map(str, shots))} shots",
        "all items" if limit is None else f"the first {limit} items of each task",
        f"batch size {plan.request.batch_size}",
        "data from the Hub" if plan.request.task_data is None else "local data",
    ]
    for name, tokens in changed.items():
        parts.append(
            f"{name} generates at most {tokens['used']} tokens instead of {tokens['asked']}, "
            "which the model's context has no room for"
        )
    return ", ".join(parts)


def _in_short(record: Mapping[str, Any]) -> str:
    value = record["metrics"][record["headline"]]["value"]
    return f"{record['headline']} {'not finite' if value is None else format(value, '.4g')}"


def _measured(
    plan: TaskPlan, records: Mapping[str, Mapping[str, Any]], failed: Mapping[str, str]
) -> Measured:
    figures = {}
    for record in records.values():
        figures.update(results.figures(record))
    left_out = ("configs", "protocol", "task", "identity", "format", "lm_eval", "seeds")
    return Measured(
        figures,
        {
            "tasks": {
                name: {key: value for key, value in record.items() if key not in left_out}
                for name, record in records.items()
            },
            "failed": dict(failed),
            "lm_eval": plan.lm_eval,
            "headline_rule": HEADLINE_RULE,
        },
    )
