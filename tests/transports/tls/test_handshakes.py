"""Handshakes that fail, dawdle, or come all at once."""

from __future__ import annotations

import asyncio
import functools
import ssl
import time

import certs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transports.tls.conftest import until

from gateway.core.model import Wire
from gateway.transports.tls import Contexts


@functools.cache
def client_hello():
    """The first flight of a real client."""
    outward = ssl.MemoryBIO()
    secure = ssl.create_default_context().wrap_bio(
        ssl.MemoryBIO(), outward, server_hostname="localhost"
    )
    with pytest.raises(ssl.SSLWantReadError):
        secure.do_handshake()
    return outward.read()


async def read_to_the_end(reader):
    try:
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionError:
        return b""


@pytest.mark.parametrize("data", [b"", b"half a hello"], ids=["silent", "half"])
async def test_half_handshake_flood(serve, dial, data):
    """Handshakes that are not finished in time are cut, counted, and reported together."""
    served = await serve(handshake_timeout_s=0.2, report_every_s=0.4)
    data = data and client_hello()[:50]
    clients = [await dial(served, secure=False) for _ in range(5)]
    for _, writer in clients:
        writer.write(data)
    await until(lambda: served.tls.handshakes == 5)

    ended = await asyncio.gather(*(read_to_the_end(reader) for reader, _ in clients))

    assert ended == [b""] * 5
    assert (served.tls.handshakes, served.made) == (0, [])
    await until(lambda: served.reports)
    [(reason, peer, count)] = served.reports
    assert (reason, count) == ("half_handshake_flood", 5)
    assert peer.wire is Wire.MQTTS
    host, port = clients[0][1].get_extra_info("sockname")
    assert peer.address == f"{host}:{port}"


async def test_a_handshake_that_stops_half_way_is_cut(serve, dial):
    """A client that takes the server's flight and says no more is cut in time, too."""
    served = await serve(handshake_timeout_s=1)
    reader, writer = await dial(served, secure=False)
    started = time.monotonic()
    writer.write(client_hello())

    assert (await read_to_the_end(reader))[:1] == b"\x16"

    assert time.monotonic() - started < 10
    assert served.tls.handshakes == 0


async def test_no_more_handshakes_than_there_is_room_for(serve, dial):
    """One more than `max_handshakes` is turned away at once; those that are done do not count."""
    served = await serve(max_handshakes=2, report_every_s=0.1)
    done = [await dial(served) for _ in range(2)]
    half = [await dial(served, secure=False) for _ in range(2)]
    await until(lambda: served.tls.handshakes == 2)

    late, _ = await dial(served, secure=False)

    assert await read_to_the_end(late) == b""
    await until(lambda: served.reports)
    assert served.reports[0][0] == "half_handshake_flood"
    assert served.reports[0][2] == 1
    half[0][1].close()
    await until(lambda: served.tls.handshakes == 1)
    done.append(await dial(served))
    for reader, writer in done:
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"


async def test_one_that_takes_long_makes_room(serve, dial):
    """Connections that are held without a word keep nobody out until their deadline."""
    served = await serve(max_handshakes=2, handshake_timeout_s=60)
    half = [await dial(served, secure=False) for _ in range(2)]
    await until(lambda: served.tls.handshakes == 2)
    served.tls._under_way._stale_s = 0.0

    _, writer = await dial(served)

    writer.write(b"x")
    assert await read_to_the_end(half[0][0]) == b""
    assert served.tls.handshakes == 1


async def test_one_network_keeps_nobody_out(serve, dial):
    """When one address has taken all the room, its own make room for the others'."""
    served = await serve(max_handshakes=4, handshake_timeout_s=60)
    half = [await dial(served, secure=False) for _ in range(4)]
    await until(lambda: served.tls.handshakes == 4)

    reader, writer = await dial(served, source="127.0.0.2")

    writer.write(b"x")
    assert await reader.readexactly(1) == b"x"
    assert await read_to_the_end(half[0][0]) == b""
    assert served.tls.handshakes == 3


async def test_a_flood_of_hellos_leaves_others_served(serve, dial):
    """While hundreds of hellos wait, an open connection is answered and the loop turns."""
    served = await serve(turn_s=0.001)
    reader, writer = await dial(served)
    hello = client_hello()
    flood = [await dial(served, secure=False) for _ in range(300)]
    await until(lambda: served.tls.handshakes == 300)
    for _, each in flood:
        each.write(hello)

    answers = 0
    while served.tls._fresh or not answers:
        writer.write(b"x")
        assert await asyncio.wait_for(reader.readexactly(1), 2) == b"x"
        answers += 1

    assert answers > 5  # 300 hellos cost far more than as many turns
    assert await asyncio.wait_for(dial(served), 5)


async def test_what_is_not_tls_costs_nothing(serve, dial):
    """Plain HTTP on the secure port is hung up on, and no TLS connection is made for it."""
    served = await serve()
    reader, writer = await dial(served, secure=False)

    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")

    assert await read_to_the_end(reader) == b""
    await until(lambda: served.tls.handshakes == 0)
    assert served.made == []


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.binary(max_size=40), st.binary(max_size=400))
async def test_garbage_never_gets_in(serve, contexts, head, tail):
    """Whatever a stranger sends, the listener goes on and no protocol is made for it."""
    served = await serve()
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"\x16\x03\x01" + head + tail)
    writer.write_eof()
    await read_to_the_end(reader)
    writer.close()
    await until(lambda: served.tls.handshakes == 0)
    assert served.made == []


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
async def test_a_spoilt_hello_never_gets_in(serve, data):
    """A hello with some bytes changed is answered, refused or dropped; never an error here."""
    served = await serve(handshake_timeout_s=0.3)
    hello = bytearray(client_hello())
    for _ in range(data.draw(st.integers(1, 5))):
        hello[data.draw(st.integers(1, len(hello) - 1))] = data.draw(st.integers(0, 255))
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(bytes(hello))
    writer.write_eof()
    await read_to_the_end(reader)
    writer.close()
    await until(lambda: served.tls.handshakes == 0)
    assert served.made == []


async def test_an_old_version_gets_an_alert(serve, client, dial, files):
    """A client below `min_version` is told so."""
    contexts = Contexts(*files, min_version="1.3")
    contexts.load()
    served = await serve(own=contexts)

    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        await dial(served, client(ssl.TLSVersion.TLSv1_2))
    assert await dial(served, client(ssl.TLSVersion.TLSv1_3))


async def test_clients_need_not_be_asked(serve, client, dial, files):
    """With `client_certificates` off, a client that has one keeps it to itself."""
    contexts = Contexts(*files, client_certificates=False)
    contexts.load()
    served = await serve(own=contexts)
    reader, writer = await dial(served, client(identity=certs.self_signed("device-1")))
    writer.write(b"x")
    await reader.readexactly(1)
    assert served.made[0].transport.get_extra_info("chain") == ()


def device_of_depth(root, depth):
    for number in range(depth):
        root = certs.Authority(f"a{number}", parent=root)
    device = root.issue("device-1")
    return device, sum(map(len, device.chain[:-1]))  # clients leave the root out


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_oversized_chain(serve, client, root, dial, files, version):
    """A chain one byte over the bound is refused, whoever signed it, and that is reported."""
    device, size = device_of_depth(root, 3)
    contexts = Contexts(*files, max_chain_bytes=size - 1)
    contexts.load()
    served = await serve(own=contexts, report_every_s=0.05)

    reader, _ = await dial(served, client(version, device))

    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        await reader.readexactly(1)
    await until(lambda: served.reports)
    assert served.reports[0][0] == "oversized_chain"
    assert served.made == []


async def test_a_chain_that_just_fits(serve, client, root, dial, files):
    """A chain of exactly the bound is taken."""
    device, size = device_of_depth(root, 3)
    contexts = Contexts(*files, max_chain_bytes=size)
    contexts.load()
    served = await serve(own=contexts)
    reader, writer = await dial(served, client(identity=device))
    writer.write(b"x")
    assert await reader.readexactly(1) == b"x"


async def test_a_chain_far_too_large_is_not_even_read(serve, client, root, dial, files):
    """Many times the bound is cut before it is all here, and reported alike."""
    device, size = device_of_depth(root, 60)
    contexts = Contexts(*files, max_chain_bytes=1024)
    contexts.load()
    assert size > 20_000
    served = await serve(own=contexts, report_every_s=0.05)

    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        await dial(served, client(ssl.TLSVersion.TLSv1_2, device))

    await until(lambda: served.reports)
    assert served.reports[0][0] == "oversized_chain"
    assert served.made == []


async def test_a_handshake_of_any_size_is_not_read(serve, dial, files):
    """A hello that never ends is cut at the bound, long before the deadline."""
    contexts = Contexts(*files, max_chain_bytes=1024)
    contexts.load()
    served = await serve(own=contexts, handshake_timeout_s=60, report_every_s=0.05)
    reader, writer = await dial(served, secure=False)
    whole = client_hello()[5:]
    size = 200_000
    handshake = b"\x01" + size.to_bytes(3, "big") + whole[4:].ljust(size, b"\0")
    for start in range(0, len(handshake), 16_000):
        piece = handshake[start : start + 16_000]
        writer.write(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece)

    await read_to_the_end(reader)

    await until(lambda: served.tls.handshakes == 0)
    assert served.made == []


async def test_bytes_behind_the_handshake_are_not_lost(serve, client):
    """A client that sends its last flight, a message and its end at once is heard."""
    served = await serve()
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
    secure = client(ssl.TLSVersion.TLSv1_3).wrap_bio(inward, outward, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        secure.do_handshake()
    writer.write(outward.read())
    while True:
        inward.write(await reader.read(65_536))
        try:
            secure.do_handshake()
            break
        except ssl.SSLWantReadError:
            continue
    secure.write(b"hello")
    with pytest.raises(ssl.SSLWantReadError):
        secure.unwrap()

    writer.write(outward.read())
    writer.write_eof()

    inward.write(await read_to_the_end(reader))
    assert secure.read(10) == b"hello"
    assert served.made[0].received == b"hello"
    await until(lambda: served.made[0].happened == ["made", "eof", "lost"])
    writer.close()


async def test_stop_cuts_handshakes_and_tells_what_was_counted(serve, dial):
    """When the listener stops, half handshakes go at once and nothing counted is forgotten."""
    served = await serve(max_handshakes=1, report_every_s=60)
    reader, _ = await dial(served, secure=False)
    await until(lambda: served.tls.handshakes == 1)
    await read_to_the_end((await dial(served, secure=False))[0])

    served.tls.stop()

    assert await read_to_the_end(reader) == b""
    assert [(reason, count) for reason, _, count in served.reports] == [("half_handshake_flood", 1)]
