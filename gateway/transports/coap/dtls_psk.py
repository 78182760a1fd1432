"""Pre-shared keys in OpenSSL's handshakes: the one file that reaches behind pyOpenSSL.

pyOpenSSL binds `SSL_CTX_set_psk_server_callback` and has no method for it; nor has it one for
`SSL_CTX_set1_sigalgs_list`, without which the security level that CCM-8 needs brings back SHA-1.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL, _util

_lib: Any = _util.lib  # type: ignore[attr-defined,unused-ignore]
_ffi: Any = _util.ffi  # type: ignore[attr-defined,unused-ignore]

_SIGNATURES = (
    b"ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512:ed25519:ed448:"
    b"RSA-PSS+SHA256:RSA-PSS+SHA384:RSA-PSS+SHA512:RSA+SHA256:RSA+SHA384:RSA+SHA512"
)


def allow_no_weak_signatures(context: SSL.Context) -> None:
    """Of handshakes, SHA-1 and DSA among them, whatever the security level."""
    pointer: Any = context._context  # type: ignore[attr-defined,unused-ignore]
    if _lib.SSL_CTX_set1_sigalgs_list(pointer, _SIGNATURES) != 1:
        raise RuntimeError("OpenSSL does not know these signature algorithms")


class KeyAtHand:
    """Gives OpenSSL the key a handshake needs, at the moment it asks.

    It asks within a call of ours, so `key` is set just before. Must live as long as any context
    it was offered to.
    """

    __slots__ = ("_callback", "key")

    def __init__(self) -> None:
        self.key = b""
        self._callback: Any = _ffi.callback(
            "unsigned int (*)(SSL *, const char *, unsigned char *, unsigned int)", self._give
        )

    def offer(self, context: SSL.Context) -> None:
        """Let handshakes of `context` use suites with a pre-shared key."""
        pointer: Any = context._context  # type: ignore[attr-defined,unused-ignore]
        _lib.SSL_CTX_set_psk_server_callback(pointer, self._callback)

    def _give(self, _ssl: Any, _identity: Any, place: Any, most: int) -> int:
        key = self.key
        if len(key) > most:
            return 0
        _ffi.memmove(place, key, len(key))
        return len(key)
