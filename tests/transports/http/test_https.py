"""HTTP over TLS: who is asked for, and what is told to whoever is refused."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl

import certs
import pytest
from http_ground import ROUTES, error_body, make_listener, shapes

from gateway.core.model import Identity, RefusalReason, Refused, Secret, Vouched, Wire
from gateway.transports.http_answers import Answers
from gateway.transports.tls import Contexts, TlsServer
from gateway.wire.call import Format, Reply, Status
from gateway.wire.route import Route

IDENTITY = Identity(Secret("a" * 64), 7)


class Desk:
    """Vouches for whom it was told to, and remembers the calls."""

    def __init__(self):
        self.verdict = None
        self.asked = []
        self.released = 0
        self.calls = []
        self.news = asyncio.Event()
        self.waiting = 0

    async def vouch(self, chain, peer, cut):
        self.asked.append((chain, peer, cut))
        return self.verdict or Vouched(IDENTITY, self.release)

    def release(self):
        self.released += 1

    async def who(self, call):
        self.calls.append(call)
        return Reply(str(call.identity and call.identity.device_id).encode(), format=Format.TEXT)

    async def wait(self, call):
        self.waiting += 1
        try:
            await self.news.wait()
        finally:
            self.waiting -= 1
        return Reply(b"news")

    async def large(self, call):
        return Reply(b"0123456789" * 100_000)

    async def own_type(self, call):
        return Reply(b"MII", format=Format.TEXT, headers={"Content-Type": "application/pkix-crl"})

    async def basic(self, call):
        headers = {"WWW-Authenticate": 'Basic realm="est"'}
        return Reply(status=Status.UNAUTHENTICATED, headers=headers)


@pytest.fixture
async def desk():
    return Desk()


@pytest.fixture
def root():
    return certs.Authority("tests' root")


@pytest.fixture
async def listener(desk, root, tmp_path):
    contexts = Contexts(*root.server().files(tmp_path, "server"))
    contexts.load()
    routes = [
        Route(name="who", handler=desk.who, http=("GET /who", "POST /who")),
        Route(name="poll", handler=desk.wait, http=("GET /poll",), patient=True),
        Route(name="large", handler=desk.large, http=("GET /large",)),
        Route(name="own", handler=desk.own_type, http=("GET /own",)),
        Route(name="basic", handler=desk.basic, http=("GET /basic",)),
        *ROUTES,
    ]
    served = make_listener(routes, tls=TlsServer(contexts), vouch=desk.vouch)
    await served.start()
    yield served
    await served.stop(1.0)


@pytest.fixture
async def curl(listener, root, tmp_path):
    """Runs curl; what it printed: the answer's head and body."""
    (tmp_path / "root.pem").write_text(root.pem)

    async def run(path, *options, identity=None):
        if identity is not None:
            certificate, key = identity.files(tmp_path)
            options = ("--cert", str(certificate), "--key", str(key), *options)
        process = await asyncio.create_subprocess_exec(
            "curl",
            *("-sS", "-i", "--cacert", str(tmp_path / "root.pem"), "--max-time", "10"),
            *options,
            f"https://localhost:{listener.port}{path}",
            *("--resolve", f"localhost:{listener.port}:127.0.0.1"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert process.stdout is not None
        printed = await process.stdout.read()
        await process.wait()
        return printed.decode()

    return run


async def open_tls(listener, root, identity=None, tmp_path=None):
    context = ssl.create_default_context(cadata=root.pem)
    if identity is not None:
        context.load_cert_chain(*identity.files(tmp_path))
    return await asyncio.open_connection(
        "127.0.0.1", listener.port, ssl=context, server_hostname="localhost"
    )


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


@needs_curl
@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_curl_with_a_certificate(desk, curl, version):
    """A certificate that is known makes each call the device's, and is let go in the end."""
    device = certs.self_signed("device-1")

    printed = await curl("/who", "--tls-max", version, identity=device)

    assert printed.startswith("HTTP/1.1 200")
    assert printed.endswith("\r\n\r\n7")
    assert desk.asked[0][0] == (device.der,)
    assert desk.asked[0][1].wire is Wire.HTTPS
    assert desk.calls[0].identity == IDENTITY
    assert desk.calls[0].peer.address == desk.asked[0][1].address
    assert desk.calls[0].headers["Host"].startswith("localhost")
    await until(lambda: desk.released == 1)


@needs_curl
async def test_curl_without_a_certificate(desk, curl):
    """Nobody is vouched for; the call is served as one of nobody's."""
    printed = await curl("/who")
    assert printed.endswith("\r\n\r\nNone")
    assert desk.asked == []


@needs_curl
@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (RefusalReason.EXPIRED_LEAF, "has expired"),
        (RefusalReason.UNKNOWN_CA, "of an unknown authority"),
        (RefusalReason.CREDENTIALS_REVOKED, "was revoked"),
        (RefusalReason.BLOCKED, "lets nobody in"),
    ],
)
async def test_a_refused_certificate_gets_401_in_words(desk, curl, reason, words):
    """Whoever is refused is told why, whatever it asks for, and hung up on."""
    desk.verdict = Refused(reason)
    printed = await curl("/echo/tok-secret", "-d", "x" * 500, identity=certs.self_signed("d"))
    assert printed.startswith("HTTP/1.1 401")
    assert words in printed
    assert "connection: close" in printed.lower()
    assert desk.calls == []


def test_every_reason_has_a_sentence():
    """No reason is told by its name, and none breaks the answer."""
    answers = Answers(shapes(error_body))
    for reason in RefusalReason:
        body = answers.refused(reason).body
        assert b"client certificate" in body
        assert reason.value.encode() not in body


async def test_each_call_of_a_connection_is_its_devices(desk, listener, root, tmp_path):
    """One handshake and one question serve all calls of a kept connection."""
    reader, writer = await open_tls(listener, root, certs.self_signed("d"), tmp_path)
    for _ in range(3):
        writer.write(b"GET /who HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await reader.readuntil(b"\r\n\r\n7")
        assert answer.startswith(b"HTTP/1.1 200")
    assert (len(desk.asked), desk.released) == (1, 0)

    writer.close()
    await until(lambda: desk.released == 1)


async def test_whoever_is_revoked_is_cut(desk, listener, root, tmp_path):
    """`cut` ends the connection, and the long poll that waits on it."""
    reader, writer = await open_tls(listener, root, certs.self_signed("d"), tmp_path)
    writer.write(b"GET /poll HTTP/1.1\r\nHost: x\r\n\r\n")
    await until(lambda: desk.waiting == 1)

    desk.asked[0][2]()

    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        await reader.readexactly(1)
    await until(lambda: desk.waiting == 0 and desk.released == 1)
    writer.transport.abort()


async def test_a_poll_nobody_waits_for_any_more_is_over(desk, listener, root):
    """A client that leaves is noticed under TLS, too."""
    _, writer = await open_tls(listener, root)
    writer.write(b"GET /poll HTTP/1.1\r\nHost: x\r\n\r\n")
    await until(lambda: desk.waiting == 1)
    writer.transport.abort()
    await until(lambda: desk.waiting == 0)


async def test_a_slow_client_gets_all_of_a_large_answer(listener, root):
    """A megabyte arrives whole when it is read in small steps."""
    plain = socket.socket()
    plain.setblocking(False)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", listener.port))
    context = ssl.create_default_context(cadata=root.pem)
    reader, writer = await asyncio.open_connection(
        sock=plain, ssl=context, server_hostname="localhost", limit=4096
    )
    writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    body = bytearray()
    async with asyncio.timeout(20):
        while data := await reader.read(3000):
            body += data
            await asyncio.sleep(0)
    assert body == b"0123456789" * 100_000
    writer.close()


async def test_a_reply_may_name_its_own_type(listener, root):
    """A Content-Type among a reply's headers is the one that is sent, once."""
    reader, writer = await open_tls(listener, root)
    writer.write(b"GET /own HTTP/1.1\r\nHost: x\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.lower().count(b"content-type:") == 1
    assert b"Content-Type: application/pkix-crl\r\n" in head
    writer.close()


async def test_a_reply_may_ask_for_a_login(listener, root):
    """A 401 carries the WWW-Authenticate its route gave it (RFC 9110, section 11.6.1)."""
    reader, writer = await open_tls(listener, root)
    writer.write(b"GET /basic HTTP/1.1\r\nHost: x\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 401")
    assert b'WWW-Authenticate: Basic realm="est"\r\n' in head
    writer.close()


async def test_no_room_is_said_over_tls(listener, root):
    """One connection too many gets its 503 under TLS."""
    held = [await open_tls(listener, root) for _ in range(5)]
    for _, writer in held:
        writer.write(b"GET /who HTTP/1.1\r\nHost: x\r\n\r\n")
    for reader, _ in held:
        await reader.readuntil(b"\r\n\r\nNone")
    reader, writer = await open_tls(listener, root)
    assert (await reader.read()).startswith(b"HTTP/1.1 503")
    for _, each in [*held, (reader, writer)]:
        each.close()


async def test_stopping_answers_who_waits(desk, listener, root):
    """A long poll under TLS is told to come back, and the connection closes properly."""
    reader, writer = await open_tls(listener, root)
    writer.write(b"GET /poll HTTP/1.1\r\nHost: x\r\n\r\n")
    await until(lambda: desk.waiting == 1)
    await listener.stop(1.0)
    assert (await reader.read()).startswith(b"HTTP/1.1 503")
    writer.close()
