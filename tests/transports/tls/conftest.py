"""Protocols behind TLS on loopback, and clients to reach them. On both loops they may meet."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress

import certs
import pytest
import uvloop

from gateway.core.model import Wire
from gateway.transports.listening import listen_tcp, port_of
from gateway.transports.tls import Contexts, TlsServer


def pytest_asyncio_loop_factories():
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Echo(asyncio.Protocol):
    """Sends back what it gets, and remembers what happened to it."""

    def __init__(self):
        self.happened = []
        self.received = bytearray()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.happened.append("made")

    def data_received(self, data):
        self.received += data
        self.transport.write(data)

    def eof_received(self):
        self.happened.append("eof")

    def pause_writing(self):
        self.happened.append("pause")

    def resume_writing(self):
        self.happened.append("resume")

    def connection_lost(self, exc):
        self.happened.append("lost")
        self.lost.set_result(exc)


class Served:
    """One listener: its port, what it made, and what it reported."""

    def __init__(self, contexts, protocol, **options):
        self.contexts = contexts
        self.made = []
        self.reports = []
        self.protocol = protocol
        self.vouch = options.pop("vouch", None)
        report = lambda *told: self.reports.append(told)  # noqa: E731
        self.tls = TlsServer(contexts, report=report, **options)

    def _make(self):
        self.made.append(self.protocol())
        return self.made[-1]

    async def start(self):
        factory = self.tls.under(self._make, wire=Wire.MQTTS, vouch=self.vouch)
        self.servers = await listen_tcp(factory, "127.0.0.1", 0, 1024)
        self.port = port_of(self.servers)

    async def stop(self):
        for server in self.servers:
            server.close()
        self.tls.stop()
        for protocol in self.made:
            protocol.transport.abort()
        await asyncio.sleep(0.01)


@pytest.fixture(scope="session")
def root():
    return certs.Authority("tests' root")


@pytest.fixture(scope="session")
def server_identity(root):
    return root.server()


@pytest.fixture
def files(server_identity, tmp_path):
    """The server's certificate and key."""
    return server_identity.files(tmp_path, "server")


@pytest.fixture
def contexts(files):
    made = Contexts(*files)
    made.load()
    return made


@pytest.fixture
async def serve(contexts):
    started = []

    async def start(protocol=Echo, *, own=None, **options):
        served = Served(own or contexts, protocol, **options)
        await served.start()
        started.append(served)
        return served

    yield start
    for served in started:
        await served.stop()


@pytest.fixture
def client(root, tmp_path):
    """Makes the context of a client: of one TLS version, with a certificate or without."""

    def make(version=None, identity=None, *, issuers=True):
        context = ssl.create_default_context(cadata=root.pem)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        if identity is not None:
            certificate, key = identity.files(tmp_path, "client")
            if not issuers:
                certificate.write_text(identity.pem)
            context.load_cert_chain(certificate, key)
        return context

    return make


@pytest.fixture
async def dial(client):
    """Opens TLS connections, or plain ones with `secure=False`; drops them all in the end.

    A narrow one reads only what it is asked for.
    """
    opened = []

    async def connect(served, context=None, *, secure=True, narrow=False, source="127.0.0.1"):
        options = {"ssl": context or client(), "server_hostname": "localhost"} if secure else {}
        plain = socket.socket()
        plain.setblocking(False)
        plain.bind((source, 0))
        if narrow:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            options["limit"] = 1024
        await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", served.port))
        stream = await asyncio.open_connection(sock=plain, **options)
        opened.append(stream[1])
        return stream

    yield connect
    for writer in opened:
        writer.transport.abort()
        with suppress(Exception):
            await writer.wait_closed()
    await asyncio.sleep(0.01)


async def until(condition, timeout_s=5.0):
    """Until it holds, or the test fails."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)
