"""Whether generated code is Python. It is parsed, never run."""

import ast
import warnings


def code_parses(prompt: str, continuation: str, ended: bool) -> bool:
    """Whether prompt and continuation together are Python, as far as they were written out.

    A text that did not end by itself was stopped within a line: that line is left out. What is
    left must go at least one line beyond the prompt (or finish the prompt's last line), not blank,
    and be accepted by `ast.parse`. An indented prompt is read as the inside of a block.

    Args:
        prompt: what the model was given.
        continuation: what it wrote.
        ended: it ended with the end of text.
    """
    if not ended:
        continuation = continuation[: continuation.rfind("\n") + 1]
    if not continuation.strip():
        return False
    whole = prompt + continuation
    first = next(line for line in whole.splitlines() if line.strip())
    if first[0] in " \t":
        whole = "if True:\n" + whole
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as an escape that means nothing
            ast.parse(whole)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        return False  # ValueError: null bytes, lone surrogates; the last two: nested too deeply
    return True
