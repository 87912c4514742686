"""`resprout prune` and `resprout methods`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from resprout.cli.app import Device, app, option, tell, unset


# Not given = None, where the default stands in `recover`.
@app.command()
def prune(
    model: Annotated[
        str, typer.Argument(help="a model folder, a Hub id, a published checkpoint x.pt, or a size")
    ],
    method: Annotated[str, typer.Option(help="as `resprout methods` lists them; also 2:4")],
    out: Annotated[Path, unset("out", "the folder to make, new or empty", "-o")],
    amount: Annotated[
        float | None, typer.Option(help="fraction of the prunable units to cut, 0 to 1")
    ] = None,
    expansion_rate: Annotated[
        float | None,
        unset("expansion_rate", "instead: neurons of an MLP that stay, in % of the width"),
    ] = None,
    cut: Annotated[
        str, typer.Option(help="mask: weights held at zero; remove: tensors really smaller")
    ] = "mask",
    scope: Annotated[
        str | None, typer.Option(help="global, per_layer, per_row, n:m; default the method's")
    ] = None,
    round_to: Annotated[
        int | None, unset("round_to", "neurons that stay, down to a multiple of this")
    ] = None,
    head_unit: Annotated[
        str, option("head_unit", "group: a key-value group with its query heads; query: one head")
    ] = "group",
    calibration: Annotated[
        str | None,
        typer.Option(
            help="text to score on: a prepared folder, stdlib, installed, hf:NAME, a file"
        ),
    ] = None,
    samples: Annotated[int, typer.Option(help="calibration windows")] = 128,
    length: Annotated[
        int, typer.Option(help="tokens of each, at most the model's positions")
    ] = 512,
    seed: Annotated[
        int, typer.Option(help="of random scores, calibration windows, the order of recovery")
    ] = 0,
    protocol: Annotated[str, typer.Option(help="fair or paper: which weights may go")] = "fair",
    dead_threshold: Annotated[
        float | None,
        unset("dead_threshold", "a unit with more than this share of zeros goes whole"),
    ] = None,
    dead_unit: Annotated[
        str | None, unset("dead_unit", "which unit can die; default BioGPT's neuron")
    ] = None,
    sequential: Annotated[
        bool, typer.Option("--sequential", help="wanda: on what the blocks already cut put out")
    ] = False,
    recover_steps: Annotated[
        int | None, unset("recover_steps", "train so long, what was cut held at zero")
    ] = None,
    tokens: Annotated[
        Path | None, typer.Option(help="to recover on: a folder that `resprout prepare` made")
    ] = None,
    learning_rate: Annotated[
        float | None, unset("learning_rate", "highest, of recovery (1e-4)")
    ] = None,
    batch_windows: Annotated[int | None, unset("batch_windows", "windows per step (4)")] = None,
    window: Annotated[
        int | None, typer.Option(help="tokens per window (the model's positions, up to 1024)")
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(help="one-shot; linear or cubic: the cut grows during recovery (one-shot)"),
    ] = None,
    cycles: Annotated[
        int | None, typer.Option(help="cut and recover so many times, each time more (1)")
    ] = None,
    distill: Annotated[
        bool,
        typer.Option(
            "--distill",
            help="recover from the uncut model's outputs too; takes a second copy of the weights "
            "in fp32, and both models' logits",
        ),
    ] = False,
    temperature: Annotated[float | None, typer.Option(help="of the distillation (2)")] = None,
    distillation_weight: Annotated[
        float | None, unset("distillation_weight", "of its part in the loss, 0 to 1 (0.5)")
    ] = None,
    sparse: Annotated[
        bool, typer.Option("--sparse", help="store what is kept and a bit per weight, no zeros")
    ] = False,
    portable: Annotated[
        bool, typer.Option("--portable", help="save the code too, for trust_remote_code=True")
    ] = False,
    revision: Annotated[str | None, typer.Option(help="of a Hub model")] = None,
    device: Device = "auto",
    dtype: Annotated[
        str, typer.Option(help="auto (the checkpoint's), float32, bfloat16, float16")
    ] = "auto",
) -> None:
    """Cut a model, let it recover if asked to, and save it; a recovery that was killed goes on."""
    given = dict(locals())

    from resprout.study.cut_asked import Asked, check_asked

    asked = Asked(**given)
    check_asked(asked)  # before anything is imported that takes seconds

    from resprout.study.cut_plan import plan_cut
    from resprout.study.single_cut import carry_out

    plan = plan_cut(asked, tell)

    from torch import OutOfMemoryError

    from resprout.cli.prune_table import console, show

    bar = _Bar(method)
    try:
        figures = carry_out(plan, bar)
    except (FloatingPointError, MemoryError, OutOfMemoryError, OSError) as error:
        print(f"resprout: error: {' '.join(str(error).split())}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        again = "nothing was written"
        if recover_steps is not None:
            again = "the last checkpoint is kept. To continue, give the same command again"
        print(f"\nstopped; {again}", file=sys.stderr)
        raise typer.Exit(130) from None
    finally:
        bar.close()
    show(figures, out, console())


@app.command()
def methods() -> None:
    """List the methods: what each cuts, in which scopes, and where it is from."""
    from rich.table import Table

    from resprout.cli.prune_table import console
    from resprout.pruning.methods import table

    to = console(columns=200)  # one line for each, so that they can be searched
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("method", "unit", "scopes", "text", "source"):
        drawn.add_column(heading, no_wrap=heading in ("method", "unit"))
    for row in table():
        drawn.add_row(*row)
    to.print(drawn)
    to.print()
    to.print("The first scope is the default. text: whether it needs calibration text.")
    to.print(
        "N:M stands for any pattern: of every M consecutive inputs N stay. It is given as --scope, "
        "behind the name (wanda-2:4) or alone (2:4, which is magnitude-2:4); the amount follows "
        "from it."
    )


class _Bar:
    """Steps done and the time left on a terminal; nothing elsewhere."""

    def __init__(self, name: str):
        self.name = name
        self.bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        if not sys.stderr.isatty():
            return
        if self.bar is None or self.bar.total != total or done < self.bar.n:
            from tqdm import tqdm

            self.close()
            self.bar = tqdm(desc=self.name, total=total, unit="step", leave=False)
        self.bar.update(done - self.bar.n)
        if done >= total:
            self.close()

    def close(self) -> None:
        """Take it away."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
