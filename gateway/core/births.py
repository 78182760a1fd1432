"""How many provisionings ended how, for whoever measures."""

from __future__ import annotations

from collections import defaultdict
from typing import TypeAlias

from gateway.core.model import ProvisionResult, ProvisionType, Refused, TicketKind, Wire

Birth: TypeAlias = tuple[str, str, str, str]
"""The wire, the profile's strategy or the ticket's kind ("" when it never came to one), `success`
or `refused`, and the reason of a refusal ("" without one). All four are words of ours: there is a
bounded number."""

_SUCCESS = "success"
_REFUSED = "refused"


class Births:
    """One for a whole process."""

    def __init__(self) -> None:
        self._counts: defaultdict[Birth, int] = defaultdict(int)

    def count(
        self, wire: Wire, strategy: ProvisionType | TicketKind | None, result: ProvisionResult
    ) -> None:
        """One more ended with `result`."""
        named = "" if strategy is None else strategy._value_  # `.value` costs four times as much
        if isinstance(result, Refused):
            self._counts[wire._value_, named, _REFUSED, result.reason._value_] += 1
        else:
            self._counts[wire._value_, named, _SUCCESS, ""] += 1

    def items(self) -> list[tuple[Birth, int]]:
        """All counts so far."""
        return list(self._counts.items())
