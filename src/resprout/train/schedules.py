"""Along what schedule an amount grows, and what a schedule may be. No torch."""

from typing import Literal, get_args

from resprout.hints import did_you_mean
from resprout.pruning.amounts import check_amount
from resprout.refusals import check_whole

Schedule = Literal["one-shot", "linear", "cubic"]
SCHEDULES: tuple[str, ...] = get_args(Schedule)


def amount_at(schedule: str, start: float, final: float, step: int, steps: int) -> float:
    """The amount that is to be cut after some steps of a ramp.

    `one-shot`: `final` from the beginning. `linear`: s_t = s_f + (s_i - s_f)(1 - t / n).
    `cubic`: s_t = s_f + (s_i - s_f)(1 - t / n)^3 (Zhu and Gupta 2017, equation 1, with t_0 = 0 and
    n here the steps of the whole ramp), fast at first, while there is much to spare.

    Args:
        schedule: one of `SCHEDULES`.
        start: s_i, the amount before the ramp, 0 to `final`.
        final: s_f, the amount from its end on, up to 1.
        step: t, steps done.
        steps: n, steps of the ramp.

    Raises:
        ValueError: an argument is not as said above.
    """
    check_schedule(schedule)
    check_amounts(start, final)
    check_whole("steps", steps, 1)
    check_whole("step", step, 0)
    if schedule == "one-shot" or step >= steps:
        return float(final)
    left = 1 - step / steps
    return float(final + (start - final) * (left if schedule == "linear" else left**3))


def check_schedule(schedule: str) -> None:
    """Refuse a schedule that is not one of `SCHEDULES`.

    Raises:
        ValueError: naming them.
    """
    if schedule not in SCHEDULES:
        hint = did_you_mean(str(schedule), SCHEDULES)
        raise ValueError(f"schedule: got {schedule!r}, allowed are {', '.join(SCHEDULES)}{hint}")


def check_amounts(start: float, final: float) -> None:
    """Refuse amounts that are no fractions, or shrink.

    Raises:
        ValueError: they are.
    """
    check_amount(start)
    check_amount(final)
    if start > final:
        raise ValueError(f"amount: got {final}, allowed is at least the {start} cut before")


def check_growth(schedule: str, cycles: int, steps: int) -> None:
    """Refuse a way of growing that is none.

    Raises:
        ValueError: see `resprout.prune_and_recover`.
    """
    check_schedule(schedule)
    check_whole("cycles", cycles, 1)
    check_whole("steps", steps, cycles if cycles > 1 or schedule != "one-shot" else 0)
    if cycles > 1 and schedule != "one-shot":
        raise ValueError(f"cycles: got {cycles} with schedule {schedule!r}, allowed is 1 with it")


def check_growing(method: str, scope: str) -> None:
    """Refuse a cut that cannot grow.

    Raises:
        ValueError: it is of a pattern, which says its amount.
    """
    if ":" in scope:
        raise ValueError(
            f"method: got {method!r} with the pattern {scope}, whose amount cannot "
            "grow; allowed is one cycle with the schedule one-shot"
        )
