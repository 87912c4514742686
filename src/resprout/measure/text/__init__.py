"""Generated text: what a model writes, how repetitive it is, and what that looks like to a reader.

`prompts`, `repetition`, `code` and `verdict` are pure; `lengths`, `drawing` and `writing` generate,
`reference` scores, `figures` and `summary` make figures, and `measure` puts them together.
"""

from typing import TYPE_CHECKING

from resprout.lazy import on_first_use

if TYPE_CHECKING:
    from resprout.measure.text.lengths import check_lengths
    from resprout.measure.text.measure import generate_texts, measure_text
    from resprout.measure.text.options import TextOptions
    from resprout.measure.text.prompts import FIVE, TWELVE, prompt_set, read_prompts
    from resprout.measure.text.reference import Reference
    from resprout.measure.text.repetition import distinct_n, repetition_n
    from resprout.measure.text.verdict import Thresholds, judge

__all__ = [
    "FIVE",
    "TWELVE",
    "Reference",
    "TextOptions",
    "Thresholds",
    "check_lengths",
    "distinct_n",
    "generate_texts",
    "judge",
    "measure_text",
    "prompt_set",
    "read_prompts",
    "repetition_n",
]

# Loaded on first use: whoever reads prompts or thresholds need not wait for torch.
_HOMES = {
    "FIVE": "prompts",
    "TWELVE": "prompts",
    "Reference": "reference",
    "TextOptions": "options",
    "Thresholds": "verdict",
    "check_lengths": "lengths",
    "distinct_n": "repetition",
    "generate_texts": "measure",
    "judge": "verdict",
    "measure_text": "measure",
    "prompt_set": "prompts",
    "read_prompts": "prompts",
    "repetition_n": "repetition",
}
__getattr__ = on_first_use(__name__, _HOMES)
