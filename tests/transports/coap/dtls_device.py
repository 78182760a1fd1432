"""A CoAPS device on pyOpenSSL and a socket, for what well-behaved clients do not do; and the gate
it speaks to, whose core is a stub."""

from __future__ import annotations

import asyncio
import functools
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import certs
from OpenSSL import SSL, _util

from gateway.core.model import Identity, Peer, Presented, Refused, Secret, Vouched
from gateway.transports.coap import CoapListener
from gateway.transports.coap import message as coap
from gateway.transports.coap.dtls import Dtls
from gateway.transports.coap.message import Message

FACTORY = certs.Authority("factory")
SERVER = FACTORY.server()
DEVICE = FACTORY.issue("meter-1")
KEY = bytes(range(32))


class Contexts:
    """As the real ones: one context, another after `renew`."""

    def __init__(self, server: certs.Issued = SERVER) -> None:
        self.renew(server)

    def renew(self, server: certs.Issued) -> None:
        self.datagram = SSL.Context(SSL.DTLS_SERVER_METHOD)
        self.datagram.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
        self.datagram.use_certificate(server.certificate)
        self.datagram.use_privatekey(server.key)
        self.datagram.set_verify(SSL.VERIFY_PEER, lambda *_: True)


class Core:
    """Vouches for whom it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.judgement: Refused | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.chains: list[tuple[bytes, ...]] = []
        self.peers: list[Peer] = []
        self.cuts: list[Callable[[], None]] = []
        self.named: list[str] = []
        self.released = 0
        self.reports: list[tuple[str, int]] = []

    async def vouch(
        self, chain: tuple[bytes, ...], peer: Peer, cut: Callable[[], None]
    ) -> Vouched | Refused:
        self.chains.append(chain)
        self.peers.append(peer)
        self.cuts.append(cut)
        await self.gate.wait()
        return self.judgement or self._known(8)

    async def key_of(self, identity: str) -> Presented | None:
        self.named.append(identity)
        await self.gate.wait()
        return Presented(KEY, Identity(Secret("p"), 7)) if identity == "meter-7" else None

    async def guard(self, identity: Identity, peer: Peer, cut: Callable[[], None]) -> Vouched:
        self.cuts.append(cut)
        return self._known(identity.device_id)

    def report(self, reason: str, peer: Peer, count: int) -> None:
        self.reports.append((reason, count))

    def _known(self, device_id: int) -> Vouched:
        return Vouched(Identity(Secret("c"), device_id), self._release)

    def _release(self) -> None:
        self.released += 1


class Gate:
    """A listener over DTLS on a port of its own, with a clock that can be wound on."""

    def __init__(self, service: Any, **bounds: Any) -> None:
        self.core = Core()
        self.contexts = Contexts()
        self.skew = 0.0
        own = {"piggyback_s", "max_waiting"}
        self.dtls = Dtls(
            self.contexts,
            vouch=self.core.vouch,
            keys=self.core,
            report=self.core.report,
            now=lambda: time.monotonic() + self.skew,
            **{k: v for k, v in bounds.items() if k not in own},
        )
        self.listener = CoapListener(
            service.router,
            host="127.0.0.1",
            port=0,
            links=service.links,
            dtls=self.dtls,
            **{k: v for k, v in bounds.items() if k in own},
        )

    @property
    def port(self) -> int:
        return self.listener.port

    def pass_time(self, seconds: float) -> None:
        self.skew += seconds
        self.dtls.tick()


class Device:
    """One UDP port, and a DTLS session on it; `again` makes another on the same port."""

    def __init__(self, port: int, *, source: str = "127.0.0.1", **options: Any) -> None:
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((source, 0))
        self.udp.setblocking(False)
        self.udp.connect(("127.0.0.1", port))
        self.options = options
        self.sent: list[bytes] = []
        self.heard: list[bytes] = []
        self.lose: Callable[[bytes], bool] = lambda datagram: False
        """Which of its datagrams are lost on the way."""
        self._ids = 0
        self.again()

    @property
    def name(self) -> str:
        host, port = self.udp.getsockname()
        return f"{host}:{port}"

    def again(self, **options: Any) -> None:
        self.options = {**self.options, **options}
        self.connection = SSL.Connection(_context(**self.options))
        self.connection.set_connect_state()
        self.connection.set_ciphertext_mtu(1200)

    def close(self) -> None:
        self.udp.close()

    # ── datagrams ─────────────────────────────────────────────────────────────────────────────

    def output(self) -> bytes:
        flight = b""
        try:
            while True:
                flight += self.connection.bio_read(65536)
        except SSL.WantReadError:
            return flight

    def flush(self) -> None:
        flight = self.output()
        if flight:
            self.transmit(flight)

    def transmit(self, datagram: bytes) -> None:
        self.sent.append(datagram)
        if not self.lose(datagram):
            self.udp.send(datagram)

    async def hear(self, within_s: float = 3.0) -> bytes:
        async with asyncio.timeout(within_s):
            datagram = await asyncio.get_running_loop().sock_recv(self.udp, 65536)
        self.heard.append(datagram)
        return datagram

    async def silence(self, for_s: float = 0.05) -> None:
        """Raises when anything comes."""
        try:
            datagram = await self.hear(for_s)
        except TimeoutError:
            return
        raise AssertionError(f"heard {datagram[:16].hex()}")

    # ── a session ─────────────────────────────────────────────────────────────────────────────

    def step(self) -> bool:
        """Go on with the handshake; whether it is done. Raises `SSL.Error` for an alert."""
        try:
            self.connection.do_handshake()
            return True
        except SSL.WantReadError:
            return False
        finally:
            self.flush()

    async def shake(self, within_s: float = 5.0) -> None:
        """The whole handshake, with repetitions in time."""
        async with asyncio.timeout(within_s):
            while not self.step():
                await self._hear_or_repeat()

    async def _hear_or_repeat(self) -> None:
        wait_s = self.connection.DTLSv1_get_timeout()
        try:
            self.connection.bio_write(await self.hear(3.0 if wait_s is None else wait_s + 0.001))
        except TimeoutError:
            self.connection.DTLSv1_handle_timeout()
            self.flush()

    async def half_shake(self) -> None:
        """As far as the server's first flight, and not a word more."""
        self.step()
        self.connection.bio_write(await self.hear())
        self.step()
        await self.hear()

    async def last_words(self) -> bytes:
        """All of the handshake but our last flight, which is returned and not sent."""
        self.step()
        self.connection.bio_write(await self.hear())
        self.step()
        self.connection.bio_write(await self.hear())
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            return self.output()
        raise AssertionError("done already")

    def post(self, plain: bytes) -> None:
        self.connection.send(plain)
        self.flush()

    async def read(self, within_s: float = 3.0) -> bytes:
        """What the next record holds. Raises `SSL.ZeroReturnError` at close_notify."""
        while True:
            try:
                return self.connection.recv(65536)
            except SSL.WantReadError:
                self.connection.bio_write(await self.hear(within_s))

    def request(self, code: int = coap.POST, path: str = "plain", **more: Any) -> bytes:
        self._ids += 1
        segments = [(coap.URI_PATH, part.encode()) for part in path.split("/")]
        options = [*more.get("options", ()), *segments]
        token = more.get("token", b"tokn")
        number = more.get("message_id", self._ids)
        type_ = more.get("type_", coap.CON)
        return coap.encode(
            Message(type_, code, number, token, sorted(options), more.get("payload", b""))
        )

    async def ask(self, code: int = coap.POST, path: str = "plain", **more: Any) -> Message:
        """Its answer; others that come meanwhile are passed over."""
        request = self.request(code, path, **more)
        self.post(request)
        while True:
            answer = coap.decode(await self.read())
            if answer.token == coap.decode(request).token:
                return answer


class Pipe:
    """A client without a socket, its flights one by one: hello, cookie, last, and `hi`."""

    addr = ("192.0.2.7", 50123)

    def __init__(self, dtls: Dtls, heard: list[bytes]) -> None:
        self._dtls = dtls
        self._heard = heard
        self._connection = SSL.Connection(_context(DEVICE))
        self._connection.set_connect_state()
        self._connection.set_ciphertext_mtu(1200)

    def next(self) -> bytes:
        heard, self._heard[:] = list(self._heard), []
        done = False
        for datagram in heard or [b""]:
            if datagram:
                self._connection.bio_write(datagram)
            with suppress(SSL.Error):
                self._connection.do_handshake()
                done = True
        if done:
            self._connection.send(b"hi")
        with suppress(SSL.Error):
            return self._connection.bio_read(65536)
        return b""

    async def send(self, datagram: bytes) -> None:
        self._dtls.received(datagram, self.addr)
        for _ in range(6):
            await asyncio.sleep(0)


def _context(
    issued: certs.Issued | None = None,
    psk: tuple[str, bytes] | None = None,
    ciphers: bytes = b"ALL:@SECLEVEL=0",
    chain: bool = False,
) -> SSL.Context:
    context = SSL.Context(SSL.DTLS_CLIENT_METHOD)
    context.set_options(SSL.OP_NO_QUERY_MTU)
    context.set_cipher_list(ciphers)
    if issued is not None:
        context.use_certificate(issued.certificate)
        context.use_privatekey(issued.key)
        for der in issued.issuers if chain else ():
            context.add_extra_chain_cert(certs.x509.load_der_x509_certificate(der))
    if psk is not None:
        _give_psk(context, *psk)
    return context


_kept: list[Any] = []


def _give_psk(context: SSL.Context, name: str, key: bytes) -> None:
    lib, ffi = _util.lib, _util.ffi

    def give(_ssl: Any, _hint: Any, identity: Any, room: int, place: Any, most: int) -> int:
        named = name.encode("utf-8", "surrogateescape")
        ffi.memmove(identity, named + b"\0", len(named) + 1)
        ffi.memmove(place, key, len(key))
        return len(key)

    callback = ffi.callback(
        "unsigned int (*)(SSL *, const char *, char *, unsigned int,"
        " unsigned char *, unsigned int)",
        give,
    )
    _kept.append(callback)
    lib.SSL_CTX_set_psk_client_callback(context._context, callback)


async def until(condition: Callable[[], Any], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


@functools.cache
def folder_of(path: Path) -> dict[str, str]:
    """The files a command-line client needs."""
    path.mkdir(exist_ok=True)
    certificate, key = DEVICE.files(path)
    root = path / "root.pem"
    root.write_text(FACTORY.pem, "ascii")
    return {"certificate": str(certificate), "key": str(key), "root": str(root)}
