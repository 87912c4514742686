"""What models are asked to continue: our own prompts by category, and a user's.

A base model continues, it does not answer: each prompt is the beginning of a text of its kind.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from resprout.hints import did_you_mean, first_line, is_text

# Twelve, over the categories of the published head-to-head comparison.
TWELVE: dict[str, tuple[str, ...]] = {
    "knowledge": (
        "The longest river in South America is",
        "The first person to walk on the Moon was",
    ),
    "reasoning": (
        "Anna is taller than Ben, and Ben is taller than Carla. The shortest of the three is",
        "It had rained all night and the ground was frozen in the morning, so the road",
    ),
    "code": (
        "def count_words(text):\n"
        '    """Return how often each word occurs in the text."""\n'
        "    counts = {}\n",
        "def largest(numbers):\n    best = numbers[0]\n    for number in numbers:\n",
    ),
    "science": (
        "Plants use sunlight to make sugar out of water and carbon dioxide. This process",
        "In our experiments, the temperature of the sample was raised slowly until",
    ),
    "mathematics": ("To solve the equation 3x + 5 = 20, first subtract 5 from both sides. Then",),
    "writing": ("The old lighthouse had been dark for years, until one evening in October",),
    "instruction": ("How to make a cup of tea:\n\n1. Fill the kettle with fresh water.\n2.",),
    "coherence": (
        "The town council met on Monday to talk about the new bridge. The mayor said that",
    ),
}

# Five, one to a category, for each level of a cut.
FIVE: dict[str, tuple[str, ...]] = {
    category: TWELVE[category][:1]
    for category in ("knowledge", "reasoning", "code", "science", "instruction")
}

# The sets by the names that a command or a study's file may give.
SETS: dict[str, dict[str, tuple[str, ...]]] = {"twelve": TWELVE, "five": FIVE}

_NOT_UTF8 = "which holds half a surrogate pair; allowed is text that is UTF-8"
# What PyYAML raises of a value that is none of its tag's, such as `!!bool maybe`.
_NO_VALUE = (ValueError, LookupError, AttributeError, TypeError, OverflowError)


@dataclass(frozen=True)
class Prompt:
    """One prompt.

    Attributes:
        name: its category, with `_2`, `_3`, ... for further ones; no two are alike.
        category: such as `knowledge`.
        text: what is continued.
    """

    name: str
    category: str
    text: str


def named_prompts(
    prompts: Mapping[str, str | Sequence[str]], source: str = "prompts"
) -> tuple[Prompt, ...]:
    """Prompts by category as a list, each with a name of its own.

    Args:
        prompts: category -> prompt, or category -> prompts.
        source: where they come from, for the errors.

    Raises:
        ValueError: nothing there, something that is no text, or blank, or two alike in name; text
            that cannot be written as UTF-8.
    """
    if not isinstance(prompts, Mapping):
        raise ValueError(
            f"{source}: got {_kind(prompts)}, allowed is category -> prompt or prompts"
        )
    if not prompts:
        raise ValueError(f"{source}: got none, allowed is one prompt or more")
    found: list[Prompt] = []
    for category, given in prompts.items():
        if not isinstance(category, str) or not category.strip():
            raise ValueError(f"{source}: got the category {category!r}, allowed is a word")
        if not is_text(category):
            raise ValueError(f"{source}: got the category {category!r}, {_NOT_UTF8}")
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list | tuple):
            raise ValueError(
                f"{source}: {category!r}: got {_kind(given)}, allowed is a text or a list of texts"
            )
        if not texts:
            raise ValueError(
                f"{source}: {category!r}: got an empty list, allowed is a text or more"
            )
        for number, text in enumerate(texts, start=1):
            name = category if number == 1 else f"{category}_{number}"
            if not isinstance(text, str):
                raise ValueError(f"{source}: {name!r}: got {_kind(text)}, allowed is a text")
            if not text.strip():
                raise ValueError(f"{source}: {name!r}: got {text!r}, allowed is a text with words")
            if not is_text(text):
                raise ValueError(f"{source}: {name!r}: got {_shown(text)}, {_NOT_UTF8}")
            found.append(Prompt(name, category, text))
    names = [prompt.name for prompt in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{source}: two prompts are named {twice!r}, allowed is each name once")
    return tuple(found)


def prompt_set(name: str) -> dict[str, tuple[str, ...]]:
    """One of our own sets, `twelve` or `five`.

    Raises:
        ValueError: no set has that name.
    """
    if name not in SETS:
        raise ValueError(
            f"prompts: got {name!r}, allowed are {', '.join(SETS)} or a .json or .yaml file"
            + did_you_mean(name, SETS)
        )
    return SETS[name]


def read_prompts(path: Path) -> dict[str, str | list[str]]:
    """A user's prompts: a JSON or YAML file, category -> prompt or category -> list of prompts.

    Raises:
        ValueError: one line that names the file, what is wrong with it, and where.
    """
    source = f"prompts: {path}"
    if path.suffix not in (".json", ".yaml", ".yml"):
        raise ValueError(f"{source}: got {path.suffix or 'no ending'}, allowed is .json or .yaml")
    try:
        text = path.read_text("utf-8")
        values = _read_json(text) if path.suffix == ".json" else _read_yaml(text)
    except OSError as error:
        raise ValueError(f"{source}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{source}: not UTF-8 text (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{source}: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from error
    except yaml.MarkedYAMLError as error:
        mark, problem = error.problem_mark, error.problem or "not YAML"
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{source}: {where}{problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        first = str(error).splitlines()[0]
        raise ValueError(f"{source}: not to be read ({first})") from error
    except _CategoryTwiceError as error:
        raise ValueError(f"{source}: the category {error} stands there twice") from error
    except _NO_VALUE as error:  # a number of thousands of digits in JSON, too
        raise ValueError(f"{source}: a value that is not read ({first_line(error)})") from error
    named_prompts(values, source)
    assert isinstance(values, dict)
    return values


class _CategoryTwiceError(Exception):
    """A reader would silently keep the last of two."""


def _read_json(text: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _check_once(key for key, _ in pairs)
        return dict(pairs)

    return json.loads(text, object_pairs_hook=once)


def _read_yaml(text: str) -> Any:
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if isinstance(node, yaml.MappingNode):
        _check_once(str(key.value) for key, _ in node.value)
    return yaml.safe_load(text)


def _check_once(keys: Iterable[str]) -> None:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise _CategoryTwiceError(repr(key))
        seen.add(key)


def _shown(text: str) -> str:
    """A prompt, not too long."""
    shown = repr(text)
    return shown if len(shown) <= 80 else shown[:77] + "..."


def _kind(value: object) -> str:
    """What a reader of the file would call it."""
    names = {dict: "a mapping", list: "a list", str: "a text", bool: "true or false"}
    if value is None:
        return "nothing"
    if type(value) in (int, float):
        return f"the number {value}"
    return names.get(type(value), f"a {type(value).__name__}")
