"""`resprout eval`: measure models."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from resprout.cli.app import Device, app, check_here, option, same_again, tell, unset


# Not given = None, where the default stands with the measure.
@app.command("eval")
def evaluate(
    models: Annotated[
        list[str], typer.Argument(help="model folders, Hub ids, checkpoints x.pt or sizes")
    ],
    out: Annotated[Path, unset("out", "the folder to write; give it again to go on", "-o")],
    measures: Annotated[
        str | None,
        typer.Option(
            help="of loss,tasks,speed,text,energy (tasks where --tasks is given, else the others)"
        ),
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="a model to compare with: usually the one that was cut")
    ] = None,
    data: Annotated[
        str,
        typer.Option(
            help="held-out text of the loss: a prepared folder, wikitext2, stdlib, installed, "
            "hf:NAME, a file or folder"
        ),
    ] = "stdlib",
    held_out: Annotated[
        float | None,
        unset("held_out", "share of its documents (all; 0.02 of stdlib, 0.005 of installed)"),
    ] = None,
    text_field: Annotated[
        str, option("text_field", "of JSON lines, Parquet and Hub data sets")
    ] = "text",
    window: Annotated[
        int | None, typer.Option(help="tokens per window (the model's positions, up to 1024)")
    ] = None,
    stride: Annotated[
        int | None, typer.Option(help="tokens between overlapping windows (windows adjoin)")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="of the loss: fp32, bf16, auto = bf16 below the interval (auto)"),
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help="glu13, standard, or lm-eval's names, comma-separated")
    ] = None,
    task_data: Annotated[
        Path | None, unset("task_data", "folder TASK/SPLIT.jsonl with the tasks' rows (the Hub)")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="the first so many items of each task (all)")
    ] = None,
    shots: Annotated[
        int | None, typer.Option(help="examples before each question (the task's)")
    ] = None,
    batch_size: Annotated[
        int | None, unset("batch_size", "rows per forward pass of tasks (1, as lm-eval)")
    ] = None,
    batches: Annotated[str | None, typer.Option(help="of the speed, e.g. 1,8 (1,8)")] = None,
    prompt_tokens: Annotated[
        str | None, unset("prompt_tokens", "lengths of the prompts that are timed (32)")
    ] = None,
    new_tokens: Annotated[
        str | None, unset("new_tokens", "how many follow, e.g. 20,50,150 (20,50,150)")
    ] = None,
    repeats: Annotated[int | None, typer.Option(help="timed runs of each (5)")] = None,
    warmup: Annotated[int | None, typer.Option(help="runs before them, not timed (2)")] = None,
    compile: Annotated[
        str | None, typer.Option(help="of the decode step: off, compile, cuda-graphs (off)")
    ] = None,
    idle_seconds: Annotated[
        float | None, unset("idle_seconds", "over which idle power is measured")
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(help="of the text: twelve, five, or a .json or .yaml file (twelve)"),
    ] = None,
    text_tokens: Annotated[
        int | None, unset("text_tokens", "new tokens per text (120, or what the context leaves)")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="of the text, 0 = greedy (0.7)")] = None,
    top_k: Annotated[int | None, unset("top_k", "of the text, 0 = all (40)")] = None,
    seeds: Annotated[str | None, typer.Option(help="of the texts, e.g. 0,1,2 (0)")] = None,
    name: Annotated[
        str | None, typer.Option(help="of NAME_results.csv (the first model's)")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="of the best level: mean normalised score within this of uncut")
    ] = 0.05,
    tokenizer: Annotated[
        str | None, typer.Option(help="folder or Hub id, where a model has none of its own")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="of Hub models")] = None,
    device: Device = "auto",
    dtype: Annotated[
        str, typer.Option(help="auto (the checkpoint's), float32, bfloat16, float16")
    ] = "float32",
) -> None:
    """Measure models: loss, benchmark tasks, speed, text and energy, each with its interval.

    What is measured already is kept; several models, or --against, are compared in pairs.
    """
    from resprout.cli.evaluation_options import asked_of

    given = dict(locals())
    given.pop("asked_of")
    asked = asked_of(given)

    from resprout.study.evaluation_asked import check_asked

    check_asked(asked)  # before the libraries below, which take seconds
    check_here(device)

    from resprout.study.evaluation_plan import plan_evaluation

    plan = plan_evaluation(asked, tell)

    from resprout.study.evaluation import evaluate as carry_out

    try:
        results = carry_out(plan, tell)
    except KeyboardInterrupt:
        print(f"\nstopped; what was measured is kept. To continue: {same_again()}", file=sys.stderr)
        raise typer.Exit(130) from None

    from resprout.cli.evaluation_table import show

    show(results)
    for what, reason in results.failures.items():
        print(f"failed: {what}: {reason}", file=sys.stderr)
    if results.failures:
        raise typer.Exit(1)
