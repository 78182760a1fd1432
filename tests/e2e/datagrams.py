"""A device's side of CoAPS: DTLS 1.2 by OpenSSL over buffers in memory, under a `Coap`.

Nothing here is shared with `gateway`, which lets go of OpenSSL after the handshake.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from certs import Issued
from cryptography import x509
from OpenSSL import SSL, _util
from wires import HOST, WAIT_S, Coap

_HEADER = 13
_READ = 65_536
_MTU = 1200

Psk = tuple[str, str]
"""An identity, and its key in hex."""


class Refusal(Exception):
    """The server ended a handshake; `alert` is what it said (RFC 5246, section 7.2)."""

    def __init__(self, alert: int | None) -> None:
        super().__init__(f"alert {alert}")
        self.alert = alert


def datagram_context(trusted: str, identity: Issued | None = None) -> SSL.Context:
    """Believes servers that the PEM `trusted` signed; shows `identity`, its chain to the root."""
    context = SSL.Context(SSL.DTLS_CLIENT_METHOD)
    context.set_options(SSL.OP_NO_QUERY_MTU)
    # What a device may show that a server must refuse: OpenSSL would not take weak keys.
    context.set_cipher_list(b"ALL:@SECLEVEL=0")
    store = context.get_cert_store()
    assert store is not None
    store.add_cert(_x509(x509.load_pem_x509_certificate(trusted.encode())))
    context.set_verify(SSL.VERIFY_PEER, lambda _c, _cert, _number, _depth, good: bool(good))
    if identity is not None:
        context.use_certificate(identity.certificate)
        context.use_privatekey(identity.key)
        for der in identity.issuers:
            context.add_extra_chain_cert(x509.load_der_x509_certificate(der))
    return context


def _x509(certificate: x509.Certificate) -> Any:
    from OpenSSL import crypto

    return crypto.X509.from_cryptography(certificate)


def with_key(context: SSL.Context, psk: Psk) -> Any:
    """Let the context log in by a pre-shared key; what is returned must live as long as it."""
    lib, ffi = _util.lib, _util.ffi
    name, key = psk[0].encode() + b"\0", bytes.fromhex(psk[1])

    def give(_ssl: Any, _hint: Any, identity: Any, most: int, place: Any, room: int) -> int:
        assert len(name) <= most
        assert len(key) <= room
        ffi.memmove(identity, name, len(name))
        ffi.memmove(place, key, len(key))
        return len(key)

    takes = "SSL *, const char *, char *, unsigned int, unsigned char *, unsigned int"
    callback = ffi.callback(f"unsigned int (*)({takes})", give)
    lib.SSL_CTX_set_psk_client_callback(context._context, callback)
    return callback


class Dtls(asyncio.DatagramProtocol):
    """One association. To its `device` it is the transport."""

    def __init__(self, context: SSL.Context, device: Coap) -> None:
        context.set_info_callback(self._told)
        self._connection = SSL.Connection(context)
        self._connection.set_connect_state()
        self._connection.set_connect_state()
        self._connection.set_ciphertext_mtu(_MTU)
        self._device = device
        self._timer: asyncio.TimerHandle | None = None
        device.transport = self
        loop = asyncio.get_running_loop()
        self.open: asyncio.Future[None] = loop.create_future()
        self.over: asyncio.Future[int | None] = loop.create_future()
        """The alert by which the server ended it."""

    # ── the socket's side ─────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: Any) -> None:
        self._socket = transport
        self._shake()

    def datagram_received(self, data: bytes, _addr: Any) -> None:
        self._connection.bio_write(data)
        if not self.open.done():
            self._shake()
        if self.open.done() and not self.over.done():
            self._deliver()

    def _shake(self) -> None:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            self._wait()
        except SSL.Error as exc:
            if not self.open.done():
                # Its own alert is the server's business; a server's was told by the callback.
                alert = self.over.result() if self.over.done() else None
                self.open.set_exception(exc if alert is None else Refusal(alert))
        else:
            self._stop_waiting()
            if not self.open.done():
                self.open.set_result(None)
        self._flush()

    def _deliver(self) -> None:
        while True:
            try:
                plain = self._connection.recv(_READ)
            except SSL.WantReadError:
                return
            except SSL.Error:
                self._end(None)
                return
            self._device.datagram_received(plain, None)

    def _flush(self) -> None:
        flight = b""
        with suppress(SSL.WantReadError):
            while True:
                flight += self._connection.bio_read(_READ)
        for record in _records(flight):
            self._socket.sendto(record)

    def _wait(self) -> None:
        """A flight that is not answered is sent again."""
        self._stop_waiting()
        timeout = self._connection.DTLSv1_get_timeout()
        if timeout is not None:
            self._timer = asyncio.get_running_loop().call_later(timeout + 0.01, self._again)

    def _again(self) -> None:
        self._connection.DTLSv1_handle_timeout()
        self._flush()
        self._wait()

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _told(self, _connection: Any, where: int, code: int) -> None:
        if where & SSL.SSL_CB_READ_ALERT == SSL.SSL_CB_READ_ALERT:
            self._end(code & 0xFF)

    def _end(self, alert: int | None) -> None:
        self._stop_waiting()
        if not self.over.done():
            self.over.set_result(alert)

    # ── the device's side ─────────────────────────────────────────────────────────────────────

    def sendto(self, plain: bytes) -> None:
        """As of a socket: what cannot be sent is lost."""
        with suppress(SSL.Error):
            self._connection.send(plain)
        self._flush()

    def close(self, *, silently: bool = False) -> None:
        self._stop_waiting()
        if not silently:
            with suppress(SSL.Error):
                self._connection.shutdown()
            self._flush()
        self._socket.close()
        if self.open.done() and not self.open.cancelled():
            self.open.exception()  # somebody may have been told already


def _records(flight: bytes) -> Iterator[bytes]:
    """A record each: together they might not fit a datagram."""
    at = 0
    while at < len(flight):
        end = at + _HEADER + int.from_bytes(flight[at + 11 : at + 13])
        yield flight[at:end]
        at = end


@asynccontextmanager
async def coaps(
    port: int, trusted: str, identity: Issued | None = None, psk: Psk | None = None
) -> AsyncIterator[tuple[Coap, Dtls]]:
    """A device whose handshake is done. Raises `Refusal`."""
    context = datagram_context(trusted, identity)
    callback = with_key(context, psk) if psk is not None else None
    device = Coap()
    loop = asyncio.get_running_loop()
    _, dtls = await loop.create_datagram_endpoint(
        lambda: Dtls(context, device), remote_addr=(HOST, port)
    )
    try:
        async with asyncio.timeout(WAIT_S):
            await dtls.open
        yield device, dtls
    finally:
        dtls.close()
        del callback
        await asyncio.sleep(0)


# ── by hand ───────────────────────────────────────────────────────────────────────────────────


def client_hello(cookie: bytes = b"", random: bytes | None = None) -> bytes:
    """A ClientHello of DTLS 1.2 as one record, by hand (RFC 6347, section 4.2.1)."""
    suites = bytes.fromhex("c02bc02c00ff")
    extensions = bytes.fromhex("000a00040002001700 0b00020100 000d000400020403")
    body = b"\xfe\xfd" + (random or os.urandom(32)) + b"\0" + bytes((len(cookie),)) + cookie
    body += len(suites).to_bytes(2) + suites + b"\1\0"
    body += len(extensions).to_bytes(2) + extensions
    size = len(body).to_bytes(3)
    message = b"\1" + size + b"\0\0" + b"\0\0\0" + size + body
    return b"\x16\xfe\xff" + bytes(8) + len(message).to_bytes(2) + message


def cookie_in(answer: bytes) -> bytes:
    """Of a HelloVerifyRequest."""
    assert answer[0] == 22
    assert answer[13] == 3
    return answer[28 : 28 + answer[27]]
