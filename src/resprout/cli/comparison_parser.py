"""The flags of the comparison scripts as they were published, and a few beside them."""

import argparse
import sys
from collections.abc import Iterable
from typing import NoReturn

from resprout.cli.mistakes import in_one_line
from resprout.hints import did_you_mean

DEFAULTS = {
    "model_name": "gpt2",
    "device": "auto",
    "precision": "float32",
    "pruning_levels": "0,20,40,60,80",
    "pruning_method": "entropy",
    "num_tokens": None,
    "temperatures": "0.7,1.0",
    "max_prompts": "5",
    "prompt_file": None,
    "iterations": "3",
    "batch_size": "1",
    "output_dir": "validation_results/pruning_agency",
    "recover_steps": "30",
    "adapt_steps": "60",
    "gate_penalty": "0.1",
    "data": "stdlib",
    "seed": "0",
}
_TOLD = {
    "model_name": "gpt2, distilgpt2, any Hub id, a model folder, or a size grown here: gpt2-nano",
    "device": "auto (a GPU if there is one), cpu, cuda",
    "precision": "of the weights that are measured: float32, bfloat16, float16, or auto (the best "
    "of the device); training is in float32",
    "pruning_levels": "per cent of all heads, comma-separated",
    "pruning_method": "entropy, random, magnitude, taylor, or gate (the baseline then by taylor)",
    "num_tokens": "new tokens per text and timed run (100, or half of a small model's positions)",
    "temperatures": "of the texts, comma-separated; 0 = greedy",
    "max_prompts": "the first so many prompts",
    "prompt_file": "one prompt per line (default: the house's twelve)",
    "iterations": "seeds, each a repetition of all",
    "batch_size": "sequences at once while speed is timed",
    "output_dir": "records, page and charts; the same call again continues there",
    "recover_steps": "training after each cut, the uncut too, alike for both; 0 = neither",
    "adapt_steps": "training before any cut, alike for both; agency learns its gates in it",
    "gate_penalty": "on open gates in adaptation (hard-concrete), or none: plain parameters",
    "data": "text to train on and to hold out: stdlib (this Python's library), a file or folder",
    "seed": "the first of the iterations",
}
_SWITCHES = {
    "save_outputs": "write the texts to OUTPUT_DIR/outputs",
    "memory_logging": "write memory of every stage to OUTPUT_DIR/memory.csv",
    "visualize_only": "make page and charts again, from the records in OUTPUT_DIR",
    "quiet": "print the page's path alone",
    "update": "first bring this git checkout up to date (fast-forward only)",
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose error is one line."""

    def error(self, message: str) -> NoReturn:
        """Print the mistake and leave with 2."""
        print(f"{self.prog}: error: {in_one_line(message)}", file=sys.stderr)
        raise SystemExit(2)


def parser(program: str, told: str, defaults: dict[str, str]) -> Parser:
    """The parser of one of the scripts.

    Args:
        program: the script's name.
        told: what it does.
        defaults: flags whose default differs from the published one.
    """
    made = Parser(prog=program, description=told, allow_abbrev=False)
    for flag, default in (DEFAULTS | defaults).items():
        shown = f" ({default})" if default is not None else ""
        help_text = (_TOLD[flag] + shown).replace("%", "%%")
        made.add_argument(*spellings(flag), default=default, help=help_text, metavar="X")
    for flag, help_text in _SWITCHES.items():
        made.add_argument(*spellings(flag), action="store_true", help=help_text)
    return made


def spellings(flag: str) -> list[str]:
    """A flag as published (`--max_prompts`) and as usual (`--max-prompts`)."""
    return list(dict.fromkeys([f"--{flag}", f"--{flag.replace('_', '-')}"]))


def parse(made: Parser, arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse (default the process's own); an unknown flag is refused with the nearest known one."""
    found, unknown = made.parse_known_args(arguments)
    if unknown:
        flag = unknown[0].partition("=")[0]
        made.error(f"there is no option {flag}{did_you_mean(flag, _known(made))}")
    return found


def _known(made: Parser) -> Iterable[str]:
    return [word for action in made._actions for word in action.option_strings]
