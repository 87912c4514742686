"""The held-out loss during training: the same windows each time, shared among the processes."""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from transformers import PreTrainedModel

from resprout.data.tokens import Split
from resprout.data.windows import evaluation_windows
from resprout.measure.loss import bits_per_byte, window_losses
from resprout.measure.loss_options import EVALUATION_BATCH

_LOGITS_BYTES = 2**28  # of one forward pass, so that validation needs less than training


@dataclass(frozen=True)
class Validation:
    """Held-out windows, fixed beforehand.

    Attributes:
        split: the held-out tokens.
        window: T, predicted tokens per window.
        tokens: about so many are predicted, in windows spread evenly over the split; 0 = all.
    """

    split: Split
    window: int
    tokens: int = 0

    @property
    def windows(self) -> list[tuple[int, int]]:
        """(start, predicted) of each window."""
        every = evaluation_windows(len(self.split.tokens), self.window)
        wanted = -(-self.tokens // self.window) if self.tokens else len(every)
        if wanted >= len(every):
            return every
        return [every[i * len(every) // wanted] for i in range(wanted)]

    def figures(self, model: PreTrainedModel, together: bool = False) -> dict[str, float]:
        """`eval_loss`, nats per token, and `eval_bits_per_byte`.

        Args:
            model: whole in each process, or
            together: spread over the processes, so that each computes every window.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        windows = self.windows
        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        own = windows if together else windows[rank::world]
        sums = torch.zeros(2, dtype=torch.float64)
        if own:
            vocabulary = int(model.config.get_text_config(decoder=True).vocab_size)
            batch = max(1, _LOGITS_BYTES // (4 * vocabulary * self.window))
            losses = window_losses(
                model, self.split, self.window, min(batch, EVALUATION_BATCH), own
            )
            sums[0], sums[1] = float(losses.nats.sum()), float(losses.tokens.sum())
        if world > 1 and not together:
            sums = sums.to(model.device)
            dist.all_reduce(sums)
        nats_per_token = float(sums[0] / sums[1])
        tokens_per_byte = len(self.split.tokens) / self.split.text_bytes
        return {
            "eval_loss": nats_per_token,
            "eval_bits_per_byte": bits_per_byte(nats_per_token, tokens_per_byte),
        }
