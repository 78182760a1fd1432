"""Connections of OAuth clients: each ends when its client is revoked (contract, section 7.4)."""

from __future__ import annotations

from typing import Final

from gateway.dialects.blynk.line import ADMINISTRATIVE, Line

MOST_REVOKED: Final = 10_000
"""Clients of which it is remembered that they were revoked: enough for all that could be between
the look at their secret and the opening of a connection."""
_REASON: Final = "the client was revoked"
_ONCE_MORE: Final = "log in again"


class Programs:
    """All of a process, by the number of their client."""

    def __init__(self) -> None:
        self._lines: dict[int, set[Line]] = {}
        self._revoked: dict[int, None] = {}

    def __len__(self) -> int:
        """How many clients have a connection."""
        return len(self._lines)

    def enter(self, client_id: int, line: Line) -> None:
        """A connection is open. One of a client that was revoked meanwhile is ended at once."""
        if client_id in self._revoked:
            line.shut(ADMINISTRATIVE, _REASON)
        else:
            self._lines.setdefault(client_id, set()).add(line)

    def leave(self, client_id: int, line: Line) -> None:
        """It is over."""
        lines = self._lines.get(client_id, set())
        lines.discard(line)
        if not lines:
            self._lines.pop(client_id, None)

    def revoked(self, client_id: int) -> None:
        """End all connections of a client, and those that are about to open. No number of a client
        is ever another's."""
        if len(self._revoked) >= MOST_REVOKED:
            del self._revoked[next(iter(self._revoked))]
        self._revoked[client_id] = None
        for line in self._lines.pop(client_id, set()):
            line.shut(ADMINISTRATIVE, _REASON)

    def end_all(self) -> None:
        """End all connections: it is not known whose client was revoked."""
        every, self._lines = self._lines, {}
        for lines in every.values():
            for line in lines:
                line.shut(ADMINISTRATIVE, _ONCE_MORE)
