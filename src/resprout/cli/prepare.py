"""`resprout prepare`: text into tokens on disk."""

import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from resprout.cli.app import app, option
from resprout.cli.interrupts import going_on

if TYPE_CHECKING:
    from resprout.data.tokens import TokenSet


class _Terminated(BaseException):
    """SIGTERM, turned into what unwinds like Ctrl-C."""


@app.command()
def prepare(
    out_dir: Annotated[Path, option("out_dir", "the folder to make", "--out", "-o")],
    source: Annotated[
        str,
        typer.Option(
            help="pile, stdlib, installed, hf:NAME[:CONFIG], or a .jsonl, .jsonl.gz, .jsonl.zst, "
            ".parquet or text file, or a folder of them"
        ),
    ] = "pile",
    target_tokens: Annotated[
        int | None,
        option("target_tokens", "stop there; default the whole source"),
    ] = None,
    val_fraction: Annotated[
        float,
        option("val_fraction", "share kept for validation"),
    ] = 0.005,
    text_field: Annotated[
        str,
        option("text_field", "of JSON lines, Parquet and Hub sets"),
    ] = "text",
    split: Annotated[str, typer.Option(help="of a Hub data set")] = "train",
    revision: Annotated[
        str | None, typer.Option(help="of a Hub data set; default its newest")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Hub id or folder; default EleutherAI/gpt-neox-20b")
    ] = None,
    train_tokenizer: Annotated[
        int | None,
        option("train_tokenizer", "instead, train one of this many entries on the text"),
    ] = None,
    train_tokenizer_bytes: Annotated[
        int,
        option("train_tokenizer_bytes", "on at most so much of the text"),
    ] = 256_000_000,
    protocol: Annotated[
        str,
        typer.Option(help="fair: validation by document; paper: the stream's tail, as published"),
    ] = "fair",
    max_retries: Annotated[
        int,
        option("max_retries", "of a connection that broke"),
    ] = 10,
    start_over: Annotated[
        bool,
        option("start_over", "remove what an earlier run made there"),
    ] = False,
) -> None:
    """Turn text into tokens on disk; stopped at any moment, the same command goes on."""
    from resprout.data.outage import ConnectionLostError
    from resprout.data.prepare import prepare_text
    from resprout.data.writer import OutputError

    again = "to continue, run the same command again"
    if sys.argv[0]:
        again = f"to continue: {going_on()}"
    previous = signal.signal(signal.SIGTERM, _terminate)
    started = time.perf_counter()
    bar = _Bar(target_tokens)
    try:
        tokens = prepare_text(
            source,
            out_dir,
            target_tokens=target_tokens,
            val_fraction=val_fraction,
            protocol=protocol,
            tokenizer=tokenizer,
            train_tokenizer=train_tokenizer,
            train_tokenizer_bytes=train_tokenizer_bytes,
            text_field=text_field,
            split=split,
            revision=revision,
            max_retries=max_retries,
            start_over=start_over,
            notice=lambda line: bar.tell(line, sys.stdout),
            warning=lambda line: bar.tell(line, sys.stderr),
            progress=bar,
        )
    except (KeyboardInterrupt, _Terminated) as stop:
        bar.close()
        code = 130 if isinstance(stop, KeyboardInterrupt) else 143
        print(f"\nstopped; what was done is kept. {again}", file=sys.stderr)
        raise typer.Exit(code) from None
    except (OutputError, ConnectionLostError) as error:
        bar.close()
        print(f"resprout: error: {_stopped(error)}{again}", file=sys.stderr)
        raise typer.Exit(1) from None
    finally:
        bar.close()
        signal.signal(signal.SIGTERM, previous)
    print("\n".join(_summary(tokens, time.perf_counter() - started)))


def _stopped(error: OSError) -> str:
    from resprout.data.writer import OutputError

    if not isinstance(error, OutputError):
        return f"{error}; what was done is kept; "
    kept = f"{error.kept_tokens:,} tokens are kept"
    return f"{error.filename}: {error.strerror}; {kept}; free space, then "


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated


class _Bar:
    """Tokens, MB/s and the time left on a terminal; nothing elsewhere."""

    def __init__(self, target_tokens: int | None):
        self.target_tokens = target_tokens
        self.bar: Any = None
        self.begun: tuple[float, int] | None = None

    def __call__(self, tokens: int, text_bytes: int) -> None:
        if self.begun is None:
            self.begun = (time.perf_counter(), text_bytes)
            if sys.stderr.isatty():
                from tqdm import tqdm

                total = self.target_tokens
                self.bar = tqdm(total=total, initial=tokens, unit=" tokens", unit_scale=True)
        if self.bar is None:
            return
        since, before = self.begun
        seconds = max(time.perf_counter() - since, 1e-9)
        self.bar.set_postfix_str(f"{(text_bytes - before) / 1e6 / seconds:.1f} MB/s", refresh=False)
        self.bar.update(tokens - self.bar.n)

    def tell(self, line: str, where: TextIO) -> None:
        """A line of its own, above the bar where there is one."""
        if self.bar is not None:
            self.bar.write(line, file=where)
        else:
            print(line, file=where, flush=True)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def _summary(tokens: "TokenSet", seconds: float) -> list[str]:
    manifest = tokens.manifest
    lines = []
    for name, split in manifest["splits"].items():
        per_token = split["bytes"] / split["tokens"]
        lines.append(
            f"{name}: {split['documents']:,} documents, {split['tokens']:,} tokens "
            f"({manifest['dtype']}), {split['bytes']:,} bytes, {per_token:.2f} bytes/token"
        )
    for reason, entry in sorted(manifest.get("skipped", {}).items()):
        lines.append(
            f"left out, {reason.replace('_', ' ')}: {entry['count']:,} (first: {entry['first']})"
        )
    total = sum(split["tokens"] for split in manifest["splits"].values())
    target = manifest.get("target_tokens")
    if target is not None and total < target:
        lines.append(f"the source ended before the target of {target:,} tokens")
    lines.append(f"{tokens.path}: train.bin, val.bin, their indexes, tokenizer, manifest.json")
    lines.append(f"{seconds:.1f} s")
    return lines
