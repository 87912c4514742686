"""The gates and states of the heads of one attention module.

B batch, T queries, S keys, P observed queries, H query heads, K head width, D model width.

This file needs torch and transformers only: see `modeling_cut`.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

STATES = ("active", "overloaded", "misaligned", "withdrawn")
FACTORS = (1.0, 0.5, 0.7, 0.0)
ACTIVE, OVERLOADED, MISALIGNED, WITHDRAWN = range(4)
# Hard-concrete gates: Louizos, Welling and Kingma 2018, section 4, their values.
TEMPERATURE, LOWEST, HIGHEST = 2 / 3, -0.1, 1.1
# Queries per window that a training step looks at: attention weights cost more than attention.
OBSERVED_QUERIES = 16
_NEVER = -1


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
            ("first_violation", _NEVER, torch.long),
            ("last_violation", _NEVER, torch.long),
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

    def set_factors(self) -> None:
        """Bring `state_factor` in line with `state` and `consent`."""
        found = torch.zeros_like(self.state_factor)
        for state, factor in enumerate(FACTORS):
            found = torch.where(self.state == state, factor, found)
        self.state_factor = found * self.consent  # not in place: the backward pass needs the old

    @torch.no_grad()
    def observe(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        mask: Tensor | None,
        scaling: float | None,
        output: Tensor,
    ) -> None:
        """Look at a forward pass: query (B, H, T, K), key (B, G, S, K), output (B, T, H, K)."""
        B, H, T, K = query.shape
        G, S = key.shape[1], key.shape[2]
        if T < 2:
            return
        step = 1 if self.control.calibrating else -(-T // OBSERVED_QUERIES)
        first = max(1, step - 1)
        rows = query[:, :, first::step].float()  # (B, H, P, K)
        P = rows.shape[2]
        scale = K**-0.5 if scaling is None else scaling
        scores = rows.reshape(B, G, H // G * P, K) @ key.float().transpose(2, 3) * scale
        scores = scores.view(B, H, P, S)
        seen = _visible(mask, T, S, first, step, query.device)  # (B or 1, 1, P, S)
        scores = scores.masked_fill(~seen, -torch.inf)
        count = seen.sum(-1)  # (B or 1, 1, P)
        valid = (count >= 2).expand(B, H, P)
        entropy = torch.special.entr(scores.softmax(-1)).sum(-1) / count.clamp(min=2).log()
        used = torch.where(valid, 1 - entropy, 0).sum((0, 2)) / valid.sum((0, 2)).clamp(min=1)
        self.seen = (used, self._aligned(module, output[:, first::step].float(), valid))

    def _aligned(self, module: nn.Module, parts: Tensor, valid: Tensor) -> Tensor:
        """(H,) (1 + cosine(c_h, s)) / 2 on average; parts (B, P, H, K), valid (B, H, P).

        c_h is what the output projection makes of head h, s the layer's sum of them as the model
        uses it. Neither is ever held: |c_h|^2 = o W W^T o and c_h . s = o (s W^T).
        """
        B, P, H, K = parts.shape
        projection = getattr(module, self.output, None) if self.output else None
        if projection is None:
            return parts.new_full((H,), torch.nan)
        weight = projection.weight.detach().float()
        weight = weight if isinstance(projection, Conv1D) else weight.T  # (H K, D)
        factors = self.factors().float().unsqueeze(1)
        total = (parts * factors).flatten(2) @ weight  # (B, P, D)
        along = ((total @ weight.T).view(B, P, H, K) * parts).sum(-1)
        by_head = weight.view(H, K, -1)
        gram = by_head @ by_head.transpose(1, 2)  # (H, K, K)
        square = (torch.einsum("bphk,hkl->bphl", parts, gram) * parts).sum(-1)
        length = square.clamp(min=0).sqrt() * total.norm(dim=-1, keepdim=True)
        cosine = (along / length.clamp(min=1e-12)).clamp(-1, 1)  # (B, P, H)
        where = valid.transpose(1, 2)
        return torch.where(where, (1 + cosine) / 2, 0).sum((0, 1)) / valid.sum((0, 2)).clamp(min=1)

    @torch.no_grad()
    def update(self) -> None:
        """Let what was seen move the averages, the violations and (if they may) the states."""
        assert self.seen is not None
        rules = self.control.options
        self.before_update = self.state_factor
        self.step += 1
        for name, new in zip(("utilisation", "alignment"), self.seen, strict=True):
            old, m = getattr(self, name), rules["momentum"]
            old.copy_(torch.where(old.isnan(), new, m * old + (1 - m) * new))
        self.seen = None
        broken = ~self.consent & (self.gate_values() > 0)
        self.violations += broken
        never = self.first_violation == _NEVER
        self.first_violation.copy_(torch.where(broken & never, self.step, self.first_violation))
        self.last_violation.copy_(torch.where(broken, self.step, self.last_violation))
        self.since += 1
        if rules["states"]:
            self._move(rules)

    def _move(self, rules: dict[str, Any]) -> None:
        """Active -> overloaded or misaligned by the averages; back after `recovery_steps`."""
        state = self.state
        resting = (state == OVERLOADED) | (state == MISALIGNED)
        new = torch.where(resting & (self.since >= rules["recovery_steps"]), ACTIVE, state)
        active = state == ACTIVE
        new = torch.where(active & (self.alignment < rules["misaligned_below"]), MISALIGNED, new)
        new = torch.where(active & (self.utilisation > rules["overloaded_above"]), OVERLOADED, new)
        self.enter(new)

    def enter(self, new: Tensor) -> None:
        """Go over to new states, (H,), and count the transitions."""
        moved = new != self.state
        places = torch.arange(len(STATES), device=new.device).unsqueeze(1)
        self.entered += moved & (places == new)
        self.since.copy_(torch.where(moved, 0, self.since))
        self.state.copy_(new)
        self.set_factors()


def _visible(
    mask: Tensor | None, T: int, S: int, first: int, step: int, device: torch.device
) -> Tensor:
    """(B or 1, 1, P, S) which keys each observed query may see."""
    if mask is None:  # causal
        queries = torch.arange(S - T + first, S, step, device=device)
        return (torch.arange(S, device=device) <= queries.unsqueeze(1))[None, None]
    mask = mask[:, :1, first::step, :S]
    return mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
