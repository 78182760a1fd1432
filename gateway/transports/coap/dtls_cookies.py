"""Cookies for ClientHellos: a peer shows that it gets what is sent to its address (RFC 6347,
section 4.2.1), and nothing is remembered of one that does not."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from hashlib import blake2b

from gateway.transports.coap.dtls_wire import Hello
from gateway.transports.coap.exchanges import Address

_COOKIE_BYTES = 16
_SECRET_BYTES = 32


class Cookies:
    """Makes cookies and knows them again, by a secret of its own.

    A cookie is keyed BLAKE2b over the peer's address and the parameters of its hello. The secret
    changes every `rotate_s`; cookies of the one before are good, so one lives at least that long.
    """

    __slots__ = ("_changed_at", "_former", "_now", "_rotate_s", "_secret")

    def __init__(self, now: Callable[[], float], *, rotate_s: float = 3600.0) -> None:
        self._now = now
        self._rotate_s = rotate_s
        self._secret = secrets.token_bytes(_SECRET_BYTES)
        self._former = secrets.token_bytes(_SECRET_BYTES)
        self._changed_at = now()

    def make(self, hello: Hello, addr: Address) -> bytes:
        return _cookie(self._secret, hello, addr)

    def knows(self, hello: Hello, addr: Address) -> bool:
        """Whether `hello` brings a cookie made here for this address."""
        return any(
            hmac.compare_digest(hello.cookie, _cookie(secret, hello, addr))
            for secret in (self._secret, self._former)
        )

    def rotate(self) -> None:
        """Change the secret if it is time to."""
        if self._now() - self._changed_at >= self._rotate_s:
            self._former, self._secret = self._secret, secrets.token_bytes(_SECRET_BYTES)
            self._changed_at = self._now()


def _cookie(secret: bytes, hello: Hello, addr: Address) -> bytes:
    told = blake2b(key=secret, digest_size=_COOKIE_BYTES)
    told.update(f"{addr[0]}|{addr[1]}|".encode())
    told.update(hello.parameters)
    return told.digest()
