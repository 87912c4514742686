"""Names of tasks: the two sets, what may be asked for, and which metric stands for a task."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Wanted:
    """One task that is asked for.

    Attributes:
        name: lm-eval's, of a task or of a group that is measured as one.
        shots: solved examples before each question; None leaves the task's own number.
    """

    name: str
    shots: int | None = None


# The thirteen of the GLU width study with its numbers of shots, and what its tables show of each.
GLU13 = (
    Wanted("wikitext", 0),
    Wanted("lambada_openai", 0),
    Wanted("mmlu", 5),
    Wanted("arc_challenge", 0),
    Wanted("hellaswag", 0),
    Wanted("winogrande", 0),
    Wanted("piqa", 0),
    Wanted("boolq", 0),
    Wanted("truthfulqa_mc1", 0),
    Wanted("truthfulqa_mc2", 0),
    Wanted("gsm8k", 5),
    Wanted("ifeval", 0),
    Wanted("leaderboard_musr", 0),
)
STANDARD = tuple(
    Wanted(name, 0)
    for name in ("hellaswag", "piqa", "winogrande", "arc_easy", "arc_challenge", "lambada_openai")
)
SETS = {"glu13": GLU13, "standard": STANDARD}

_HEADLINES = {
    "wikitext": "word_perplexity",
    "lambada_openai": "perplexity",
    "mmlu": "acc",
    "arc_challenge": "acc_norm",
    "hellaswag": "acc_norm",
    "winogrande": "acc",
    "piqa": "acc",
    "boolq": "acc",
    "truthfulqa_mc1": "acc",
    "truthfulqa_mc2": "acc",
    "gsm8k": "exact_match,flexible-extract",
    "ifeval": "prompt_level_strict_acc",
    "leaderboard_musr": "acc_norm",
}
HEADLINE_RULE = (
    "the published choice for the thirteen of glu13; for other tasks acc_norm, else acc, else "
    "exact_match, else the first metric that lm-eval reports"
)


def expand(asked: str | Sequence[str], shots: int | None = None) -> list[Wanted]:
    """What a request means: sets taken apart, a task that is named twice taken once (the first).

    Args:
        asked: names of sets and tasks, comma-separated or as a sequence.
        shots: for all tasks instead of a set's or a task's own number.

    Raises:
        ValueError: nothing is asked for, or `shots` is negative.
    """
    if shots is not None and (isinstance(shots, bool) or not isinstance(shots, int) or shots < 0):
        raise ValueError(f"shots: got {shots!r}, allowed is a whole number of at least 0")
    parts = asked.split(",") if isinstance(asked, str) else list(asked)
    words = [word.strip() for part in parts for word in part.split(",") if word.strip()]
    if not words:
        raise ValueError(
            f"tasks: got {asked!r}, allowed are {', '.join(SETS)} and lm-eval's names of tasks"
        )
    found: dict[str, Wanted] = {}
    for word in words:
        for wanted in SETS.get(word, (Wanted(word),)):
            wanted = wanted if shots is None else Wanted(wanted.name, shots)
            found.setdefault(wanted.name, wanted)
    return list(found.values())


def metric_label(key: str) -> str:
    """lm-eval's `acc,none` as `acc`; a key with a filter's name stays as it is."""
    return key.removesuffix(",none")


def headline(task: str, metrics: Iterable[str]) -> str:
    """Which of a task's metrics stands for it in summaries: see `HEADLINE_RULE`.

    Args:
        task: its name.
        metrics: labels of what was measured, in lm-eval's order; at least one.
    """
    known = list(metrics)
    published = _HEADLINES.get(task)
    if published in known:
        assert published is not None
        return published
    for preferred in ("acc_norm", "acc", "exact_match"):
        for label in known:
            if label == preferred or label.startswith(preferred + ","):
                return label
    return known[0]
