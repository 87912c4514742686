"""Every command that a document shows is one that this program takes, and every link leads on."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
YAML = sorted((ROOT / "experiments").rglob("*.yaml"))
FENCED = re.compile(r"^```([a-z]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SHELL = ("", "bash", "sh", "console")
PROGRAMS = r"(?:\.venv/bin/)?(?:resprout|python(?: -m resprout)?|bash)"
INLINE = re.compile(rf"`({PROGRAMS} [^`]+)`")


def commands(path):
    """The lines of a document that start one of our programs, continued lines joined."""
    text = path.read_text("utf-8")
    if path.suffix == ".yaml":
        lines = re.sub(r"\\\n#\s*", "", text).splitlines()
        found = [line.lstrip("# ") for line in lines if line.startswith("#   ")]
    else:
        shell = [block for language, block in FENCED.findall(text) if language in SHELL]
        blocks = [block.replace("\\\n", " ") for block in shell]
        found = [line for block in blocks for line in block.splitlines()]
        found += [" ".join(inline.split()) for inline in INLINE.findall(text)]
    return [line for line in found if re.search(rf"(?:^|\s){PROGRAMS} \S", line)]


EVERY = [(path, line) for path in [*DOCUMENTS, *YAML] for line in commands(path)]


def words_of(line):
    """What the program is given, from its own name on."""
    words = [word for word in shlex.split(line, comments=True) if word != "..."]
    start = next(i for i, word in enumerate(words) if re.fullmatch(PROGRAMS, word))
    if words[start + 1 : start + 3] == ["-m", "resprout"]:
        start += 2
    return words[start:]


@pytest.mark.parametrize(
    ("path", "line"), EVERY, ids=[f"{path.stem}-{line[:60]}" for path, line in EVERY]
)
def test_its_command_is_one_of_ours(path, line):
    program, *words = words_of(line)
    if program.endswith("resprout"):
        known_options(words)
    elif words[0] == "-m":
        module = words[1]
        if module.split(".")[0] in ("resprout", "biogpt"):
            assert (ROOT / "src" / (module.replace(".", "/") + ".py")).exists(), module
    elif words[0].endswith((".py", ".sh")):
        script = ROOT / words[0]
        assert script.exists(), words[0]
        text = script.read_text("utf-8")
        for option in (word for word in words[1:] if word.startswith("--")):
            if "scripts" not in words[0]:  # theirs stand in resprout.cli.comparison_parser
                assert f'"{option.partition("=")[0]}"' in text, option


def known_options(words):
    from resprout.cli import app

    group = typer.main.get_command(app)
    if words[0].startswith("-"):
        return
    name, *rest = words
    assert name in group.commands, name
    options = {word for one in group.commands[name].params for word in one.opts}
    for word in rest:
        if re.match(r"--?[a-zA-Z]", word):
            assert word.partition("=")[0] in {*options, "--help"}, word
        if word.endswith(".yaml") and "/" in word:
            assert (ROOT / word).exists(), word


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_its_links_lead_somewhere(path):
    for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", path.read_text("utf-8")):
        assert (path.parent / target).exists(), target


def test_commands_were_found():
    assert len(EVERY) > 100
    assert {path.stem for path, _ in EVERY} >= {"README", "PRUNING", "RESULTS", "resilience"}
