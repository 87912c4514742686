"""lm-eval's registry: which names there are, what a group holds, without reading all of it."""

import functools
import importlib
import importlib.util
import re
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from resprout.hints import did_you_mean, first_line
from resprout.measure.tasks.names import SETS, Wanted

_INSTALL = "pip install 'resprout[tasks]'"
_OLDEST = (0, 4, 13)

# What the code of some tasks imports beside lm-eval's own needs.
_LIBRARIES = {
    "ifeval": ("langdetect", "immutabledict", "nltk"),
    "truthfulqa": ("rouge_score", "sacrebleu"),
}

# Groups whose members all lie in the folder of the group's own file.
_WITHIN_FOLDER = ("mmlu", "leaderboard_musr")

# Where the sets' tasks lie, so that lm-eval's 14,000 files need not be searched for them.
_PLACES = {
    "wikitext": "wikitext/wikitext.yaml",
    "lambada_openai": "lambada/lambada_openai.yaml",
    "mmlu": "mmlu/default/_mmlu.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "winogrande": "winogrande/default.yaml",
    "piqa": "piqa/piqa.yaml",
    "boolq": "super_glue/boolq/default.yaml",
    "truthfulqa_mc1": "truthfulqa/truthfulqa_mc1.yaml",
    "truthfulqa_mc2": "truthfulqa/truthfulqa_mc2.yaml",
    "gsm8k": "gsm8k/gsm8k.yaml",
    "ifeval": "ifeval/ifeval.yaml",
    "leaderboard_musr": "leaderboard/musr/_musr.yaml",
}

_DEFINED = re.compile(
    rb"""^["']?(task|group)["']?[ \t]*:[ \t]*["']?([^\s"'\[\]{}#]+)["']?[ \t]*(?:#.*)?\r?$""", re.M
)
_TAGGED = re.compile(rb"""^["']?tag["']?[ \t]*:(.*(?:\n[ \t]*-.*)*)""", re.M)
_WORD = re.compile(rb"[^\s\"'\[\],-][^\s\"'\[\],]*")


def require_lm_eval() -> str:
    """lm-eval's version.

    Raises:
        ValueError: it is not installed, cannot be imported, or is older than what this is written
            for.
    """
    try:
        version = metadata.version("lm_eval")
        importlib.import_module("lm_eval")
    except metadata.PackageNotFoundError as error:
        raise ValueError(f"tasks: lm-eval is not installed; {_INSTALL}") from error
    except ImportError as error:
        raise ValueError(
            f"tasks: lm-eval cannot be imported ({first_line(error)}); {_INSTALL}"
        ) from error
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:3])
    if numbers < _OLDEST:
        needed = ".".join(map(str, _OLDEST))
        raise ValueError(f"tasks: lm-eval {version} is installed, needs {needed}; {_INSTALL}")
    return version


def _root() -> Path:
    found = importlib.util.find_spec("lm_eval")
    assert found is not None and found.submodule_search_locations
    return Path(found.submodule_search_locations[0]) / "tasks"


@functools.cache
def _scan() -> tuple[dict[str, list[Path]], set[str]]:
    """Files that define each task or group, and the tags' names, from the text of lm-eval's files.

    Reading 14,000 files takes a second, parsing them as lm-eval's own index does takes ten.
    """
    defined: dict[str, list[Path]] = {}
    tags: set[str] = set()
    for file in sorted(_root().rglob("*")):
        if file.suffix not in ("", ".yaml") or not file.is_file():
            continue  # templates, which hold tags too, have no suffix
        text = file.read_bytes()
        if file.suffix == ".yaml":
            for _, name in _DEFINED.findall(text):
                defined.setdefault(name.decode(), []).append(file)
        if b"tag" in text:
            for block in _TAGGED.findall(text):
                tags.update(word.decode() for word in _WORD.findall(block))
    return defined, tags


def _files(name: str) -> list[Path]:
    """The files that define a task or group; the sets' own are looked for where they lie."""
    place = _PLACES.get(name)
    if place and (file := _root() / place).is_file() and _defines(file, name):
        return [file]
    return _scan()[0].get(name, [])


def _defines(file: Path, name: str) -> bool:
    return any(found == name.encode() for _, found in _DEFINED.findall(file.read_bytes()))


def check_libraries(wanted: Iterable[Wanted]) -> None:
    """Refuse tasks whose code imports what is not installed.

    Raises:
        ValueError: a library is missing.
    """
    for one in wanted:
        for task, libraries in _LIBRARIES.items():
            for library in libraries if task in one.name else ():
                if importlib.util.find_spec(library) is None:
                    raise ValueError(
                        f"tasks: {one.name} needs {library}, which is not installed; {_INSTALL}"
                    )


def check_names(wanted: Iterable[Wanted]) -> None:
    """Refuse names that lm-eval does not know.

    Raises:
        ValueError: an unknown name, with the nearest one.
    """
    require_lm_eval()
    for one in wanted:
        if _files(one.name):
            continue
        defined, tags = _scan()
        if one.name not in tags:
            hint = did_you_mean(one.name, [*SETS, *defined, *tags])
            raise ValueError(
                f"tasks: got {one.name!r}, allowed are {', '.join(SETS)} and lm-eval's names of "
                f"tasks and groups{hint}"
            )


def manager(names: Sequence[str]) -> Any:
    """lm-eval's TaskManager that knows these names and, if that is enough, only their folders."""
    from lm_eval.tasks import TaskManager

    folders = set()
    for name in names:
        files = _files(name)
        single = len(files) == 1 and (name in _WITHIN_FOLDER or _is_task(files[0], name))
        if not single:
            return TaskManager()
        folders.add(files[0].parent)
    # Not a folder beside one that holds it: a name that is found twice would be warned of.
    outer = [f for f in folders if not any(parent in folders for parent in f.parents)]
    return TaskManager(include_defaults=False, include_path=sorted(outer))


def _is_task(file: Path, name: str) -> bool:
    return (b"task", name.encode()) in _DEFINED.findall(file.read_bytes()) and not any(
        kind == b"group" for kind, _ in _DEFINED.findall(file.read_bytes())
    )


def split_up(index: dict[str, Any], wanted: Iterable[Wanted]) -> list[Wanted]:
    """Tags, and groups for which lm-eval defines no joint score, as the tasks that they stand for.

    Args:
        index: lm-eval's `TaskManager.task_index`.
        wanted: tasks, groups and tags.
    """
    found: dict[str, Wanted] = {}
    for one in wanted:
        entry = index[one.name]
        if entry.kind.name == "TAG":
            members: list[Any] = sorted(entry.tags)
        elif entry.kind.name == "GROUP" and not entry.cfg.get("aggregate_metric_list"):
            members = entry.cfg.get("task") or []
        else:
            found.setdefault(one.name, one)
            continue
        if all(isinstance(member, str) and member in index for member in members):
            for part in split_up(index, [Wanted(member, one.shots) for member in members]):
                found.setdefault(part.name, part)
        else:  # a group that changes its members' settings has to be loaded as it is
            found.setdefault(one.name, one)
    return list(found.values())


def leaves(index: dict[str, Any], name: str) -> list[str]:
    """The tasks of a group in lm-eval's order; a task itself."""
    entry = index[name]
    if entry.kind.name == "TAG":
        return sorted(entry.tags)
    if entry.kind.name != "GROUP":
        return [name]
    found: list[str] = []
    for member in entry.cfg.get("task") or []:
        inner = member if isinstance(member, str) else member.get("task", member.get("group"))
        if isinstance(inner, str) and inner in index:
            found += leaves(index, inner)
    return found


def plain(config: Any) -> Any:
    """A task's configuration without this machine's paths: what is left names lm-eval's files."""
    if isinstance(config, dict):
        return {key: plain(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [plain(value) for value in config]
    if config is None or isinstance(config, (bool, int, float)):
        return config
    text = re.sub(r"[^\s'\"]*[/\\]lm_eval[/\\]tasks[/\\]", "lm_eval/tasks/", str(config))
    return re.sub(r" at 0x[0-9a-f]+>", ">", text)
