"""`scripts/generate_charts.py`: the published charts from data, local runs laid over them."""

import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from resprout.cli.comparison_parser import Parser, parse
from resprout.cli.mistakes import in_one_line

if TYPE_CHECKING:
    from resprout.report.layout_drawing import Layout

PROGRAM = "generate_charts"
_TOLD = (
    "Redraw the published BioGPT charts (pruning curve, efficiency frontier, cortical layout) "
    "from results/published, as PNG and SVG; runs of your own are laid over them."
)


def main(arguments: list[str] | None = None) -> int:
    """Parse, draw, print the files.

    Args:
        arguments: the flags; default those of the process.

    Returns:
        The exit code: 0, or 2 for a user's mistake, told in one line.
    """
    try:
        for path in _draw(_parse(sys.argv[1:] if arguments is None else arguments)):
            print(path)
    except (ValueError, OSError) as error:
        print(f"{PROGRAM}: error: {in_one_line(error)}", file=sys.stderr)
        return 2
    return 0


def _parse(given: list[str]) -> Namespace:
    made = Parser(prog=PROGRAM, description=_TOLD, allow_abbrev=False)
    made.add_argument(
        "--results",
        nargs="+",
        action="extend",
        default=[],
        metavar="PATH",
        help="a run's folder, or a full_comparison.json (of the published program too)",
    )
    made.add_argument("--out", default="assets", metavar="DIR", help="for the pictures (assets)")
    return parse(made, given)


def _draw(found: Namespace) -> list[Path]:
    from resprout.files import unwritable

    out = Path(found.out)
    if (blocked := unwritable(out)) is not None:
        raise ValueError(f"out: {str(blocked)!r} cannot be written; allowed is a folder that can")

    from resprout.report.chart_series import published_series, read_series
    from resprout.report.published import read_published

    own = [(path, read_series(Path(path))) for path in dict.fromkeys(found.results)]
    labels = [line.label for _, lines in own for line in lines]
    series = published_series(read_published("biogpt")) + [
        replace(line, label=f"{line.label} ({path})") if labels.count(line.label) > 1 else line
        for path, lines in own
        for line in lines
    ]

    from resprout.report.charts import save
    from resprout.report.layout_drawing import cortical_layout
    from resprout.report.published_charts import efficiency_frontier, pruning_curve

    drawn = {
        "pruning_curve": pruning_curve(series)[0],
        "efficiency_frontier": efficiency_frontier(series)[0],
        "cortical_layout": cortical_layout(_published_layout())[0],
    }
    written = []
    for name, figure in drawn.items():
        save(figure, out / name)
        written += [out / f"{name}.png", out / f"{name}.svg"]
    return written


def _published_layout() -> "Layout":
    """The layout of the published model, by its configuration's own rule."""
    from resprout.models.biogpt import BioGPTConfig
    from resprout.models.biogpt.layout import branches_of, zone_of
    from resprout.report.layout_drawing import Layout

    config = BioGPTConfig()
    width, layers = config.hidden_size, config.num_hidden_layers
    assert config.cortical_layout is not None and config.feedback_pairs is not None
    return Layout(
        width,
        [[branches_of(entry, width) for entry in layer] for layer in config.cortical_layout],
        [zone_of(layer, layers) for layer in range(layers)],
        [(source, target) for source, target in config.feedback_pairs],
    )
