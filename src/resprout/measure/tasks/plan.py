"""What is asked for, checked whole before anything costly, and what a result depends on."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from resprout.measure.tasks import harness, kept, local, registry
from resprout.measure.tasks.names import Wanted
from resprout.measure.tasks.request import TaskRequest, check_request

IFEVAL = "ifeval"


@dataclass(frozen=True)
class TaskPlan:
    """A request that has been checked: names known, local files read and found right.

    Attributes:
        request: what was asked for.
        wanted: tasks and groups, each measured by itself.
        manager: lm-eval's TaskManager.
        data: task or group -> the local data of each of its tasks; empty without task data.
        lm_eval: its version.
    """

    request: TaskRequest
    wanted: list[Wanted]
    manager: Any
    data: Mapping[str, Mapping[str, local.LocalTask]]
    lm_eval: str


def plan_tasks(request: TaskRequest) -> TaskPlan:
    """Check a request, all of it, before anything costly.

    Raises:
        ValueError: in one line: lm-eval is missing, an unknown task, a file of the task data that
            is missing or wrong (file, line, column).
    """
    asked = check_request(request)
    with harness.quietly():
        manager = registry.manager([one.name for one in asked])
    wanted = registry.split_up(manager.task_index, asked)
    registry.check_libraries(wanted)
    data: dict[str, dict[str, local.LocalTask]] = {}
    if request.task_data is not None:
        folder = Path(request.task_data)
        with tables_for(wanted, folder):
            for one in wanted:
                data[one.name] = local.read_task(folder, manager.task_index, one.name, one.shots)
    return TaskPlan(request, wanted, manager, data, registry.require_lm_eval())


def tables_for(wanted: list[Wanted], folder: Path | None) -> ExitStack:
    """What IFEval needs beside a model, where it is among the tasks."""
    stack = ExitStack()
    if any(IFEVAL in one.name for one in wanted):
        with harness.quietly():
            stack.enter_context(local.nltk_tables(folder))
            stack.enter_context(harness.seeded_language_detection())
    return stack


def digests(data: Mapping[str, local.LocalTask]) -> dict[str, Any]:
    """Task -> split -> file, digest and rows, as records and identities hold local data."""
    return {
        leaf: {
            split: {"file": file.name, "sha256": file.sha256, "rows": len(file.rows)}
            for split, file in task.files.items()
        }
        for leaf, task in data.items()
    }


def identity(
    plan: TaskPlan,
    one: Wanted,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    model_digest: str,
) -> dict[str, Any]:
    """All that a task's result is determined by."""
    index = plan.manager.task_index
    data = plan.data.get(one.name)
    configs = [index[name].cfg for name in (one.name, *registry.leaves(index, one.name))]
    return {
        "model": model_digest,
        "dtype": str(model.dtype),
        "device": model.device.type,
        "tokenizer": kept.digest(_tokenizer_content(tokenizer)),
        "task": one.name,
        "configs": kept.digest(registry.plain(configs)),
        "data": "Hub" if data is None else kept.digest(digests(data)),
        "limit": plan.request.limit,
        "shots": one.shots,
        "batch_size": plan.request.batch_size,
        "seeds": harness.SEEDS,
        "lm_eval": plan.lm_eval,
    }


def _tokenizer_content(tokenizer: PreTrainedTokenizerBase) -> Any:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else sorted(tokenizer.get_vocab().items())
    return [content, {name: str(token) for name, token in tokenizer.special_tokens_map.items()}]
