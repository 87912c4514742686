"""Bad inputs as rows, a folder of bad files to point them at, and what a refusal has to look like.

Imports nothing heavy: the rows also run in a process that must not have imported torch.
"""

import contextlib
import functools
import io
import json
import os
import runpy
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import typer
import typer.main
import yaml

# Typer makes all commands anew for every call; here it is called hundreds of times.
_command = functools.cache(typer.main.get_command)
ROOT = Path(__file__).parents[1]
BAD = "bad.yaml"  # the study file of a row

# What has been imported, at most, by the time that the input is refused.
LIGHT, CONFIG, HEAVY = "no torch", "no modelling code", "anything"
FORBIDDEN = {LIGHT: "torch", CONFIG: "transformers.modeling_utils"}

STUDY: dict[str, Any] = {
    "study": "small",
    "seeds": [0],
    "data": {"source": "text", "held_out": 0.2, "train_tokenizer": 300, "window": 16},
    "subjects": [
        {"name": "bio", "model": "biogpt-nano", "learning_rate": 4e-3},
        {"name": "neox", "model": "gpt-neox-nano", "learning_rate": 4e-3},
    ],
    "training": {"steps": 4, "batch_windows": 2},
    "cuts": [{"method": "magnitude", "amounts": [0, 0.5]}],
    "recovery": {"steps": 2, "learning_rate": 1e-3},
    "measures": ["loss", "text"],
    "text": {"new_tokens": 4, "prompts": {"code": "def f"}},
}


@dataclass(frozen=True)
class Row:
    """One bad input.

    Attributes:
        name: of the row.
        words: the command's, or a script's path or module first where `program` says so.
        says: parts that the line on standard error has to have.
        imports: LIGHT, CONFIG or HEAVY.
        program: `resprout`, a module (`biogpt.train`), or a script's path in the repository.
        files: written beside the others first; name -> text or bytes.
        stdin: what the process is given.
        begins: what is wrong shows only as it is read: standard output may say that work began.
    """

    name: str
    words: tuple[str, ...]
    says: tuple[str, ...]
    imports: str = LIGHT
    program: str = "resprout"
    files: dict[str, str | bytes] = field(default_factory=dict)
    stdin: str = ""
    begins: bool = False


def row(line: str, *says: str, imports: str = LIGHT, program: str = "resprout", **more: Any) -> Row:
    """A row whose words are parted by blanks in `line`; `''` stands for an empty word."""
    words = tuple("" if word == "''" else word for word in line.split(" ") if word)
    return Row(f"{program} {line}"[:90], words, says, imports, program, **more)


def words(name: str, given: list[str], *says: str, **more: Any) -> Row:
    """A row whose words hold blanks or control characters."""
    return Row(name, tuple(given), says, **more)


def study(path: str, value: Any, *says: str, imports: str = LIGHT, named: str | None = None) -> Row:
    """A row of `resprout run` on a study with one thing changed: `cuts.0.amounts` -> value.

    A value of `...` takes the field away. The line has to name the changed field, or `named`.
    """
    changed = yaml.safe_load(yaml.safe_dump(STUDY))
    *parents, last = path.split(".")
    part = changed
    for step in parents:
        part = part[int(step)] if step.isdigit() else part.setdefault(step, {})
    if value is ...:
        del part[last]
    else:
        part[int(last) if last.isdigit() else last] = value
    text = yaml.safe_dump(changed, sort_keys=False, allow_unicode=True)
    name = f"study {path} = {'missing' if value is ... else repr(value)}"[:90]
    return Row(
        name, ("run", BAD, "--out", "new"), (named or path, *says), imports, files={BAD: text}
    )


def yaml_file(name: str, text: str | bytes, *says: str) -> Row:
    """A row of `resprout run` on a file that is no study."""
    return Row(f"yaml {name}", ("run", BAD, "--out", "new"), (BAD, *says), files={BAD: text})


def make_world(folder: Path) -> None:
    """What the rows point at: text, tokens, a model without weights, and files that are wrong."""
    from resprout.data.prepare import prepare_documents
    from resprout.data.sources import Document

    texts = [
        Document(f"{i}.py", "\n".join(f"def f_{i}_{j}(x):\n    return x * {i}\n" for j in range(8)))
        for i in range(12)
    ]
    (folder / "text").mkdir()
    for document in texts:
        (folder / "text" / document.name).write_text(document.text)
    prepare_documents(texts, folder / "data", held_out=0.2, vocab_size=300, source="test")
    llama = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 320,
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 64,
        "bos_token_id": 0, "eos_token_id": 0,
    }  # fmt: skip
    configurations = {
        "model": llama,
        "bare": llama,
        "alien": {"model_type": "alien"},
        "typeless": {},
        "negative": llama | {"hidden_size": -16},
        "wordy": llama | {"vocab_size": "many"},
    }
    for name, config in configurations.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config))
    for file in (folder / "data").glob("*token*.json"):
        (folder / "model" / file.name).write_bytes(file.read_bytes())
    for name in ("empty", "full", "listed", "garbled", "trained/final", "run/points", "odd/points"):
        (folder / name).mkdir(parents=True)
    (folder / "full" / "mine.txt").write_text("mine")
    (folder / "listed" / "config.json").write_text("[1]")
    (folder / "garbled" / "config.json").write_bytes(b"\x00\xff{")
    (folder / "garbled" / "manifest.json").write_text("{")
    (folder / "garbled" / "training.json").write_text("{}")
    (folder / "trained" / "final" / "config.json").write_text(json.dumps(llama))
    (folder / "run" / "study.json").write_text("[]")
    (folder / "file").write_text("a file")
    (folder / "empty.txt").write_text("")
    (folder / "latin.txt").write_bytes(b"caf\xe9 " * 100)
    (folder / "bad.jsonl").write_text('{"text": "fine words here"}\n{"text": \n')
    (folder / "bad.parquet").write_bytes(b"PAR0")
    (folder / "bad.json").write_text("{")
    (folder / "prompts.json").write_text("[]")
    (folder / "x.pt").write_bytes(b"not torch")
    spec = {
        "data": {"source": "text", "held_out": 0.2, "window": 16}, "seeds": [0], "subjects": [],
        "recovery": {}, "training": None,
    }  # fmt: skip
    described = {"study": "another", "question": "", "protocol": "fair", "points": [], "spec": spec}
    trained = {"finished": True, "name": "a", "tokens_per_step": 1, "losses": [], "validation": []}
    for name in ("other", "curve"):
        (folder / name).mkdir()
    (folder / "curve" / "training.json").write_text(json.dumps(trained))
    (folder / "other" / "study.json").write_text(json.dumps(described))
    (folder / "small.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))


def snapshot(folder: Path) -> dict[str, Any]:
    """Every path with its size and time of change. By the system's own calls: it is asked often."""
    found: dict[str, Any] = {}
    waiting = [str(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                state = entry.stat(follow_symlinks=False)
                inside = entry.is_dir(follow_symlinks=False)
                found[entry.path] = (0 if inside else state.st_size, state.st_mtime_ns)
                if inside:
                    waiting.append(entry.path)
    return found


def script_of(program: str) -> Path:
    """The file of a script, or of a module such as `biogpt.train`."""
    if program.endswith(".py"):
        return ROOT / program
    return (ROOT / "src").joinpath(*program.split(".")).with_suffix(".py")


def run_row(one: Row) -> tuple[Any, str, str]:
    """Carry a row out in this process and folder: exit code, standard output, standard error."""
    out, err = io.StringIO(), io.StringIO()
    given = [part.replace("ROOT", str(ROOT)) for part in one.words]
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", [one.program, *given]),
        mock.patch.object(sys, "stdin", io.StringIO(one.stdin)),
    ):
        code: Any = None
        try:
            if one.program == "resprout":
                from resprout.cli import main

                with mock.patch.object(typer.main, "get_command", _command):
                    main(given)
            else:  # by its path, for benchmarks/ has a module of the package's name
                runpy.run_path(str(script_of(one.program)), run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code
        except BaseException as error:
            code = f"{type(error).__name__}: {error}"
    return code, out.getvalue(), err.getvalue()


def trouble_of(one: Row, folder: Path) -> list[str]:
    """What is not as it has to be when a row is carried out in a world; empty = all is well."""
    for name, content in one.files.items():
        data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        (folder / name).write_bytes(data)
    before = snapshot(folder)
    code, out, err = run_row(one)
    found = []
    if code != 2:
        found.append(f"exit code {code!r}")
    if out and not one.begins:
        found.append(f"on standard output: {out[:200]!r}")
    if len(err.splitlines()) != 1 or not err.endswith("\n"):
        found.append(f"{len(err.splitlines())} lines")
    if not err.rstrip("\n").isprintable():
        found.append("control characters")
    found += [f"does not say {part!r}" for part in one.says if part not in err]
    after = snapshot(folder)
    if after != before:
        found.append(f"written: {sorted(set(after.items()) ^ set(before.items()))[:4]}")
    for name in one.files:
        (folder / name).unlink()
    return [*found, err.strip()[:600]] if found else []
