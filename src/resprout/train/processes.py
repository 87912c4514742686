"""Which of several processes this is, as torchrun and accelerate launch tell. Imports nothing."""

import os


def process_count() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Whether this process writes and speaks; of several only the first does."""
    return os.environ.get("RANK", "0") == "0"
