"""The rules by which heads change their states."""

from dataclasses import dataclass

from resprout.hints import did_you_mean
from resprout.models.modeling_head_agency import STATES


@dataclass(frozen=True)
class AgencyOptions:
    """Rules of an agency model; the defaults are the published ones.

    Attributes:
        momentum: of the moving averages of utilisation and alignment, 0 (the last step alone) to
            below 1.
        overloaded_above: an active head whose utilisation is above this becomes overloaded.
        misaligned_below: an active head whose alignment is below this becomes misaligned.
        recovery_steps: observed steps after which both are active again.
        states: whether states change by themselves in training and calibration. Averages and
            violations are kept in any case.
        observe_every: training steps from one look at the heads to the next, which moves the
            averages; a look costs a few
            per cent of a small model's step. Calibration looks at every step.

    Raises:
        ValueError: a value out of range.
    """

    momentum: float = 0.9
    overloaded_above: float = 0.85
    misaligned_below: float = 0.6
    recovery_steps: int = 100
    states: bool = True
    observe_every: int = 4

    def __post_init__(self) -> None:
        for name in ("momentum", "overloaded_above", "misaligned_below"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not (0 <= value < 1 or (value == 1 and name != "momentum")):
                most = "below 1" if name == "momentum" else "1"
                raise ValueError(f"{name}: got {value!r}, allowed is 0 to {most}")
        for name in ("recovery_steps", "observe_every"):
            steps = getattr(self, name)
            if type(steps) is not int or steps < 1:
                raise ValueError(f"{name}: got {steps!r}, allowed is a whole number from 1")
        if type(self.states) is not bool:
            raise ValueError(f"states: got {self.states!r}, allowed are True, False")


def state_number(state: str) -> int:
    """The index of a state in `STATES`.

    Raises:
        ValueError: no such state; the nearest is offered.
    """
    if state not in STATES:
        hint = did_you_mean(str(state), STATES)
        raise ValueError(f"state: got {state!r}, allowed are {', '.join(STATES)}{hint}")
    return STATES.index(state)
