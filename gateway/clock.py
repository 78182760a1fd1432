"""The process's clock. Handed in where time matters, so that tests can hand in another."""

import time


def now_ms() -> int:
    """Milliseconds since the epoch, UTC."""
    return time.time_ns() // 1_000_000
