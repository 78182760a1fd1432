"""What operations of the administration answer, for the document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from gateway.wire.operation import Answer


class ErrorAnswer(Struct, rename="camel"):
    """How ThingsBoard tells an error (contract, section 17)."""

    status: int
    message: str
    error_code: int
    timestamp: int


_REFUSALS: Final[Mapping[int, str]] = {
    400: "The request is not possible; `message` says why.",
    401: "Nobody is logged in (`errorCode` 10), or the token has expired (11).",
    403: "A permission is lacking (`errorCode` 20).",
    404: "There is no such thing within the caller's sight (`errorCode` 32).",
    409: "It was changed since it was read (`errorCode` 35), or a file defines it.",
    429: "Too many attempts (`errorCode` 33); `Retry-After` says when to come again.",
}


def answers(about: str, body: Any = None, *refusals: int, media: str = "") -> Mapping[int, Answer]:
    """200 with `body`, and errors with the statuses `refusals`."""
    told = {code: Answer(_REFUSALS[code], ErrorAnswer) for code in refusals}
    return {200: Answer(about, body, media), **told}
