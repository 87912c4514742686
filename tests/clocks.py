"""Records without what differs from run to run."""

CLOCKS = ("seconds", "tokens_per_second")
OF_A_RUN = (*CLOCKS, "stages", "environment", "content_sha256")


def untimed(value, left_out=OF_A_RUN):
    """A record, or any part of one, without these keys at whatever depth."""
    if isinstance(value, dict):
        return {k: untimed(v, left_out) for k, v in value.items() if k not in left_out}
    return [untimed(v, left_out) for v in value] if isinstance(value, list) else value
