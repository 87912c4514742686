"""Reading a study's YAML: numbers as people write them, no key twice, nothing that explodes."""

import re
from typing import Any

import yaml

from resprout.hints import first_line
from resprout.study.spec_errors import shown

MOST_BYTES = 1_000_000
# Aliases make a few lines stand for billions of values, of which no study has a use.
MOST_VALUES = 100_000
MOST_DEPTH = 50  # a study has six levels


# What PyYAML raises of a value that is none of its tag's, such as `!!bool maybe`.
_NO_VALUE = (ValueError, LookupError, AttributeError, TypeError, OverflowError)


class Loader(yaml.SafeLoader):
    """YAML that reads 4e-3 as a number and refuses a key given twice, and more than a study has."""

    def __init__(self, text: str):
        super().__init__(text)
        self._composed = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """A value, which is counted: of a megabyte of them all alone takes many seconds."""
        self._composed += 1
        if self._composed > MOST_VALUES:
            raise _too_many(self._composed, self.peek_event().start_mark)
        return super().compose_node(parent, index)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """What a node stands for; one that its own tag does not allow is named."""
        try:
            return super().construct_object(node, deep)
        except _NO_VALUE as error:
            got = shown(node.value) if isinstance(node, yaml.ScalarNode) else "several values"
            kind = node.tag.rpartition(":")[2]
            # Of the other errors the words are about PyYAML's own code.
            reason = f" ({first_line(error)})" if isinstance(error, ValueError) else ""
            raise yaml.MarkedYAMLError(
                problem=f"got {got}, which is no {kind}{reason}", problem_mark=node.start_mark
            ) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping, whose keys stand there once each."""
        seen = set()
        pairs = node.value if isinstance(node, yaml.MappingNode) else []  # else refused below
        for key_node, _ in pairs:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float):
                continue  # what cannot be a key is refused below
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key!r} stands twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


# YAML 1.1, which PyYAML reads, wants a point in every float; 1.2 and people write 4e-3.
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def read_yaml(text: str) -> Any:
    """The values of a file's one document.

    Raises:
        ValueError: what is wrong, and where.
    """
    loader = None
    try:
        loader = Loader(text)  # refuses characters that do not print
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node)
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(_where(error)) from error
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    finally:
        if loader is not None:
            loader.dispose()


def _count(whole: yaml.Node) -> None:
    """Refuse what is too much, too deep, or without end, once every alias is what it stands for.

    Raises:
        yaml.MarkedYAMLError: it is.
    """
    counts: dict[int, int | None] = {}  # None = begun and not yet counted

    def count(node: yaml.Node, depth: int = 0) -> int:
        if depth > MOST_DEPTH:
            raise yaml.MarkedYAMLError(
                problem=f"nested too deep, allowed are {MOST_DEPTH} levels",
                problem_mark=node.start_mark,
            )
        if id(node) in counts:
            known = counts[id(node)]
            if known is None:
                raise yaml.MarkedYAMLError(
                    problem="an anchor that holds itself", problem_mark=node.start_mark
                )
            return known
        counts[id(node)] = None
        total = 1
        if isinstance(node, yaml.SequenceNode):
            total += sum(count(part, depth + 1) for part in node.value)
        elif isinstance(node, yaml.MappingNode):
            total += sum(count(part, depth + 1) for pair in node.value for part in pair)
        if total > MOST_VALUES:
            raise _too_many(total, node.start_mark)
        counts[id(node)] = total
        return total

    count(whole)


def _too_many(count: int, mark: Any) -> yaml.MarkedYAMLError:
    problem = f"{count:,} values or more, allowed are at most {MOST_VALUES:,}"
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem
