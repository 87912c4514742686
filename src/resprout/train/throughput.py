"""How fast a training goes: tokens per second, the share of the machine's arithmetic, time left."""

import time
from dataclasses import dataclass, replace

import torch

# Of a training step, for each operation of the forward pass.
TRAINING_FLOPS = 3
# Dense bf16 products without sparsity, FLOP/s, from the makers' data sheets. Longer names first.
_PEAK_BF16 = {
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "H200": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
_REPEATS = 15
_PRODUCT = 1024  # rows and columns of the matrices by which an unlisted device is measured


@dataclass(frozen=True)
class Peak:
    """What a device can do at best, and how that is known."""

    flops_per_second: float
    source: str

    def times(self, count: int) -> "Peak":
        """Of so many such devices."""
        return replace(self, flops_per_second=count * self.flops_per_second)


def peak_of(device: torch.device, precision: str) -> Peak:
    """The most FLOP/s that matrix products of this precision reach on a device.

    Of a known GPU in bf16 the maker's figure; of any other device what a product of two matrices
    reaches now, the best of several.
    """
    if device.type == "cuda" and precision == "bf16":
        name = torch.cuda.get_device_name(device)
        for part, flops in _PEAK_BF16.items():
            if part in name:
                return Peak(flops, f"the maker's figure for {part}")
    return Peak(_measured_product(device, precision), "a matrix product measured here")


def _measured_product(device: torch.device, precision: str) -> float:
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    size = _PRODUCT if device.type == "cpu" else 8 * _PRODUCT
    matrix = torch.full((size, size), 0.5, dtype=dtype, device=device)
    seconds = []
    for _ in range(_REPEATS):  # many, since another program may be busy for a while
        started = time.perf_counter()
        product = matrix @ matrix
        product[0, 0].item()  # waits for the device
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds)


class Meter:
    """Tokens per second between two looks, pauses (validation, saving) left out."""

    def __init__(self, tokens_per_step: int, flops_per_token: float | None, peak: Peak | None):
        self.tokens_per_step = tokens_per_step
        self.flops_per_token = flops_per_token
        self.peak = peak
        self._last: tuple[int, float] | None = None
        self._paused = 0.0

    def start(self, step: int) -> None:
        """Begin to count, after `step` steps."""
        self._last = (step, time.perf_counter())
        self._paused = 0.0

    def pause(self, seconds: float) -> None:
        """So long it was not training."""
        self._paused += seconds

    def look(self, step: int, max_steps: int) -> dict[str, float]:
        """`tokens_per_second`, `seconds_left` and, where it is known, `mfu` since the last look.

        MFU is model FLOPs utilisation (Chowdhery et al. 2022, PaLM, appendix B): operations that
        the model's formulas need, over what the device could do in that time.
        """
        if self._last is None or step <= self._last[0]:
            return {}
        steps = step - self._last[0]
        seconds = max(time.perf_counter() - self._last[1] - self._paused, 1e-9)
        rate = steps * self.tokens_per_step / seconds
        figures = {
            "tokens_per_second": rate,
            "seconds_left": (max_steps - step) * seconds / steps,
        }
        if self.flops_per_token is not None and self.peak is not None:
            figures["mfu"] = rate * self.flops_per_token / self.peak.flops_per_second
        self.start(step)
        return figures
