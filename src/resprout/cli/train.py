"""`resprout train`: pre-training, under the published program's flags."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from resprout.cli.app import app, check_here, unset
from resprout.cli.interrupts import going_on
from resprout.cli.mistakes import in_one_line


# Not given = None, so that the defaults stand in one place (`train.request`), which help must not
# import: it needs torch.
@app.command()
def train(
    data_dir: Annotated[
        Path | None, unset("data_dir", "a folder that `resprout prepare` made (data)")
    ] = None,
    out_dir: Annotated[
        Path | None, unset("out_dir", "the run's folder (checkpoints)", "--out", "-o")
    ] = None,
    model: Annotated[
        str | None,
        unset(
            "model",
            "a size (biogpt-294m, llama-30m, ...), gpt2, or a trained model to train on",
        ),
    ] = None,
    revision: Annotated[str | None, unset("revision", "of a Hub model")] = None,
    target_tokens: Annotated[
        int | None, unset("target_tokens", "tokens to train on (2000000000)")
    ] = None,
    block_size: Annotated[
        int | None, unset("block_size", "tokens per window (1024, or the model's limit)")
    ] = None,
    batch_size: Annotated[
        int | None, unset("batch_size", "windows per forward pass and process (4)")
    ] = None,
    grad_accum: Annotated[
        int | None, unset("grad_accum", "forward passes per optimiser step (8)")
    ] = None,
    max_lr: Annotated[
        float | None, unset("max_lr", "highest learning rate, after warm-up (6e-4)")
    ] = None,
    min_lr: Annotated[
        float | None, unset("min_lr", "learning rate at the end of the cosine (6e-5)")
    ] = None,
    warmup_steps: Annotated[
        int | None, unset("warmup_steps", "steps of linear warm-up (500)")
    ] = None,
    weight_decay: Annotated[float | None, unset("weight_decay", "on matrices alone (0.1)")] = None,
    grad_clip: Annotated[
        float | None, unset("grad_clip", "largest global gradient norm (1.0)")
    ] = None,
    order: Annotated[
        str | None,
        unset("order", "shuffle: each window once per epoch; random: as published (shuffle)"),
    ] = None,
    seed: Annotated[int | None, unset("seed", "of start values and of the order (0)")] = None,
    soma_ffn_expansion: Annotated[
        float | None,
        unset("soma_ffn_expansion", "of a BioGPT: width of the soma's FFN over D (3)"),
    ] = None,
    n_passes: Annotated[
        int | None, unset("n_passes", "of a BioGPT: 1, or 2 with feedback (1)")
    ] = None,
    init: Annotated[
        str | None, unset("init", "of a BioGPT: start values, published or scaled (published)")
    ] = None,
    log_interval: Annotated[
        int | None, unset("log_interval", "steps between lines of the log (10)")
    ] = None,
    eval_interval: Annotated[
        int | None,
        unset("eval_interval", "steps between validations, each with a checkpoint (500)"),
    ] = None,
    eval_tokens: Annotated[
        int | None,
        unset(
            "eval_tokens", "held-out tokens of a validation, the same each time; 0 = all (262144)"
        ),
    ] = None,
    keep_checkpoints: Annotated[
        int | None, unset("keep_checkpoints", "the last so many stay (2)")
    ] = None,
    checkpoint_minutes: Annotated[
        float | None, unset("checkpoint_minutes", "a checkpoint at least so often (15)")
    ] = None,
    precision: Annotated[
        str | None, unset("precision", "auto (bf16 on a GPU, fp32 on a CPU), bf16, fp32")
    ] = None,
    gradient_checkpointing: Annotated[
        str | None, unset("gradient_checkpointing", "auto (where memory demands it), on, off")
    ] = None,
    sharding: Annotated[
        str | None,
        unset("sharding", "of several processes: ddp (whole model in each), fsdp (FSDP2) (ddp)"),
    ] = None,
    device: Annotated[
        str | None, unset("device", "auto (a GPU if there is one), cpu, cuda")
    ] = None,
    timing_steps: Annotated[
        int | None, unset("timing_steps", "steps of a timing test (50)")
    ] = None,
    report_to: Annotated[
        list[str] | None, unset("report_to", "tensorboard, trackio, wandb, ...; may be repeated")
    ] = None,
    from_scratch: Annotated[
        bool, unset("from_scratch", "take only the shape of a trained model")
    ] = False,
    compile: Annotated[bool, unset("compile", "by torch.compile")] = False,
    export_pt: Annotated[
        bool, unset("export_pt", "also write biogpt_final.pt, as the published program does")
    ] = False,
    resume: Annotated[bool, unset("resume", "go on where a run was stopped (done anyway)")] = False,
    start_over: Annotated[bool, unset("start_over", "remove the run that out_dir holds")] = False,
    timing_test: Annotated[
        bool,
        unset(
            "timing_test", "train a few steps, say how fast and how long it will take, keep nothing"
        ),
    ] = False,
) -> None:
    """Train a model from nothing, or further, on prepared text; a stopped run goes on."""
    given = {name: value for name, value in locals().items() if value is not None}

    from tqdm import tqdm

    from resprout.train.processes import is_first_process, process_count

    first = is_first_process()

    def say(line: str) -> None:
        if first:
            tqdm.write(line)  # above the bar, where there is one
            sys.stdout.flush()

    def notice(line: str) -> None:
        if first:
            tqdm.write(line, file=sys.stderr)

    try:
        _train(given, say, notice)
    except ValueError:
        if first:
            raise
        raise typer.Exit(2) from None  # of several processes the first one tells
    except (FloatingPointError, MemoryError, OSError) as error:
        print(f"resprout: error: {in_one_line(str(error))}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        again = f": {going_on()}"
        if process_count() > 1:  # a launcher started this one, by a command that is not known here
            again = ", give the same command again" + ", without --start_over" * start_over
        notice(f"\nstopped; the last checkpoint is kept. To continue{again}")
        raise typer.Exit(130) from None


def _train(given: dict[str, Any], say: Any, notice: Any) -> None:
    from resprout.train.request import read_request

    given |= {"report_to": tuple(given.get("report_to", ()))}
    given = {"data_dir": Path("data"), "out_dir": Path("checkpoints")} | given
    request = read_request(given)

    from resprout.train.early import check_early

    check_early(request)  # before the libraries below, which take seconds
    check_here(request.device)

    from resprout.train.pretraining import pretrain

    pretrain(request, say, notice)
