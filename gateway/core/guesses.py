"""Wrong secrets: how long who showed one has to wait, and when it is enough."""

from __future__ import annotations

from gateway.core.model import Secret


class Guesses:
    """Counts wrong secrets per address and per key. Nothing that is right is ever counted."""

    def wait(self, address: str, key: Secret, now: int) -> int:
        """How long `address` has to wait before its next try with `key`, in ms: 0 for now."""
        return 0

    def wrong(self, address: str, key: Secret | None, now: int) -> bool:
        """One more was wrong; `key` None: it is nobody's. True: this one closed the door."""
        return False

    def right(self, address: str) -> None:
        """One was right: what went wrong before from there counts no more."""
