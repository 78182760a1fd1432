"""Records under keys: sealing, opening, and no record twice (RFC 6347, section 4.1).

OpenSSL keeps 65 KB for a DTLS session that is idle; what it needs after the handshake is two keys
and a few numbers. So once a handshake is done its keys are taken out and OpenSSL's session is let
go. Only suites with AEAD are offered, which all have one simple record format (RFC 5288, 6655,
7905); `SUITES` is at once what the server offers and what is understood here.
"""

from __future__ import annotations

import hmac
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305
from msgspec import Struct

from gateway.transports.coap.dtls_wire import HEADER, VERSION, records

_EPOCH: Final = b"\x00\x01"
_EPOCH_BITS: Final = 1 << 48
_WINDOW: Final = 64
_WINDOW_MASK: Final = (1 << _WINDOW) - 1
_NONCE_MASK: Final = (1 << 64) - 1
_LONGEST: Final = 16_384
"""Bytes of what one record may hold (RFC 5246, section 6.2.1)."""


class Cipher(Protocol):
    """Authenticated encryption with additional data (RFC 5116)."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...
    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...


class Suite(Struct, frozen=True):
    """What a cipher suite means for records.

    `explicit`: bytes of the nonce that are sent along; the other 12 - `explicit` are of the key.
    """

    cipher: str
    key_bytes: int
    tag_bytes: int
    digest: str = "sha256"
    explicit: int = 8

    def make(self, key: bytes) -> Cipher:
        match self.cipher:
            case "gcm":
                return AESGCM(key)
            case "ccm":
                return AESCCM(key, self.tag_bytes)
            case _:
                return ChaCha20Poly1305(key)


_GCM128: Final = Suite("gcm", 16, 16)
_GCM256: Final = Suite("gcm", 32, 16, "sha384")
_CCM: Final = Suite("ccm", 16, 16)
_CCM8: Final = Suite("ccm", 16, 8)
_CHACHA: Final = Suite("chacha", 32, 16, explicit=0)

SUITES: Final = {
    "ECDHE-PSK-CHACHA20-POLY1305": _CHACHA,
    "PSK-AES128-GCM-SHA256": _GCM128,
    "PSK-AES128-CCM": _CCM,
    "PSK-AES128-CCM8": _CCM8,
    "ECDHE-ECDSA-AES128-GCM-SHA256": _GCM128,
    "ECDHE-ECDSA-AES256-GCM-SHA384": _GCM256,
    "ECDHE-ECDSA-CHACHA20-POLY1305": _CHACHA,
    "ECDHE-ECDSA-AES128-CCM": _CCM,
    "ECDHE-ECDSA-AES128-CCM8": _CCM8,
    "ECDHE-RSA-AES128-GCM-SHA256": _GCM128,
    "ECDHE-RSA-AES256-GCM-SHA384": _GCM256,
    "ECDHE-RSA-CHACHA20-POLY1305": _CHACHA,
}
"""By OpenSSL's names, the best first. Who offers a pre-shared key has one, and nothing better."""

KEY_SUITES: Final = frozenset({0xCCAC, 0x00A8, 0xC0A4, 0xC0A8})
"""The numbers of those with PSK in their names (RFC 7905, 5487, 6655)."""

CIPHER_LIST: Final = ":".join((*SUITES, "@SECLEVEL=0")).encode()
"""For OpenSSL. A tag of 8 bytes counts as 64 bits of security, which no higher level allows."""


class Secrets(Struct, frozen=True):
    """What a handshake agreed upon: the suite's name, the master secret, both randoms."""

    suite: str
    master: bytes
    client_random: bytes
    server_random: bytes

    def __repr__(self) -> str:
        return f"Secrets({self.suite})"


class Seal:
    """The keys of one association, and how far its sequence numbers have come.

    `finished` is the server's last flight: it ends with the one record that was sealed already.
    Raises `ValueError` when it does not.
    """

    __slots__ = ("_in", "_in_iv", "_nonce", "_out", "_out_iv", "_seen", "_sent", "_suite", "_top")

    def __init__(self, secrets: Secrets, finished: bytes) -> None:
        suite = self._suite = SUITES[secrets.suite]
        iv_bytes = 12 - suite.explicit
        block = _key_block(secrets, suite.digest, 2 * (suite.key_bytes + iv_bytes))
        second, ivs = suite.key_bytes, 2 * suite.key_bytes
        self._in = suite.make(block[:second])
        self._out = suite.make(block[second:ivs])
        self._in_iv = block[ivs : ivs + iv_bytes]
        self._out_iv = block[ivs + iv_bytes :]
        self._top = 0  # the highest number received; the peer's Finished was number 0
        self._seen = 1  # of the 64 up to it, bit 0 being itself
        start, end = [(0, 0), *records(finished)][-1]
        if finished[start + 3 : start + 5] != _EPOCH or end - start < HEADER + suite.explicit:
            raise ValueError("no sealed record at the end of the flight")
        self._sent = int.from_bytes(finished[start + 5 : start + 11], "big")
        # OpenSSL begins a GCM nonce where it likes. Ours go on from there, so none comes twice.
        explicit = finished[start + HEADER : start + HEADER + suite.explicit]
        self._nonce = int.from_bytes(explicit, "big") - self._sent

    def seal(self, type_: int, plain: bytes) -> bytes:
        """One record of at most 16 KiB."""
        self._sent += 1
        number = (_EPOCH_BITS | self._sent).to_bytes(8, "big")
        tied = b"%b%c\xfe\xfd%b" % (number, type_, len(plain).to_bytes(2, "big"))
        if self._suite.explicit:
            explicit = (self._nonce + self._sent & _NONCE_MASK).to_bytes(8, "big")
            body = explicit + self._out.encrypt(self._out_iv + explicit, plain, tied)
        else:
            body = self._out.encrypt(_mixed(self._out_iv, number), plain, tied)
        return b"%c\xfe\xfd%b%b%b" % (type_, number, len(body).to_bytes(2, "big"), body)

    def open(self, data: bytes, start: int, end: int) -> bytes | None:
        """What the record at `start` to `end` holds.

        None for one that is not the peer's, comes again, or is too old to tell: section 4.1.2.7
        has it dropped without a word.
        """
        head = start + HEADER
        if data[start + 3 : start + 5] != _EPOCH or data[start + 1 : start + 3] != VERSION:
            return None
        sequence = int.from_bytes(data[start + 5 : start + 11], "big")
        behind = self._top - sequence
        if behind >= _WINDOW or (behind >= 0 and self._seen >> behind & 1):
            return None
        suite = self._suite
        size = end - head - suite.explicit - suite.tag_bytes
        if not 0 <= size <= _LONGEST:
            return None
        number = data[start + 3 : start + 11]
        tied = number + data[start : start + 3] + size.to_bytes(2, "big")
        explicit = data[head : head + suite.explicit]
        nonce = self._in_iv + explicit if explicit else _mixed(self._in_iv, number)
        try:
            plain = self._in.decrypt(nonce, data[head + suite.explicit : end], tied)
        except InvalidTag:
            return None
        self._mark(sequence)
        return plain

    def _mark(self, sequence: int) -> None:
        ahead = sequence - self._top
        if ahead > 0:
            self._seen = (self._seen << ahead if ahead < _WINDOW else 0) & _WINDOW_MASK | 1
            self._top = sequence
        else:
            self._seen |= 1 << -ahead


def _mixed(iv: bytes, number: bytes) -> bytes:
    """The nonce of ChaCha20-Poly1305 (RFC 7905, section 2)."""
    mixed = int.from_bytes(iv, "big") ^ int.from_bytes(number, "big")
    return mixed.to_bytes(12, "big")


def _key_block(secrets: Secrets, digest: str, size: int) -> bytes:
    """The keys of both sides (RFC 5246, sections 5 and 6.3)."""
    seed = b"key expansion" + secrets.server_random + secrets.client_random
    block, chained = b"", seed
    while len(block) < size:
        chained = hmac.digest(secrets.master, chained, digest)
        block += hmac.digest(secrets.master, chained + seed, digest)
    return block[:size]
