"""`resprout generate`: continue a prompt, the text as it comes."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resprout.cli.app import Device, app, check_here, option, tell
from resprout.cli.mistakes import in_one_line
from resprout.hints import is_text

if TYPE_CHECKING:
    from resprout.models.generation import Writer
    from resprout.models.sampling import Sampling

# What a shell reports of a program that Ctrl-C, or the end of its pipe, has ended.
_STOPPED, _PIPE_CLOSED = 130, 141


@app.command()
def generate(
    model: Annotated[
        str, typer.Argument(help="a model folder, a Hub id, a published checkpoint x.pt, or a size")
    ],
    prompt: Annotated[
        str | None, typer.Option(help="the text to continue; - reads it from standard input")
    ] = None,
    interactive: Annotated[
        bool, typer.Option("--interactive", help="ask for prompts, until Ctrl-D, Ctrl-C or quit")
    ] = False,
    max_tokens: Annotated[
        int | None,
        option(
            "max_tokens",
            "new tokens at most; default 100, or what the context leaves",
            show_default=False,
        ),
    ] = None,
    temperature: Annotated[float, typer.Option(help="0 = always the most probable token")] = 0.7,
    top_k: Annotated[int, option("top_k", "among so many best tokens; 0 = all")] = 40,
    top_p: Annotated[float, option("top_p", "among the best tokens of this probability")] = 1.0,
    seed: Annotated[
        int | None, typer.Option(help="same seed, same text; default a new one each time")
    ] = None,
    device: Device = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16")] = "float32",
    tokenizer: Annotated[
        str | None, typer.Option(help="folder or Hub id, where the model has none of its own")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="of a Hub model")] = None,
) -> None:
    """Continue a prompt with a model's own words, as they come.

    Standard output holds the prompt and its continuation alone; all else goes to standard error.
    """
    from resprout.models.sampling import Sampling

    if interactive == (prompt is not None):
        raise ValueError("prompt: give either --prompt TEXT or --interactive")
    known = Sampling(max_tokens, temperature, top_k, top_p)
    refuse_missing(model)
    sampling = replace(known, seed=int.from_bytes(os.urandom(4)) if seed is None else seed)
    with _ending_cleanly():
        if prompt == "-":
            prompt = sys.stdin.read().removesuffix("\n")
        if prompt == "":
            raise ValueError("prompt: got '', allowed is text of one token or more")
        if prompt is not None and not is_text(prompt):
            raise ValueError(f"prompt: got {prompt!r}, allowed is text that is UTF-8")

        _check(model, tokenizer, revision, device, dtype)
        check_here(device)

        from resprout.models.generation import Writer

        writer = Writer(model, tokenizer, revision, device, dtype, tell)
        if seed is None and temperature > 0 and sys.stderr.isatty():
            tell(f"seed {sampling.seed}")
        if prompt is not None:
            _continue(writer, prompt, sampling)
        else:
            writer.load()  # before the first question, not after it
            _converse(writer, sampling)


def _check(
    model: str, tokenizer: str | None, revision: str | None, device: str, dtype: str
) -> None:
    """Refuse what names tell, before the libraries that take seconds."""
    from resprout.models.by_name import check_device, check_dtype, check_tokenizer
    from resprout.models.names import SIZES, check_subject
    from resprout.refusals import check_revision

    check_device(device)
    check_dtype(dtype)
    check_revision(revision, model, SIZES)
    check_subject(model, revision)
    check_tokenizer(model, tokenizer, revision)


def refuse_missing(model: str) -> None:
    """A name that can only be a path is looked for at once: transformers takes seconds."""
    path = Path(model)
    is_path = path.is_absolute() or model.startswith(".") or model.endswith("/")
    if (is_path or model.count("/") > 1 or path.suffix == ".pt") and not os.path.lexists(model):
        raise ValueError(f"model: there is no file or folder {model!r}")


def _show(piece: str) -> None:
    print(piece, end="", flush=True)


def _continue(writer: "Writer", prompt: str, sampling: "Sampling") -> None:
    from resprout.models.sampling import DEFAULT_MAX_TOKENS

    ids, new_tokens = writer.encode(prompt, sampling)
    writer.load()
    if new_tokens < (sampling.max_tokens or DEFAULT_MAX_TOKENS):
        tell(f"at most {new_tokens} new tokens: no more fit the model's context")
    try:
        _show(prompt)
        writer.write(ids, new_tokens, sampling, _show)
    finally:
        print(flush=True)


def _converse(writer: "Writer", sampling: "Sampling") -> None:
    """Prompts until the end of input; each text has a seed of its own, counted from the first."""
    terminal = sys.stdin.isatty()
    with suppress(ImportError):
        import readline  # noqa: F401 (gives `input` its line editing and history)
    while (prompt := _ask(terminal)) is not None:
        if not prompt.strip():
            continue
        try:
            _continue(writer, prompt, sampling)
        except ValueError as error:
            print(f"resprout: error: {in_one_line(error)}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            if not terminal:
                raise
        sampling = replace(sampling, seed=(sampling.seed + 1) % 2**63)


def _ask(terminal: bool) -> str | None:
    """The next prompt; None = leave."""
    question = "> " if terminal else ""
    if question and not sys.stdout.isatty():  # standard output holds text alone
        print(question, end="", file=sys.stderr, flush=True)
        question = ""
    try:
        line = input(question)
    except (EOFError, KeyboardInterrupt) as end:
        if terminal:
            print(file=sys.stdout if sys.stdout.isatty() else sys.stderr, flush=True)
        elif isinstance(end, KeyboardInterrupt):
            raise
        return None
    return None if line.strip() in ("quit", "exit") else line


@contextmanager
def _ending_cleanly() -> Iterator[None]:
    """Ctrl-C, or a reader that has closed the pipe, ends the command without a traceback."""
    try:
        yield
    except KeyboardInterrupt:
        print(file=sys.stderr)
        raise typer.Exit(_STOPPED) from None
    except BrokenPipeError:
        # Python flushes once more when it ends: into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(_PIPE_CLOSED) from None
