"""`resprout describe` and `resprout convert`."""

from pathlib import Path
from typing import Annotated

import typer

from resprout.cli.app import app, option


@app.command()
def describe(
    name: Annotated[str, typer.Argument(help="a size's name, a model folder or a Hub id")],
    revision: Annotated[str | None, typer.Option(help="of a Hub model")] = None,
    devices: Annotated[int, typer.Option(help="to plan training for")] = 1,
    batch_size: Annotated[int, option("batch_size", "sequences per device and step")] = 1,
    block_size: Annotated[
        int | None,
        option(
            "block_size",
            "tokens of a sequence; default the model's positions, up to 2,048",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show what a model is made of and what it takes to train, without loading its weights."""
    from resprout.models.by_name import check_length
    from resprout.models.names import SIZES, check_subject
    from resprout.refusals import check_revision, check_whole

    for what, count in (("devices", devices), ("batch_size", batch_size)):
        check_whole(what, count, 1, 2**20)
    check_revision(revision, name, SIZES)
    check_subject(name, revision)
    if block_size is not None:
        check_whole("block_size", block_size, 1, 2**24)
        check_length("block_size", block_size, name, revision)

    # Only now, for they take seconds.
    from resprout.models.biogpt import BioGPTForCausalLM
    from resprout.models.description import (
        breakdown_lines,
        cost_lines,
        layout_lines,
        memory_lines,
        skeleton,
        zone_lines,
    )
    from resprout.models.memory_plan import NotCountableError, check_plan, plan_memory
    from resprout.models.subject import load_configuration
    from resprout.pruning.adapters import adapter_for
    from resprout.pruning.protocols import PROTOCOLS

    config = load_configuration(name, revision)
    check_plan(config, devices, batch_size, block_size)
    model = skeleton(config)
    lines = [f"{name}: {type(model).__name__}", ""]
    if isinstance(model, BioGPTForCausalLM):
        lines += [*layout_lines(config), "", *zone_lines(model), ""]
    lines += breakdown_lines(model)
    for rules in PROTOCOLS.values():
        try:
            count = sum(p.numel() for p in adapter_for(model).prunable(rules).values())
            lines.append(f"  prunable under {rules.name}: {count:,}")
        except ValueError as error:
            lines.append(f"  prunable under {rules.name}: not known, {error}")
    lines += ["", *cost_lines(model), ""]
    try:
        lines += memory_lines(plan_memory(model, devices, batch_size, block_size))
    except NotCountableError as error:
        lines.append(f"Training memory: not counted, {error}")
    print("\n".join(lines))


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="x.pt, a model folder, a Hub id or a size")],
    out: Annotated[Path, typer.Argument(help="a new folder (safetensors), or a new file y.pt")],
    tokenizer: Annotated[
        str | None, typer.Option(help="folder or Hub id of a tokenizer to put beside the model")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="of a Hub model")] = None,
) -> None:
    """Turn a published BioGPT checkpoint into a Hugging Face folder, or the other way round."""
    from resprout.models.convert_asked import check_conversion

    check_conversion(source, out, tokenizer, revision)  # before torch, which takes seconds

    from resprout.models.convert import convert as convert_model

    for line in convert_model(source, out, tokenizer, revision):
        print(line)
