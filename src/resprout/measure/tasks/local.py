"""Tasks on local files: which files each needs, and lm-eval's configuration that reads them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resprout.measure.tasks.registry import leaves
from resprout.measure.tasks.rows import DataFile, read_data_file
from resprout.measure.tasks.shapes import shape_of

NLTK_FOLDER = "_nltk_data"
_SPLITS = ("training_split", "validation_split", "test_split")


@dataclass(frozen=True)
class LocalTask:
    """The data of one of lm-eval's tasks.

    Attributes:
        files: split -> file.
        config: the task's whole configuration, reading these files; what stands in it under
            `dataset_kwargs` is what lm-eval's own command line would read them with.
    """

    files: dict[str, DataFile]
    config: dict[str, Any]


def read_task(
    folder: Path, index: dict[str, Any], name: str, shots: int | None
) -> dict[str, LocalTask]:
    """Read and check all files of a task or group.

    Args:
        folder: of the task data.
        index: lm-eval's `TaskManager.task_index`.
        name: of the task or group.
        shots: None for the task's own number.

    Returns:
        Task of lm-eval -> its data.

    Raises:
        ValueError: in one line: a file that is missing or wrong, with line and column; a task
            that lm-eval does not read from a table.
    """
    from lm_eval.tasks._yaml_loader import load_yaml

    members = leaves(index, name)
    configs = {}
    for leaf in members:
        entry = index[leaf]
        if entry.kind.name != "TASK":
            raise ValueError(
                f"task_data: {leaf} is a program of lm-eval's and reads no local files"
            )
        configs[leaf] = load_yaml(entry.yaml_path, resolve_func=True)
    evaluated = [_evaluated(config) for config in configs.values()]
    own_splits = len(set(evaluated)) == len(evaluated)
    return {
        leaf: _read(folder, name, leaf, config, shots, own_splits)
        for leaf, config in configs.items()
    }


def _evaluated(config: dict[str, Any]) -> str:
    return str(config.get("test_split") or config.get("validation_split"))


def _places(group: str, leaf: str, own_splits: bool) -> Iterator[str]:
    """Where a task's files may lie, the first first."""
    yield leaf
    if leaf.startswith("mmlu_"):
        yield f"mmlu/by_subject/{leaf.removeprefix('mmlu_')}"
    if leaf.startswith("leaderboard_musr_"):
        yield "leaderboard_musr"
    if group != leaf:
        yield f"{group}/{leaf}"
        yield f"{group}/{leaf.removeprefix(group + '_')}"
        if own_splits:  # else one file would serve several tasks
            yield group


def _read(
    folder: Path,
    group: str,
    leaf: str,
    config: dict[str, Any],
    shots: int | None,
    own_splits: bool,
) -> LocalTask:
    evaluated = _evaluated(config)
    places = list(_places(group, leaf, own_splits))
    place = next((p for p in places if (folder / p / f"{evaluated}.jsonl").is_file()), None)
    if place is None:
        looked = " or ".join(str(folder / p / f"{evaluated}.jsonl") for p in places)
        raise ValueError(f"task_data: {leaf} needs {looked}, which is not there")

    own = config.get("num_fewshot")
    # lm-eval does not overrule a task that says 0 itself.
    asked = own or 0 if shots is None or own == 0 else shots
    fewshot = config.get("fewshot_config") or {}
    examples = (
        fewshot.get("split")
        or config.get("fewshot_split")
        or next((config[key] for key in _SPLITS if config.get(key)), None)
    )
    needed = {evaluated}
    if asked and examples and "samples" not in fewshot:
        needed.add(examples)
    named = [evaluated, config.get("fewshot_split"), fewshot.get("split")]
    named += [config.get(key) for key in _SPLITS]
    files = {}
    for split in dict.fromkeys(filter(None, named)):
        name = f"{place}/{split}.jsonl"
        if split in needed or (folder / name).is_file():
            if not (folder / name).is_file():
                raise ValueError(
                    f"task_data: {leaf} draws its {asked} examples from {folder / name}, which "
                    "is not there"
                )
            files[split] = read_data_file(folder, name, shape_of(leaf, config))
    if asked and examples in needed:
        rows = len(files[examples].rows)
        if rows < asked + (examples == evaluated):
            raise ValueError(
                f"task_data: {folder / files[examples].name} has {rows} rows, too few for "
                f"{asked} examples"
            )
    return LocalTask(files, _reading(config, files))


def _reading(config: dict[str, Any], files: dict[str, DataFile]) -> dict[str, Any]:
    """The configuration with these files for data; splits without a file are not named."""
    absent: dict[str, Any] = {
        key: None
        for key in (*_SPLITS, "fewshot_split")
        if config.get(key) and config[key] not in files
    }
    fewshot = config.get("fewshot_config")
    if isinstance(fewshot, dict) and fewshot.get("split") not in (None, *files):
        absent["fewshot_config"] = {k: v for k, v in fewshot.items() if k != "split"}
    return {
        **config,
        **absent,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {split: file.name for split, file in files.items()}},
        "custom_dataset": _loader(files),
    }


def _loader(files: dict[str, DataFile]) -> Callable[..., dict[str, Any]]:
    def read_already(**_: Any) -> dict[str, Any]:
        """The rows that were read and checked before the run."""
        return {split: file.rows for split, file in files.items()}

    return read_already  # a plain function, since lm-eval copies a configuration deeply


def install(index: dict[str, Any], tasks: dict[str, LocalTask]) -> None:
    """Have lm-eval's index, in place, build these tasks from their files."""
    for leaf, task in tasks.items():
        index[leaf] = replace(index[leaf], yaml_path=None, cfg=task.config)


@contextmanager
def nltk_tables(folder: Path | None) -> Iterator[None]:
    """Have NLTK look for its tables in the task data first, as IFEval needs them.

    Raises:
        ValueError: they are neither there nor where NLTK looks; it would fetch them.
    """
    import nltk

    place = None if folder is None else str((folder / NLTK_FOLDER).absolute())
    if place is not None:
        nltk.data.path.insert(0, place)
    try:
        if folder is not None:
            try:
                nltk.data.find("tokenizers/punkt_tab")
            except LookupError:
                where = folder / NLTK_FOLDER / "tokenizers" / "punkt_tab"
                raise ValueError(f"task_data: ifeval needs NLTK's tables in {where}") from None
        yield
    finally:
        if place in nltk.data.path:
            nltk.data.path.remove(place)
