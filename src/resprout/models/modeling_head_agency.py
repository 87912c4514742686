"""The gates and states of the heads of one attention module. H query heads.

This file needs torch and transformers only: see `modeling_cut`.
"""

from typing import Any

import torch
from torch import Tensor, nn

STATES = ("active", "overloaded", "misaligned", "withdrawn")
FACTORS = (1.0, 0.5, 0.7, 0.0)
ACTIVE, OVERLOADED, MISALIGNED, WITHDRAWN = range(4)
# Hard-concrete gates: Louizos, Welling and Kingma 2018, section 4, their values.
TEMPERATURE, LOWEST, HIGHEST = 2 / 3, -0.1, 1.1
NEVER = -1


class HeadAgency(nn.Module):
    """The gates and states of the heads of one attention module; all tensors are (H,).

    Attributes:
        gates: trainable, 0 to 1, times the head's output.
        opening: log alpha of hard-concrete gates, only while these are learned; then they stand
            in place of `gates`.
        state: index into `STATES`; `since`: steps in it; `entered`: (4, H) how often.
        consent: without it the factor is 0, whatever gate and state say.
        state_factor: of state and consent together.
        utilisation: moving average of 1 - entropy / log(positions seen), NaN before any.
        alignment: moving average of (1 + cosine(head's part, layer's sum)) / 2, NaN before any.
        violations: steps in which a head without consent had an open gate; with the first and the
            last such step.
        step: observed steps so far, ().
    """

    def __init__(self, heads: int, output: str | None, control: Any):
        super().__init__()
        self.control = control
        self.output = output
        self.seen: tuple[Tensor, Tensor] | None = None
        self.before_update: Tensor | None = None
        self.ready: Tensor = torch.empty(0)  # (H, 1) the factors of this forward pass
        self.gates = nn.Parameter(torch.ones(heads))
        self.register_parameter("opening", None)
        for name, value, dtype in (
            ("state", ACTIVE, torch.long),
            ("since", 0, torch.long),
            ("consent", True, torch.bool),
            ("state_factor", 1.0, torch.float32),
            ("utilisation", torch.nan, torch.float32),
            ("alignment", torch.nan, torch.float32),
            ("violations", 0, torch.long),
            ("first_violation", NEVER, torch.long),
            ("last_violation", NEVER, torch.long),
        ):
            self.register_buffer(name, torch.full((heads,), value, dtype=dtype))
        self.register_buffer("entered", torch.zeros(len(STATES), heads, dtype=torch.long))
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    opening: nn.Parameter | None
    state: Tensor
    since: Tensor
    consent: Tensor
    state_factor: Tensor
    utilisation: Tensor
    alignment: Tensor
    violations: Tensor
    first_violation: Tensor
    last_violation: Tensor
    entered: Tensor
    step: Tensor

    def gate_values(self) -> Tensor:
        """(H,) the gates in use: drawn while hard-concrete gates are learned, else fixed."""
        if self.opening is None:
            return self.gates.clamp(0, 1)
        log_alpha: Tensor = self.opening
        if self.training:
            u = torch.rand_like(log_alpha).clamp(1e-6, 1 - 1e-6)
            log_alpha = (u.log() - (-u).log1p() + log_alpha) / TEMPERATURE
        return (log_alpha.sigmoid() * (HIGHEST - LOWEST) + LOWEST).clamp(0, 1)

    def factors(self) -> Tensor:
        """(H,) what each head's output is multiplied by."""
        state = self.state_factor
        if self.training and not self.control.inside and self.before_update is not None:
            state = self.before_update  # recomputed in the backward pass: as it was then
        return self.gate_values() * state

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.control.step = None  # another one than before
