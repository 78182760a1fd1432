"""One TLS connection: to its socket a protocol, to the protocol it serves a transport."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

import structlog
from OpenSSL import SSL, crypto

from gateway.core.errors import GatehouseError
from gateway.core.model import Peer, Refused, Vouched, Wire
from gateway.transports.listening import peer_name
from gateway.transports.tls.contexts import reason_of
from gateway.transports.tls.records import Records
from gateway.wire.call import Vouch

if TYPE_CHECKING:
    from gateway.transports.tls.server import TlsServer

log = structlog.get_logger()

Bytes = bytes | bytearray | memoryview

_RECORD = 16_384
"""Bytes of the application in one record at most (RFC 8446, section 5.1)."""
_OVERHEAD = 1024
"""Room for what a record adds, and for what OpenSSL has to say before it."""
_FEED = 16_384
"""Bytes given to OpenSSL at once: its buffers never shrink."""
_OUT = 8192
_HANDSHAKE = 22
"""The first byte of every handshake (RFC 8446, section 5.1)."""
OVERSIZED_CHAIN = "oversized_chain"
UNDECIDED = "undecided"
"""The store could not tell who it is."""


class TlsStream(asyncio.Transport, asyncio.Protocol):
    """In turn: handshake, asking who it is (`vouch`), open, closed.

    `get_extra_info` knows, beside what the socket's transport does: `chain` (DER, the peer's leaf
    first; empty without a certificate), `verdict` (what `vouch` answered, else None),
    `tls_version`, and `cipher`.
    """

    __slots__ = (
        "_asking",
        "_closing",
        "_connection",
        "_due",
        "_eof",
        "_factory",
        "_held",
        "_inner",
        "_paused",
        "_queued",
        "_raw",
        "_received",
        "_records",
        "_server",
        "_shaken",
        "_tickets",
        "_verdict",
        "_vouch",
        "_wire",
    )

    def __init__(
        self,
        server: TlsServer,
        factory: Callable[[], asyncio.Protocol],
        wire: Wire,
        vouch: Vouch | None,
    ) -> None:
        self._server = server
        self._factory = factory
        self._wire = wire
        self._vouch = vouch
        self._connection: SSL.Connection | None = None
        self._inner: asyncio.Protocol | None = None
        self._verdict: Vouched | Refused | None = None
        self._asking: asyncio.Task[None] | None = None
        self._held: Bytes = b""
        """Received, and not given to OpenSSL yet."""
        self._received = 0
        self._records = Records()
        self._due = 0
        """How often OpenSSL may have something for the protocol, at most."""
        self._closing = False
        self._paused = False
        self._queued = False
        self._shaken = False
        self._tickets = False
        """Whether OpenSSL holds tickets of TLS 1.3. Nobody can use them: they go with what is
        written first, as does an answer to a KeyUpdate (RFC 8446, section 4.6.3)."""
        self._eof = False

    @property
    def peer(self) -> Peer:
        return Peer(self._wire, peer_name(self._raw.get_extra_info("peername")))

    @property
    def host(self) -> str:
        """The peer's address without its port; empty when it is gone already."""
        name = self._raw.get_extra_info("peername")
        return str(name[0]) if name else ""

    # ── the socket's protocol ─────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast(asyncio.Transport, transport)  # uvloop's has the methods, not the class
        if not self._server.enter(self):
            self.abort()

    def data_received(self, data: bytes) -> None:
        if self._inner is None or self._paused or self._held:
            self._hold(data)
        elif len(data) > _FEED:
            self._held = memoryview(data)
            self._read()
        elif self._connection is not None and not self._closing:
            self._connection.bio_write(data)
            self._due += self._records.ended(data)
            self._deliver(self._connection, self._inner)

    def eof_received(self) -> bool:
        """True keeps the socket open: there are bytes that were not looked at."""
        if self._held and not self._closing:
            self._eof = True
            return True
        if self._inner is not None and not self._closing:
            self._inner.eof_received()
        return False

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._shaken:
            log.debug("tls.handshake_unfinished", wire=self._wire)
        self._closing = True
        self._held = b""
        self._connection = None
        self._server.leave(self)
        if self._asking is not None:
            self._asking.cancel()  # nobody waits for the answer any more
        inner, self._inner = self._inner, None
        if isinstance(self._verdict, Vouched):
            self._verdict.release()
        if inner is not None:
            inner.connection_lost(exc)

    # ── the handshake ─────────────────────────────────────────────────────────────────────────

    def _hold(self, data: bytes) -> None:
        """Keep what cannot be looked at now; before the handshake is done, get in line with it."""
        if self._closing:
            return
        self._held = b"".join((self._held, data)) if self._held else data
        if self._shaken:
            return
        if len(self._held) > _FEED:
            self._raw.pause_reading()
        if not self._queued:
            self._queued = True
            self._server.queue(self, begun=self._connection is not None)

    def proceed(self) -> None:
        """Take the handshake on with what is here. Called by the server when it is our turn."""
        self._queued = False
        if self._closing or not self._held:
            return
        connection = self._connection or self._begin()
        if connection is None:
            return
        try:
            done = self._step(connection)
        except SSL.Error as exc:
            self._fail(connection, exc)
        else:
            self._after_step(connection, done)

    def _begin(self) -> SSL.Connection | None:
        """Nothing is spent on those who do not speak TLS."""
        if self._held[0] != _HANDSHAKE:
            log.debug("tls.not_tls", peer=self.peer.address)
            self.abort()
            return None
        self._connection = SSL.Connection(self._server.contexts.stream)
        self._connection.set_accept_state()
        return self._connection

    def _after_step(self, connection: SSL.Connection, done: bool) -> None:
        if self._closing:
            return
        self._tickets = done and connection.get_protocol_version() >= SSL.TLS1_3_VERSION
        if not self._tickets:
            self._flush(connection)
        if done:
            self._shaken = True
            self._ask()
        elif self._eof:
            self.abort()
        else:
            self._raw.resume_reading()

    def _step(self, connection: SSL.Connection) -> bool:
        """Whether the handshake is done. Raises `SSL.Error` when it failed."""
        most = self._server.contexts.max_chain_bytes + _FEED
        while self._held:
            piece, self._held = self._held[:_FEED], self._held[_FEED:]
            self._received += len(piece)
            if self._received > most:
                self._server.tally.count(OVERSIZED_CHAIN, self.peer)
                self.abort()
                return False
            connection.bio_write(piece)
            self._due = self._records.ended(piece) - 1  # at least one was the handshake's
            try:
                connection.do_handshake()
            except SSL.WantReadError:
                continue
            return True
        return False

    def _ask(self) -> None:
        """The peer has the key of its leaf, if it showed one. Who is it?"""
        most = self._server.contexts.max_chain_bytes
        if self._received > most and sum(map(len, self._chain())) > most:
            self._server.tally.count(OVERSIZED_CHAIN, self.peer)
            self.close()
            return
        chain = () if self._vouch is None else self._chain()
        if chain and self._vouch is not None:
            self._raw.pause_reading()
            loop = asyncio.get_running_loop()
            self._asking = loop.create_task(self._await_verdict(self._vouch, chain))
        else:
            self._open()

    async def _await_verdict(self, vouch: Vouch, chain: tuple[bytes, ...]) -> None:
        try:
            verdict = await vouch(chain, self.peer, self.abort)
        except GatehouseError:  # the store's: it says so itself, and a storm would repeat it
            self._server.tally.count(UNDECIDED, self.peer)
            self.abort()
            return
        except Exception:
            log.exception("tls.vouch_failed", peer=self.peer.address)
            self.abort()
            return
        finally:
            self._asking = None
        if not self._closing:
            self._verdict = verdict
            self._open()
        elif isinstance(verdict, Vouched):
            verdict.release()

    def _open(self) -> None:
        self._server.leave(self)
        self._inner = self._factory()
        self._inner.connection_made(self)
        if self.is_reading():
            if not self._eof:
                self._raw.resume_reading()
            self._read()

    # ── bytes in ──────────────────────────────────────────────────────────────────────────────

    def _read(self) -> None:
        """Deliver what is here, until there is no more or no more is wanted."""
        while self._connection is not None and self._inner is not None and self.is_reading():
            self._deliver(self._connection, self._inner)
            if not self.is_reading():
                return
            if not self._held:
                if self._eof:
                    self._end()
                return
            piece, self._held = self._held[:_FEED], self._held[_FEED:]
            self._connection.bio_write(piece)
            self._due += self._records.ended(piece)

    def _deliver(self, connection: SSL.Connection, inner: asyncio.Protocol) -> None:
        while self._due > 0 and not self._paused:
            self._due -= 1
            try:
                data = connection.recv(_RECORD)
            except SSL.WantReadError:
                # What came was for OpenSSL itself, which may have answered it.
                self._due = 0
                if not self._tickets:
                    self._flush(connection)
                return
            except SSL.ZeroReturnError:
                self._end()
                return
            except SSL.Error as exc:
                self._fail(connection, exc)
                return
            inner.data_received(data)
            if self._closing:
                return

    def pause_reading(self) -> None:
        if not self._closing:
            self._paused = True
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        if not self._closing and self._paused:
            self._paused = False
            self._raw.resume_reading()
            # Some may wait here that came before the pause; not from within the caller.
            asyncio.get_running_loop().call_soon(self._read)

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    # ── bytes out ─────────────────────────────────────────────────────────────────────────────

    def write(self, data: Bytes) -> None:
        connection, size = self._connection, len(data)
        if self._closing or connection is None or not size:
            return
        self._tickets = False
        try:
            if size <= _RECORD:
                connection.send(data)
                self._raw.write(connection.bio_read(size + _OVERHEAD))
            else:
                self._write_large(connection, memoryview(data))
        except SSL.Error as exc:
            self._fail(connection, exc)

    def _write_large(self, connection: SSL.Connection, data: memoryview) -> None:
        start, size = 0, len(data)
        while start < size and not self._closing:
            start += connection.send(data[start : start + _RECORD])
            self._raw.write(connection.bio_read(_RECORD + _OVERHEAD))

    def writelines(self, list_of_data: Iterable[Bytes]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._raw.get_write_buffer_limits()

    def get_write_buffer_size(self) -> int:
        """Bytes on their way, as they are sent: a little more than was written."""
        return self._raw.get_write_buffer_size()

    def _flush(self, connection: SSL.Connection) -> None:
        """Send what OpenSSL has to say by itself."""
        with contextlib.suppress(SSL.WantReadError):
            while True:
                data = connection.bio_read(_OUT)
                self._raw.write(data)
                if len(data) < _OUT:
                    return

    # ── what is known ─────────────────────────────────────────────────────────────────────────

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        connection = self._connection
        match name:
            case "chain":
                return self._chain()
            case "verdict":
                return self._verdict
            case "tls_version":
                return default if connection is None else connection.get_protocol_version_name()
            case "cipher":
                return default if connection is None else connection.get_cipher_name()
        return self._raw.get_extra_info(name, default)

    def _chain(self) -> tuple[bytes, ...]:
        """Made anew each time: OpenSSL keeps the certificates anyway, and one copy is enough."""
        leaf = None if self._connection is None else self._connection.get_peer_certificate()
        if leaf is None or self._connection is None:
            return ()
        issuers = self._connection.get_peer_cert_chain() or []  # of a client: without its leaf
        return tuple(
            crypto.dump_certificate(crypto.FILETYPE_ASN1, each) for each in (leaf, *issuers)
        )

    def is_closing(self) -> bool:
        return self._closing

    # ── the end ───────────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """Say so to the peer, send what was written, then close."""
        if self._closing:
            return
        self._closing = True
        self._held = b""
        if self._connection is not None:
            with contextlib.suppress(SSL.Error):
                self._connection.shutdown()
            self._flush(self._connection)
        self._raw.close()

    def abort(self) -> None:
        """Close at once and drop what was not sent."""
        self._closing = True
        self._held = b""
        self._raw.abort()

    def _end(self) -> None:
        """The peer said that nothing more will come, or hung up without saying it."""
        if self._inner is not None:
            self._inner.eof_received()
        self.close()

    def _fail(self, connection: SSL.Connection, exc: SSL.Error) -> None:
        """What came is no TLS, or OpenSSL does not take it: tell the peer (an alert), and close."""
        log.debug("tls.failed", peer=self.peer.address, reason=reason_of(exc))
        stuck = self._raw.get_write_buffer_size() > 0
        self._flush(connection)
        self._closing = True
        self._held = b""
        if stuck:  # the alert would wait behind bytes that nobody takes
            self._raw.abort()
        else:
            self._raw.close()
