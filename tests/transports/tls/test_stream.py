"""One TLS connection, as the protocol it serves and as the peer see it."""

from __future__ import annotations

import asyncio
import socket
import ssl

import certs
import pytest
from structlog.testing import capture_logs
from transports.tls.conftest import Echo, until

from gateway.core.errors import StoreUnavailable
from gateway.core.model import RefusalReason, Refused, Vouched

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
NAMES = {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}


@pytest.mark.parametrize("version", VERSIONS)
async def test_bytes_go_both_ways(serve, client, dial, version):
    """What a client sends arrives and comes back, and the transport knows what was agreed on."""
    served = await serve()
    reader, writer = await dial(served, client(version))

    writer.write(b"hello")

    assert await reader.readexactly(5) == b"hello"
    transport = served.made[0].transport
    assert transport.get_extra_info("tls_version") == NAMES[version]
    assert transport.get_extra_info("cipher") == writer.get_extra_info("cipher")[0]
    assert transport.get_extra_info("chain") == ()
    assert transport.get_extra_info("verdict") is None
    assert transport.get_extra_info("peername") == writer.get_extra_info("sockname")
    assert transport.get_extra_info("ssl_object") is None
    assert served.tls.handshakes == 0


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_client_shows_its_chain(serve, client, dial, root, version):
    """A certificate's key is proven, and what was sent is given on: the leaf first, in DER."""
    issuing = certs.Authority("issuing", parent=root)
    device = issuing.issue("device-1")
    served = await serve()
    reader, writer = await dial(served, client(version, device))

    writer.write(b"x")
    await reader.readexactly(1)

    assert served.made[0].transport.get_extra_info("chain") == (device.der, issuing.der)


@pytest.mark.parametrize("version", VERSIONS)
async def test_any_certificate_will_do(serve, client, dial, version):
    """A certificate of nobody's, expired, is no reason to refuse the handshake."""
    device = certs.expired_leaf(certs.Authority("of nobody's"))
    served = await serve()
    reader, writer = await dial(served, client(version, device, issuers=False))

    writer.write(b"x")

    assert await reader.readexactly(1) == b"x"
    assert served.made[0].transport.get_extra_info("chain") == (device.der,)


@pytest.mark.parametrize("version", VERSIONS)
async def test_nothing_is_resumed(serve, client, dial, version):
    """A client that offers its last session gets a whole handshake, and shows its chain again."""
    served, context = await serve(), client(version, certs.self_signed("device-1"))
    reader, writer = await dial(served, context)
    writer.write(b"x")
    await reader.readexactly(1)
    session = writer.get_extra_info("ssl_object").session

    def again():
        with (
            socket.create_connection(("127.0.0.1", served.port)) as plain,
            context.wrap_socket(plain, server_hostname="localhost", session=session) as secure,
        ):
            secure.send(b"y")
            return secure.recv(1), secure.session_reused

    assert await asyncio.to_thread(again) == (b"y", False)
    assert len(served.made[1].received) == 1


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_is_closed_is_said_to_be(serve, client, dial, version):
    """`close` sends what was written, then close_notify: a client sees a proper end."""

    class Brief(Echo):
        def data_received(self, data):
            self.transport.write(b"a" * 100_000)
            self.transport.close()
            self.transport.write(b"too late")

    served = await serve(Brief)
    reader, writer = await dial(served, client(version))
    writer.write(b"x")

    assert await reader.read() == b"a" * 100_000  # ssl raises when there is no close_notify
    await asyncio.wait_for(served.made[0].lost, 5)
    assert served.made[0].happened == ["made", "lost"]


async def test_the_end_of_a_client_is_told(serve, dial):
    """A client's close_notify is an EOF, and the connection closes."""
    served = await serve()
    reader, writer = await dial(served)
    writer.write(b"x")
    await reader.readexactly(1)

    writer.close()

    assert await asyncio.wait_for(served.made[0].lost, 5) is None
    assert served.made[0].happened == ["made", "eof", "lost"]


async def test_a_client_that_is_gone_is_told_once(serve, dial):
    """A connection that is reset is lost, without a word of TLS."""
    served = await serve()
    reader, writer = await dial(served)
    writer.write(b"x")
    await reader.readexactly(1)
    plain = writer.get_extra_info("socket")
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    writer.transport.abort()

    await asyncio.wait_for(served.made[0].lost, 5)
    assert served.made[0].happened[-1] == "lost"
    assert served.made[0].transport.get_extra_info("chain") == ()


async def test_an_abort_is_at_once(serve, dial):
    """`abort` hangs up without a close_notify; what is written after it goes nowhere."""
    served = await serve()
    reader, writer = await dial(served)
    writer.write(b"x")
    await reader.readexactly(1)
    transport = served.made[0].transport

    transport.abort()
    transport.abort()
    transport.write(b"too late")
    transport.pause_reading()
    transport.close()

    assert transport.is_closing()
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        await reader.readexactly(1)
    await asyncio.wait_for(served.made[0].lost, 5)


async def test_what_was_tampered_with_ends_the_connection(serve, client):
    """Bytes that are no TLS, after a good handshake, are answered with an alert and the end."""
    served = await serve()
    plain_reader, plain_writer = await asyncio.open_connection("127.0.0.1", served.port)
    inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
    secure = client().wrap_bio(inward, outward, server_hostname="localhost")
    while True:
        try:
            secure.do_handshake()
            break
        except ssl.SSLWantReadError:
            plain_writer.write(outward.read())
            inward.write(await plain_reader.read(65_536))
    plain_writer.write(outward.read())
    secure.write(b"hello")
    record = bytearray(outward.read())
    record[-1] ^= 1

    plain_writer.write(record)

    inward.write(await plain_reader.read())
    with pytest.raises(ssl.SSLError, match=r"BAD_RECORD_MAC|bad record mac"):
        secure.read(10)
    await asyncio.wait_for(served.made[0].lost, 5)
    assert served.made[0].received == b""
    plain_writer.close()


async def test_a_slow_reader_is_waited_for(serve, dial):
    """A megabyte for a client that takes nothing pauses the writer, and arrives whole later."""
    body = bytes(range(256)) * 4096

    class Generous(Echo):
        def data_received(self, data):
            plain = self.transport.get_extra_info("socket")
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
            self.transport.set_write_buffer_limits(high=65_536)
            self.transport.writelines([body[:1000], body[1000:]])

    served = await serve(Generous)
    reader, writer = await dial(served, narrow=True)
    writer.write(b"x")
    await until(lambda: served.made and "pause" in served.made[0].happened)
    assert served.made[0].transport.get_write_buffer_size() > 65_536
    assert "resume" not in served.made[0].happened

    assert await asyncio.wait_for(reader.readexactly(len(body)), 10) == body
    await until(lambda: served.made[0].happened[-1] == "resume")
    assert served.made[0].transport.get_write_buffer_size() == 0


async def test_nothing_is_delivered_while_reading_is_paused(serve, dial):
    """What was decrypted already waits for `resume_reading`, and so does what is not."""

    class Choosy(Echo):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()

    served = await serve(Choosy)
    reader, writer = await dial(served)
    body = b"0123456789" * 20_000
    writer.write(body)
    await until(lambda: served.made and served.made[0].received)
    await asyncio.sleep(0.05)
    choosy = served.made[0]
    assert 0 < len(choosy.received) <= 16_384
    assert not choosy.transport.is_reading()

    while len(choosy.received) < len(body):
        before = len(choosy.received)
        choosy.transport.resume_reading()
        await until(lambda before=before: len(choosy.received) > before)
        assert len(choosy.received) - before <= 16_384

    assert await reader.readexactly(len(body)) == body == choosy.received


async def test_whoever_shows_a_certificate_is_asked_about_first(serve, client, dial):
    """`vouch` is answered before the protocol is made; its verdict is on the transport."""
    device = certs.self_signed("device-1")
    asked, answer = [], asyncio.get_running_loop().create_future()
    released = []

    async def vouch(chain, peer, cut):
        asked.append((chain, peer, cut))
        return await answer

    served = await serve(vouch=vouch)
    reader, writer = await dial(served, client(identity=device))
    writer.write(b"early")
    await until(lambda: asked)
    await asyncio.sleep(0.02)
    assert served.made == []
    assert asked[0][0] == (device.der,)
    assert str(asked[0][1].wire) == "mqtts"
    assert served.tls.handshakes == 1

    answer.set_result(Vouched(None, lambda: released.append(1)))
    assert await reader.readexactly(5) == b"early"
    assert isinstance(served.made[0].transport.get_extra_info("verdict"), Vouched)
    assert (served.tls.handshakes, released) == (0, [])

    asked[0][2]()
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        await reader.readexactly(1)
    await until(lambda: released)
    assert released == [1]


async def test_whoever_shows_none_is_nobody(serve, dial):
    """Without a certificate there is nobody to vouch for."""

    async def vouch(chain, peer, cut):
        raise AssertionError("nobody is there")

    served = await serve(vouch=vouch)
    reader, writer = await dial(served)
    writer.write(b"x")
    assert await reader.readexactly(1) == b"x"


async def test_a_client_that_left_is_asked_about_no_more(serve, client, dial):
    """When nobody waits for it any more, here by the deadline, the question ends too."""
    asked = []

    async def vouch(chain, peer, cut):
        asked.append(asyncio.current_task())
        await asyncio.get_running_loop().create_future()

    served = await serve(vouch=vouch, handshake_timeout_s=0.2)
    reader, _ = await dial(served, client(identity=certs.self_signed("device-1")))
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        await reader.readexactly(1)
    assert served.tls.handshakes == 0

    await until(lambda: asked[0].cancelled())
    assert served.made == []


async def test_who_is_cut_while_asked_about_is_released(serve, client, dial):
    """An answer for a connection that was cut meanwhile is given back at once, and once."""
    released = []

    async def vouch(chain, peer, cut):
        cut()
        return Vouched(None, lambda: released.append(1))

    served = await serve(vouch=vouch)
    reader, _ = await dial(served, client(identity=certs.self_signed("device-1")))
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        await reader.readexactly(1)
    await until(lambda: not served.tls.handshakes)
    assert (released, served.made) == ([1], [])


async def test_a_store_that_is_away_is_counted(serve, client, dial):
    """A store that cannot be asked is reported, not logged for each connection."""

    async def vouch(chain, peer, cut):
        raise StoreUnavailable

    served = await serve(vouch=vouch, report_every_s=0.1)
    with capture_logs() as lines:
        reader, _ = await dial(served, client(identity=certs.self_signed("device-1")))
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
            await reader.readexactly(1)
        await until(lambda: served.reports)
    assert [(reason, count) for reason, _, count in served.reports] == [("undecided", 1)]
    assert [line for line in lines if line["log_level"] != "debug"] == []


async def test_a_question_that_fails_closes_the_connection(serve, client, dial):
    """Nobody is let in because it could not be asked who he is."""

    async def vouch(chain, peer, cut):
        raise RuntimeError("broken")

    served = await serve(vouch=vouch)
    reader, _ = await dial(served, client(identity=certs.self_signed("device-1")))
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        await reader.readexactly(1)
    assert served.made == []


async def test_a_refusal_is_the_protocols_to_tell(serve, client, dial):
    """A refused client is connected: its protocol knows why, and says so in its own words."""

    async def vouch(chain, peer, cut):
        return Refused(RefusalReason.EXPIRED_LEAF)

    served = await serve(vouch=vouch)
    reader, writer = await dial(served, client(identity=certs.self_signed("device-1")))
    writer.write(b"x")
    assert await reader.readexactly(1) == b"x"
    verdict = served.made[0].transport.get_extra_info("verdict")
    assert verdict == Refused(RefusalReason.EXPIRED_LEAF)
