"""The listener on loopback, with raw sockets and with clients other people wrote."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator, Iterator

import aiocoap
import pytest
import uvloop

from gateway.transports.coap import CoapListener
from gateway.transports.coap import message as coap
from gateway.transports.coap.message import Message, decode, encode
from gateway.wire.call import Format, Reply, Status

LONG = (b'{"certificate":"' + b"0123456789" * 450 + b'"}')[:4000]
LIBCOAP = ("coap-client-notls", "coap-client-openssl", "coap-client-gnutls")


@pytest.fixture
async def listener(service) -> AsyncIterator[CoapListener]:
    served = CoapListener(
        service.router, host="127.0.0.1", port=0, links=service.links, piggyback_s=0.1
    )
    await served.start()
    yield served
    await served.stop(1)


@pytest.fixture
def device() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setblocking(False)
        udp.bind(("127.0.0.1", 0))
        yield udp


async def heard(udp: socket.socket, within_s: float = 3.0) -> bytes:
    async with asyncio.timeout(within_s):
        return await asyncio.get_running_loop().sock_recv(udp, 2048)


class Shelf:
    """A source of 300 KB and a bit."""

    content = bytes(n * n & 0xFF for n in range(300_001))
    size = len(content)
    etag = b"shelf"

    async def read(self, offset: int, size: int) -> bytes:
        return self.content[offset : offset + size]


def provision(message_id: int, token: bytes = b"tokn", type_: int = coap.CON) -> bytes:
    path = [(coap.URI_PATH, part) for part in (b"api", b"v1", b"provision")]
    return encode(Message(type_, coap.POST, message_id, token, path, b'{"deviceName":"a"}'))


# ── raw datagrams ─────────────────────────────────────────────────────────────────────────────


async def test_lost_answer(listener, service, device) -> None:
    """A device that sends its datagram again gets the same bytes, and is provisioned once."""
    device.connect(("127.0.0.1", listener.port))
    device.send(provision(1))
    first = await heard(device)
    device.send(provision(1))
    assert await heard(device) == first
    assert len(service.calls) == 1
    assert service.calls[0].peer.address == f"127.0.0.1:{device.getsockname()[1]}"


async def test_slow_answer(listener, service, device) -> None:
    """An empty ACK comes in time, the answer after it as a CON, repeated until acknowledged."""
    device.connect(("127.0.0.1", listener.port))
    service.gate.clear()
    device.send(provision(2))
    assert await heard(device) == b"\x60\x00\x00\x02"
    service.gate.set()
    separate = await heard(device)
    assert (decode(separate).type, decode(separate).token) == (coap.CON, b"tokn")
    assert await heard(device, 3.5) == separate
    device.send(b"\x60\x00" + separate[2:4])
    while listener.endpoint.unacknowledged:
        await asyncio.sleep(0.005)


async def test_rubbish_stops_nothing(listener, device) -> None:
    """After datagrams of every sort of nonsense, the next device is served."""
    device.connect(("127.0.0.1", listener.port))
    for length in range(64):
        device.send(os.urandom(length))
    device.send(b"")
    device.send(provision(3, b"good"))
    async with asyncio.timeout(3):
        while decode(answer := await heard(device)).token != b"good":
            pass
    assert decode(answer).code == coap.CREATED


async def test_a_closed_peer_stops_nothing(listener, device) -> None:
    """An answer nobody receives (ICMP port unreachable) leaves the listener serving."""
    for n in range(3):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
            gone.sendto(provision(n), ("127.0.0.1", listener.port))
    await asyncio.sleep(0.02)
    device.connect(("127.0.0.1", listener.port))
    device.send(provision(9))
    assert decode(await heard(device)).code == coap.CREATED


@pytest.mark.parametrize(
    ("host", "target"),
    [("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1"), ("::", "::1"), ("::1", "::1")],
)
async def test_hosts(service, host: str, target: str) -> None:
    """It binds any IPv4 address, both protocols at once, or one address, and names the peer."""
    await serve_one(service, host, target)


@pytest.mark.parametrize(("host", "target"), [("127.0.0.1", "127.0.0.1"), ("::", "127.0.0.1")])
def test_uvloop(make_service, host: str, target: str) -> None:
    """On uvloop, whose transports are classes of their own, it serves and stops just the same."""

    async def serve() -> None:
        await serve_one(make_service(), host, target)

    uvloop.run(serve())


async def serve_one(service, host: str, target: str) -> None:
    served = CoapListener(service.router, host=host, port=0)
    await served.start()
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as udp:
        udp.setblocking(False)
        udp.connect((target, served.port))
        udp.send(provision(1))
        answer = await heard(udp)
        assert decode(answer).code == coap.CREATED
        udp.send(provision(1))
        assert await heard(udp) == answer
        port = udp.getsockname()[1]
    shown = f"[{target}]" if ":" in target else target
    assert service.calls[0].peer.address == f"{shown}:{port}"
    await served.stop(1)


async def test_a_taken_port_is_an_error(listener, service) -> None:
    """Starting on a port in use raises OSError and leaves nothing open."""
    second = CoapListener(service.router, host="127.0.0.1", port=listener.port)
    with pytest.raises(OSError):
        await second.start()
    await second.stop(0)


async def test_stopping(service, device) -> None:
    """What was taken is answered before the port closes; afterwards it is free again."""
    served = CoapListener(service.router, host="127.0.0.1", port=0)
    await served.start()
    device.connect(("127.0.0.1", served.port))
    service.gate.clear()
    device.send(provision(1))
    while not service.calls:
        await asyncio.sleep(0.005)
    stopping = asyncio.create_task(served.stop(5))
    await asyncio.sleep(0.02)
    service.gate.set()
    await stopping
    assert decode(await heard(device)).code == coap.CREATED
    again = CoapListener(service.router, host="127.0.0.1", port=served.port)
    await again.start()
    await again.stop(0)


async def test_a_full_socket_drops(listener, service, device) -> None:
    """While the kernel takes no more, answers are dropped, not queued; a repeat fetches them."""
    device.connect(("127.0.0.1", listener.port))
    listener._socket.pause_writing()
    device.send(provision(1))
    while not listener.endpoint.remembered:
        await asyncio.sleep(0.005)
    listener._socket.resume_writing()
    with pytest.raises(TimeoutError):
        await heard(device, 0.05)
    device.send(provision(1))
    assert decode(await heard(device)).code == coap.CREATED
    assert len(service.calls) == 1


# ── observers ─────────────────────────────────────────────────────────────────────────────────


def observing(message_id: int, token: bytes, type_: int = coap.CON) -> bytes:
    options = [(coap.OBSERVE, b""), (coap.URI_PATH, b"watch")]
    return encode(Message(type_, coap.GET, message_id, token, options))


async def test_a_lost_acknowledgement(listener, service, device) -> None:
    """A notification whose ACK was lost comes again, byte for byte, and then no more."""
    device.connect(("127.0.0.1", listener.port))
    device.send(observing(1, b"w"))
    assert dict(decode(await heard(device)).options)[coap.OBSERVE] == b""
    delivered = asyncio.Event()
    service.observers[0].notify(Reply(b"{}", format=Format.JSON), delivered.set)
    first = await heard(device)
    assert await heard(device, 3.5) == first
    assert not delivered.is_set()
    device.send(b"\x60\x00" + first[2:4])
    async with asyncio.timeout(3):
        await delivered.wait()
    assert listener.endpoint.unacknowledged == 0


@pytest.mark.parametrize("type_", [coap.CON, coap.NON])
async def test_two_thousand_are_told_at_once(make_service, type_: int) -> None:
    """2,000 observers on ten ports, all notified in one go, have it within three seconds."""
    service = make_service()
    served = CoapListener(service.router, host="127.0.0.1", port=0)
    await served.start()
    loop, told = asyncio.get_running_loop(), []
    ports = [Acknowledging(told) for _ in range(10)]
    for port in ports:
        await loop.create_datagram_endpoint(
            lambda port=port: port, remote_addr=("127.0.0.1", served.port)
        )
    for number in range(200):
        for port in ports:
            port.transport.sendto(observing(number + 1, number.to_bytes(2, "big"), type_))
        while len(service.observers) < 10 * (number + 1):
            await asyncio.sleep(0)
    delivered: list[int] = []
    for number, observer in enumerate(service.observers):
        assert observer.notify(Reply(b"now"), lambda number=number: delivered.append(number))
    async with asyncio.timeout(3):
        while len(delivered) < 2000 or len(told) < 2000:
            await asyncio.sleep(0.005)
    assert len(set(told)) == len(set(delivered)) == 2000
    for port in ports:
        port.transport.close()
    await served.stop(1)
    assert len(service.ended) == 2000


class Acknowledging(asyncio.DatagramProtocol):
    """A port of many observers; it acknowledges notifications and notes whose they were."""

    def __init__(self, told: list[tuple[int, bytes]]) -> None:
        self.told = told

    def connection_made(self, transport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: object) -> None:
        message = decode(data)
        if dict(message.options).get(coap.OBSERVE) == b"\x01":
            self.told.append((id(self), message.token))
            if message.type == coap.CON:
                self.transport.sendto(b"\x60\x00" + data[2:4])


# ── aiocoap's client ──────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def client() -> AsyncIterator[aiocoap.Context]:
    context = await aiocoap.Context.create_client_context(transports=["simple6"])
    yield context
    await context.shutdown()


async def aiocoap_ask(client, listener, path: str, **message) -> aiocoap.Message:
    uri = f"coap://127.0.0.1:{listener.port}/{path}"
    async with asyncio.timeout(10):
        return await client.request(aiocoap.Message(uri=uri, **message)).response


async def test_aiocoap_provisions(client, listener, service) -> None:
    """aiocoap's client gets 2.01 with JSON, and 4.00 with JSON for a refusal."""
    answer = await aiocoap_ask(
        client, listener, "api/v1/provision", code=aiocoap.POST, payload=b"{}", content_format=50
    )
    assert (answer.code, answer.payload) == (aiocoap.CREATED, b'{"status":"SUCCESS"}')
    assert int(answer.opt.content_format) == 50
    service.reply = Reply(b'{"status":"NOT_FOUND"}', Status.REFUSED, Format.JSON)
    answer = await aiocoap_ask(client, listener, "api/v1/provision", code=aiocoap.POST)
    assert (answer.code, answer.payload) == (aiocoap.BAD_REQUEST, b'{"status":"NOT_FOUND"}')


async def test_aiocoap_blocks(client, listener, service) -> None:
    """A long body there and a long body back arrive whole, and the handler ran once."""
    service.reply = Reply(LONG, format=Format.JSON)
    answer = await aiocoap_ask(
        client, listener, "api/v1/provision", code=aiocoap.POST, payload=LONG
    )
    assert answer.payload == LONG
    assert [call.body for call in service.calls] == [LONG]


async def test_aiocoap_waits_for_a_separate_answer(client, listener, service) -> None:
    """A slow answer reaches aiocoap's client, which acknowledges it."""
    service.gate.clear()
    asyncio.get_running_loop().call_later(0.3, service.gate.set)
    answer = await aiocoap_ask(client, listener, "plain", code=aiocoap.GET)
    assert answer.code == aiocoap.CONTENT
    while listener.endpoint.unacknowledged:
        await asyncio.sleep(0.005)


async def aiocoap_observe(client, listener, **message):
    """Begin to observe; the request and the iterator over its notifications."""
    uri = f"coap://127.0.0.1:{listener.port}/watch"
    request = client.request(aiocoap.Message(uri=uri, code=aiocoap.GET, observe=0, **message))
    async with asyncio.timeout(5):
        answer = await request.response
    assert (answer.code, answer.opt.observe) == (aiocoap.CONTENT, 0)
    return request, aiter(request.observation)


async def wait_for(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("kind", [aiocoap.CON, aiocoap.NON])
async def test_aiocoap_observes(client, listener, service, kind) -> None:
    """aiocoap's observer gets each notification in turn; once it stops it resets the CONs."""
    request, notifications = await aiocoap_observe(client, listener, _mtype=kind)
    (observer,) = service.observers
    delivered: list[int] = []
    for number in range(1, 6):
        observer.notify(
            Reply(b"%d" % number, format=Format.JSON),
            lambda number=number: delivered.append(number),
        )
        async with asyncio.timeout(5):
            told = await anext(notifications)
        assert (told.payload, told.opt.observe) == (b"%d" % number, number)
    await wait_for(lambda: delivered == [1, 2, 3, 4, 5])
    request.observation.cancel()
    if kind == aiocoap.NON:
        return
    async with asyncio.timeout(5):
        while observer.notify(Reply(b"unheard")):  # aiocoap takes one more before it resets
            await asyncio.sleep(0.01)
    assert service.ended == [observer.identity]


async def test_aiocoap_fetches_a_long_notification(client, listener, service) -> None:
    """A notification longer than a block reaches aiocoap's observer whole."""
    request, notifications = await aiocoap_observe(client, listener)
    service.observers[0].notify(Reply(LONG, format=Format.JSON))
    async with asyncio.timeout(5):
        assert (await anext(notifications)).payload == LONG
    assert len(service.calls) == 1
    request.observation.cancel()


async def test_aiocoap_is_told_of_the_end(client, listener, service) -> None:
    """Displaced by `end`, aiocoap's observer hears of it, and so ends."""
    _, notifications = await aiocoap_observe(client, listener)
    service.observers[0].end()
    async with asyncio.timeout(5):
        assert (await anext(notifications)).code == aiocoap.DELETED
        with pytest.raises((StopAsyncIteration, aiocoap.error.NotObservable)):
            await anext(notifications)
    assert service.ended == []


@pytest.mark.parametrize("exponent", [6, 5])
async def test_aiocoap_downloads(client, listener, service, exponent: int) -> None:
    """aiocoap fetches 300 KB whose size is no multiple of a block; the handler runs once."""
    service.reply = Reply(source=Shelf(), format=Format.BYTES)
    block2 = aiocoap.optiontypes.BlockOption.BlockwiseTuple(0, False, exponent)
    answer = await aiocoap_ask(client, listener, "plain", code=aiocoap.GET, block2=block2)
    assert answer.payload == Shelf.content
    assert int(answer.opt.content_format) == 42
    assert len(service.calls) == 1


async def test_aiocoap_discovers(client, listener) -> None:
    """aiocoap reads the links of what is served."""
    answer = await aiocoap_ask(client, listener, ".well-known/core", code=aiocoap.GET)
    assert b"</api/v1/provision>" in answer.payload
    assert int(answer.opt.content_format) == 40


# ── libcoap's clients ─────────────────────────────────────────────────────────────────────────


async def libcoap(program: str, *arguments: str) -> tuple[str, str]:
    """Run a libcoap client; what it wrote to standard output and standard error."""
    if shutil.which(program) is None:
        if os.environ.get("GATEHOUSE_REQUIRE_CLIENTS") == "1":
            pytest.fail(f"{program} is not installed")
        pytest.skip(f"{program} is not installed")
    process = await asyncio.create_subprocess_exec(
        program,
        "-B",
        "5",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 10)
    return out.decode(), err.decode()


@pytest.mark.parametrize("program", LIBCOAP)
async def test_libcoap_provisions(program: str, listener, service) -> None:
    """libcoap's clients, confirmable or not, get the answer and print its body."""
    uri = f"coap://127.0.0.1:{listener.port}/api/v1/provision"
    for extra in ((), ("-N",)):
        out, err = await libcoap(
            program, *extra, "-m", "POST", "-t", "application/json", "-e", '{"a":1}', uri
        )
        assert (out.strip(), err.strip()) == ('{"status":"SUCCESS"}', "")
    assert [call.body for call in service.calls] == [b'{"a":1}'] * 2


async def test_libcoap_sees_a_refusal(listener, service) -> None:
    """libcoap's client prints code and body of a refusal."""
    service.reply = Reply(b'{"status":"NOT_FOUND"}', Status.REFUSED, Format.JSON)
    uri = f"coap://127.0.0.1:{listener.port}/api/v1/provision"
    out, err = await libcoap("coap-client-notls", "-m", "POST", "-e", "{}", uri)
    assert "4.00" in out + err
    assert '{"status":"NOT_FOUND"}' in out + err


@pytest.mark.parametrize("size", ["64", "1024"])
async def test_libcoap_blocks(size: str, listener, service, tmp_path) -> None:
    """libcoap sends a long body in blocks of its choice and fetches a long one."""
    service.reply = Reply(LONG, format=Format.JSON)
    (tmp_path / "body").write_bytes(LONG)
    out, err = await libcoap(
        "coap-client-notls",
        *("-b", size, "-m", "POST", "-f", str(tmp_path / "body")),
        f"coap://127.0.0.1:{listener.port}/api/v1/provision",
    )
    assert err == ""
    assert [call.body for call in service.calls] == [LONG]
    assert out.rstrip("\n").encode() == LONG


@pytest.mark.parametrize("size", ["64", "512"])
async def test_libcoap_fetches_blocks(size: str, listener, service) -> None:
    """libcoap GETs a long body in blocks of its choice, and the handler runs once."""
    service.reply = Reply(LONG, format=Format.JSON)
    out, err = await libcoap(
        "coap-client-notls", "-b", size, f"coap://127.0.0.1:{listener.port}/plain"
    )
    assert (out.rstrip("\n").encode(), err) == (LONG, "")
    assert len(service.calls) == 1


@pytest.mark.parametrize("size", ["256", "1024"])
async def test_libcoap_downloads(size: str, listener, service, tmp_path) -> None:
    """libcoap fetches 300 KB in blocks of its choice; the handler runs once."""
    service.reply = Reply(source=Shelf(), format=Format.BYTES)
    file = tmp_path / "firmware"
    _, err = await libcoap(
        "coap-client-notls",
        *("-b", size, "-o", str(file), f"coap://127.0.0.1:{listener.port}/plain"),
    )
    assert err == ""
    assert file.read_bytes() == Shelf.content
    assert len(service.calls) == 1


@pytest.mark.parametrize("kind", [(), ("-N",)])
async def test_libcoap_observes(kind: tuple[str, ...], listener, service, tmp_path) -> None:
    """libcoap's observer writes down each notification, then cancels with Observe 1."""
    file = tmp_path / "heard"
    asking = asyncio.create_task(
        libcoap(
            "coap-client-notls",
            *kind,
            *("-s", "1", "-o", str(file), f"coap://127.0.0.1:{listener.port}/watch"),
        )
    )
    await wait_for(lambda: service.observers or asking.done())
    if asking.done():
        await asking
    for number in range(3):
        assert service.observers[0].notify(Reply(b"<%d>" % number, format=Format.JSON))
    await asking
    heard_of = file.read_text()
    assert [heard_of.find(f"<{number}>") >= 0 for number in range(3)] == [True] * 3
    await wait_for(lambda: service.ended)
    assert len(service.ended) == 1


async def test_libcoap_waits_for_a_separate_answer(listener, service) -> None:
    """A slow answer reaches libcoap's client, which acknowledges it."""
    service.gate.clear()
    asyncio.get_running_loop().call_later(0.3, service.gate.set)
    out, _ = await libcoap("coap-client-notls", f"coap://127.0.0.1:{listener.port}/plain")
    assert out.strip() == '{"status":"SUCCESS"}'
    while listener.endpoint.unacknowledged:
        await asyncio.sleep(0.005)


async def test_libcoap_sends_slashes_in_one_option(listener, service) -> None:
    """A Uri-Path option written by hand, with its slashes, finds its route."""
    out, _ = await libcoap(
        "coap-client-notls",
        *("-m", "POST", "-e", "{}", "-O", f"{coap.URI_PATH},api/v1/provision"),
        f"coap://127.0.0.1:{listener.port}",
    )
    assert out.strip() == '{"status":"SUCCESS"}'
