"""What an error looks like in the document."""

from __future__ import annotations

import msgspec


class ErrorBody(msgspec.Struct, rename="camel"):
    """How errors are told: HTTP's status, a sentence, ThingsBoard's code, when (ms)."""

    status: int
    message: str
    error_code: int
    timestamp: int
