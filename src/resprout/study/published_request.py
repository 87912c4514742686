"""What the published BioGPT comparison is asked for: checked as far as costs nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from resprout.data.tokens import MANIFEST, TokenSet
from resprout.files import unwritable
from resprout.hub import hub_reason
from resprout.models.by_name import check_device
from resprout.models.names import SIZES, check_subject, plain_configuration

T = TypeVar("T")

CONFIG = "config.json"  # of a model folder
FINAL = "final"  # of a run of training, the folder of its model
PYTHIA = "EleutherAI/pythia-160m"
PYTHIA_STEP = 1000
# The steps at which Pythia was saved (Biderman et al. 2023, section 2.1).
PYTHIA_STEPS = (0, *(2**i for i in range(10)), *range(1000, 143_001, 1000))


@dataclass(frozen=True)
class Request:
    """The flags of `python -m biogpt.compare`.

    Attributes:
        data_dir: a folder that `resprout prepare` wrote.
        biogpt_ckpt: a published checkpoint or a model folder.
        pythia: the control, a Hub id or a model folder; None = Pythia-160M.
        pythia_step: of a control from the Hub; None = the published one.
        device: `auto`, `cpu`, `cuda`.
        output_dir: for all that is written.
        finetune_steps: of recovery.
        protocols: under which all is done.
        seed: of recovery and texts.
    """

    data_dir: Path
    biogpt_ckpt: Path
    pythia: str | None = None
    pythia_step: int | None = None
    device: str = "auto"
    output_dir: Path = Path("results")
    finetune_steps: int = 500
    protocols: tuple[str, ...] = ("paper", "fair")
    seed: int = 0

    @property
    def control(self) -> tuple[str, str | None]:
        """The control and its revision; a folder has none."""
        if self.pythia is not None and Path(self.pythia).exists():
            return self.pythia, None
        step = PYTHIA_STEP if self.pythia_step is None else self.pythia_step
        return self.pythia or PYTHIA, f"step{step}"


def check_request(request: Request) -> None:
    """Refuse what a look at the files tells, before any heavy library is loaded.

    Raises:
        ValueError: naming the flag.
    """
    if not (request.data_dir / MANIFEST).is_file():
        raise ValueError(
            f"data_dir: {str(request.data_dir)!r} holds no {MANIFEST}; allowed is a folder that "
            "`python -m biogpt.prepare_data` wrote"
        )
    if not request.biogpt_ckpt.exists():
        raise ValueError(
            f"biogpt_ckpt: there is no {str(request.biogpt_ckpt)!r}; allowed is a checkpoint "
            "(x.pt) or a model folder, as `python -m biogpt.train` writes them"
        )
    given = {"biogpt_ckpt": request.biogpt_ckpt, "pythia": Path(request.pythia or PYTHIA)}
    for flag, path in given.items():
        inside = path / FINAL
        if (inside / CONFIG).is_file() and not (path / CONFIG).is_file():
            raise ValueError(
                f"{flag}: {str(path)!r} is a run of training; allowed is its model: {str(inside)!r}"
            )
    check_flags(request)
    # Digests are compared later, when the tokens are read.
    under_flag("data_dir", lambda: TokenSet.open(request.data_dir, checked=True))
    _check_biogpt(str(request.biogpt_ckpt))
    _check_control(request)


def check_flags(request: Request, own_control: bool = False) -> None:
    """Refuse what the flags alone tell, whether or not the data and the models are made yet.

    Args:
        request: to look at.
        own_control: the control is a folder, though it may not be there yet.

    Raises:
        ValueError: naming the flag.
    """
    step = request.pythia_step
    if step is not None and (own_control or request.control[1] is None):
        raise ValueError(
            f"pythia_step: got {step} with the folder {request.pythia!r}, allowed only with a "
            "model of the Hub"
        )
    if step is not None and step not in PYTHIA_STEPS:
        raise ValueError(
            f"pythia_step: got {step}, allowed are 0, 1, 2, 4, ... 512 and 1000, 2000, ... 143000"
        )
    if (blocked := unwritable(request.output_dir)) is not None:
        raise ValueError(
            f"output_dir: {str(blocked)!r} cannot be written; allowed is a folder that can"
        )
    check_device(request.device)


def _check_biogpt(path: str) -> None:
    under_flag("biogpt_ckpt", lambda: check_subject(path))
    family = (plain_configuration(path) or {}).get("model_type")
    if family != "dendritic_biogpt":
        raise ValueError(
            f"biogpt_ckpt: {path!r} is of the family {family!r}, allowed is a BioGPT; other models "
            "are given as --pythia"
        )


def _check_control(request: Request) -> None:
    name, revision = request.control
    if name in SIZES:
        raise ValueError(
            f"pythia: got the size {name!r}, which is not trained; allowed is a Hub id or a model "
            f"folder, such as what `python -m biogpt.train --model {name}` writes"
        )
    if revision is None:
        under_flag("pythia", lambda: check_subject(name))
        return
    try:
        check_subject(name, revision)
    except ValueError as error:
        raise ValueError(
            f"pythia: {name!r} at {revision!r} is not to be had from the Hub "
            f"({hub_reason(error.__cause__ or error)}); allowed is also the folder of a model: "
            "--pythia FOLDER"
        ) from error


def under_flag(flag: str, work: Callable[[], T]) -> T:
    """Do it; what it says of a subject or of tokens is said of the flag.

    Raises:
        ValueError: as `work` does, the flag's name first.
    """
    try:
        return work()
    except ValueError as error:
        named, _, said = str(error).partition(": ")
        known = named in ("subject", "tokens", "model")
        raise ValueError(f"{flag}: {said if known else error}") from error
