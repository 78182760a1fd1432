"""Signatures by which a web service knows that a request is ours, and of now.

`X-Gatehouse-Signature: v1=` and the HMAC-SHA-256, in hexadecimal, of the seconds in
`X-Gatehouse-Timestamp`, a full stop and the body, under a secret that both sides have.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from gateway.core.model import Secret

TIMESTAMP: Final = "X-Gatehouse-Timestamp"
SIGNATURE: Final = "X-Gatehouse-Signature"
DELIVERY: Final = "X-Gatehouse-Delivery"
MIN_SECRET_CHARACTERS: Final = 16
"""Who sees a body and its signature may guess at the secret for as long as they like."""


def signed(secret: Secret, body: bytes, at_s: int) -> dict[str, str]:
    """The two headers for `body`, sent at `at_s` (seconds since the epoch)."""
    text = str(at_s)
    message = text.encode() + b"." + body
    digest = hmac.new(secret.reveal().encode(), message, hashlib.sha256).hexdigest()
    return {TIMESTAMP: text, SIGNATURE: f"v1={digest}"}
