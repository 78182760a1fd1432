"""What OpenSSL needs to serve TLS and DTLS, made anew when the certificate's files change."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import structlog
from OpenSSL import SSL

from gateway.core.errors import ConfigError
from gateway.transports.tls.files import Mark, Pair, mark_of, read_pair

log = structlog.get_logger()

_CIPHERS = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    b"ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
    b"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    b"ECDHE-ECDSA-AES128-CCM"
)
"""Of TLS 1.2 (RFC 9325, section 4.2), and CCM for small devices (RFC 7925)."""
_SUITES = (
    b"TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384:"
    b"TLS_AES_128_CCM_SHA256"
)
"""Of TLS 1.3 (RFC 8446, section 9.1). Not OpenSSL's order: SHA-384 has no instructions of its own
on most processors, and makes a handshake longer."""
_OPTIONS = (
    SSL.OP_NO_COMPRESSION
    | SSL.OP_NO_RENEGOTIATION
    | SSL.OP_NO_TICKET
    | SSL.OP_CIPHER_SERVER_PREFERENCE
    | SSL.OP_SINGLE_ECDH_USE
)
_DEPTH = 8
"""Certificates of a client that OpenSSL puts in a row; each costs a signature to verify."""
DTLS_1_2 = 0xFEFD
"""As it is on the wire (RFC 6347, section 4.1); pyOpenSSL has no name for it."""
_MIN = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}


class Contexts:
    """The contexts for new connections; `load` before the first use.

    - `min_version`: of TLS; DTLS is 1.2.
    - `client_certificates`: ask each client for one; it need not have one, and any will do.
    - `max_chain_bytes`: of a client's chain, in DER; `TlsServer` and the DTLS server refuse more.
      OpenSSL by itself fails a handshake with more than 100 KiB.
    """

    def __init__(
        self,
        certificate: Path,
        key: Path,
        *,
        min_version: Literal["1.2", "1.3"] = "1.2",
        client_certificates: bool = True,
        max_chain_bytes: int = 32_768,
    ) -> None:
        self.max_chain_bytes = max_chain_bytes
        self._certificate = certificate
        self._key = key
        self._min_version = _MIN[min_version]
        self._client_certificates = client_certificates
        self._stream: SSL.Context | None = None
        self._datagram: SSL.Context | None = None
        self._seen: tuple[Mark | None, Mark | None] = (None, None)

    @property
    def stream(self) -> SSL.Context:
        """For TLS. Another one after each reload."""
        assert self._stream is not None, "load() was not called"
        return self._stream

    @property
    def datagram(self) -> SSL.Context:
        """For DTLS. Another one after each reload."""
        assert self._datagram is not None, "load() was not called"
        return self._datagram

    def load(self) -> None:
        """Read the files. Raises `ConfigError`, which says what to do; then nothing changes."""
        self._seen = self._marks()  # before reading: what changes meanwhile is read again
        pair = read_pair(self._certificate, self._key)
        try:
            stream, datagram = self._new_stream(pair), self._new_datagram(pair)
        except SSL.Error as exc:
            raise ConfigError(
                f"{self._certificate}: OpenSSL does not take this certificate with its key "
                f"({reason_of(exc)}). Make one with an EC P-256 key, or RSA of 2048 bits or more."
            ) from exc
        self._stream, self._datagram = stream, datagram
        if not pair.holds_at(datetime.now(UTC)):
            log.warning("tls.certificate_out_of_date", file=str(self._certificate))

    def reload(self) -> bool:
        """Read the files again. What cannot be used changes nothing, and is logged."""
        try:
            self.load()
        except ConfigError as exc:
            log.error("tls.reload_failed", reason=str(exc))
            return False
        log.info("tls.reloaded", file=str(self._certificate))
        return True

    def reload_if_changed(self) -> bool:
        """`reload` when a file is another one than at the last attempt. True: it was taken up."""
        return self._marks() != self._seen and self.reload()

    async def watch(self, every_s: float = 1.0) -> None:
        """`reload_if_changed` for ever."""
        while True:
            await asyncio.sleep(every_s)
            self.reload_if_changed()

    def _marks(self) -> tuple[Mark | None, Mark | None]:
        return mark_of(self._certificate), mark_of(self._key)

    def _new_stream(self, pair: Pair) -> SSL.Context:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(self._min_version)
        context.set_tls13_ciphersuites(_SUITES)
        self._furnish(context, pair)
        return context

    def _new_datagram(self, pair: Pair) -> SSL.Context:
        context = SSL.Context(SSL.DTLS_SERVER_METHOD)
        context.set_min_proto_version(DTLS_1_2)
        self._furnish(context, pair)
        return context

    def _furnish(self, context: SSL.Context, pair: Pair) -> None:
        context.set_options(_OPTIONS)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_cipher_list(_CIPHERS)
        context.use_certificate(pair.leaf)
        for issuer in pair.issuers:
            context.add_extra_chain_cert(issuer)
        context.use_privatekey(pair.key)
        context.check_privatekey()
        if self._client_certificates:
            context.set_verify(SSL.VERIFY_PEER, _accept)
            context.set_verify_depth(_DEPTH)


def _accept(*_: object) -> bool:
    """Any certificate will do: the handshake still proves that the peer has its key."""
    return True


def reason_of(exc: SSL.Error) -> str:
    """OpenSSL's own words for what went wrong; they repeat nothing of the peer's bytes."""
    told = exc.args[0] if exc.args else None
    if isinstance(told, list) and told:
        return str(told[-1][-1])
    return type(exc).__name__
