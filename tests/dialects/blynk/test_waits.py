"""A claim that comes too soon."""

from __future__ import annotations

import json

from gateway.core.model import RefusalReason, Refused
from gateway.dialects.blynk.claim import refusal
from gateway.dialects.blynk.words import INVALID_TOKEN, NO_TEMPLATE
from gateway.wire.call import Status


def test_who_has_to_wait_is_told_how_long() -> None:
    """As for any other call that is too much; a refusal without a wait is as it was."""
    reply = refusal(Refused(RefusalReason.TOO_MANY_REQUESTS, 7))
    assert (reply.status, reply.retry_after_s) == (Status.LIMITED, 7)
    assert list(json.loads(reply.body)) == ["error"]
    assert refusal(Refused(RefusalReason.UNKNOWN_TOKEN)) is INVALID_TOKEN
    assert refusal(Refused(RefusalReason.OTHER_TEMPLATE)) is NO_TEMPLATE
