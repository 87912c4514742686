"""Which tasks are asked for: checked as far as numbers and names tell, without torch."""

from dataclasses import dataclass
from pathlib import Path

from resprout.measure.tasks import registry
from resprout.measure.tasks.names import Wanted, expand


@dataclass(frozen=True)
class TaskRequest:
    """What to measure.

    Attributes:
        tasks: `glu13`, `standard` and lm-eval's names, comma-separated or one by one.
        limit: the first so many items of each task (each subject of mmlu); None for all.
        task_data: a folder of local files; with it nothing is taken from anywhere else.
        batch_size: rows per forward pass. 1 gives the figures of lm-eval's command line, which
            takes 1 too; others differ from it in the last digits and generate faster.
        shots: examples before each question, for all tasks; None leaves each its own number.
    """

    tasks: str | tuple[str, ...]
    limit: int | None = None
    task_data: Path | None = None
    batch_size: int = 1
    shots: int | None = None

    def __post_init__(self) -> None:
        for option, value in (("limit", self.limit), ("batch_size", self.batch_size)):
            wrong = isinstance(value, bool) or not isinstance(value, int) or value < 1
            if wrong and not (option == "limit" and value is None):
                raise ValueError(
                    f"{option}: got {value!r}, allowed is a whole number of at least 1"
                )
        if self.task_data is not None and not Path(self.task_data).is_dir():
            raise ValueError(f"task_data: {str(self.task_data)!r} is not a folder")


def check_request(request: TaskRequest) -> list[Wanted]:
    """The tasks that are asked for, by name.

    Raises:
        ValueError: in one line: lm-eval is missing, an unknown task, a number that makes no sense.
    """
    registry.require_lm_eval()
    asked = expand(request.tasks, request.shots)
    registry.check_names(asked)
    return asked
