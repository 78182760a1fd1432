"""MQTT over TLS: what the house is told of a client's certificate, and how sessions end."""

from __future__ import annotations

import asyncio
import shutil
import ssl

import certs
import pytest
from transports.stream_ground import until

from gateway.core.model import Wire
from gateway.transports.mqtt.decoder import Decoder
from gateway.transports.mqtt.encoder import encode_connect, encode_publish, encode_subscribe
from gateway.transports.mqtt.listener import MqttListener
from gateway.transports.mqtt.packets import Connack, Connect, Publish, Subscribe
from gateway.transports.tls import Contexts, TlsServer
from gateway.wire.call import Admitted, Rejected, Reply
from gateway.wire.route import Route
from gateway.wire.router import Gauge, Router

REQUEST, RESPONSE = "request", "response"


class House:
    """Greets who shows the certificate it knows, and anybody without one; echoes publishes."""

    def __init__(self):
        self.hellos = []
        self.calls = []
        self.known = None
        route = Route(name="echo", handler=self.echo, mqtt=(REQUEST,), mqtt_reply=RESPONSE)
        self.router = Router([route], Wire.MQTT, Gauge(1000))

    async def echo(self, call):
        self.calls.append(call)
        return Reply(call.body)

    async def greet(self, hello):
        self.hellos.append(hello)
        if hello.chain and hello.chain[0] != self.known:
            return Rejected(5, 0x87)
        return Admitted("device", self.router, frozenset({RESPONSE}), {})


@pytest.fixture
async def house():
    return House()


@pytest.fixture
def root():
    return certs.Authority("tests' root")


@pytest.fixture
async def listener(house, root, tmp_path):
    contexts = Contexts(*root.server().files(tmp_path, "server"))
    contexts.load()
    served = MqttListener(house.greet, host="127.0.0.1", port=0, tls=TlsServer(contexts))
    await served.start()
    yield served
    await served.stop(1.0)


class Client:
    """A raw MQTT client over TLS."""

    def __init__(self, listener, context, version=4):
        self.listener, self.context, self.version = listener, context, version
        self.decoder = Decoder(version=version, client=True, max_packet=1 << 28)

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", self.listener.port, ssl=self.context, server_hostname="localhost"
        )
        return self

    async def __aexit__(self, *_):
        self.writer.transport.abort()
        await asyncio.sleep(0.01)

    async def read(self):
        async with asyncio.timeout(5):
            while (packet := self.decoder.take()) is None:
                data = await self.reader.read(65_536)
                if not data:
                    return None
                self.decoder.feed(data)
            return packet

    async def connect(self):
        self.writer.write(encode_connect(Connect("c", version=self.version)))
        return await self.read()


@pytest.fixture
def client(listener, root, tmp_path):
    def make(identity=None, version=4):
        context = ssl.create_default_context(cadata=root.pem)
        if identity is not None:
            context.load_cert_chain(*identity.files(tmp_path))
        return Client(listener, context, version)

    return make


async def test_a_greeting_tells_of_the_certificate(house, client):
    """The house sees the chain of a client and by which wire it came; then it is a session."""
    device = certs.self_signed("device-1")
    house.known = device.der
    async with client(device) as speaker:
        connack = await speaker.connect()
        assert isinstance(connack, Connack)
        assert connack.code == 0
        assert house.hellos[0].chain == (device.der,)
        assert house.hellos[0].peer.wire is Wire.MQTTS

        speaker.writer.write(encode_subscribe(Subscribe(1, ((RESPONSE, 1),)), 4))
        await speaker.read()
        speaker.writer.write(encode_publish(REQUEST.encode(), b"hello", 0, 0, 4))
        answer = await speaker.read()
        assert isinstance(answer, Publish)
        assert answer.payload == b"hello"
        assert house.calls[0].peer.wire is Wire.MQTTS


async def test_without_a_certificate_the_words_count(house, client):
    """A client that shows none is greeted by what it says of itself."""
    async with client() as speaker:
        assert (await speaker.connect()).code == 0
        assert house.hellos[0].chain == ()


@pytest.mark.parametrize(("version", "code"), [(4, 5), (5, 0x87)])
async def test_a_refused_certificate_is_told_in_connack(client, version, code):
    """Whoever is not known gets the CONNACK of its version, then the connection closes."""
    async with client(certs.self_signed("stranger"), version) as speaker:
        assert (await speaker.connect()).code == code
        while (packet := await speaker.read()) is not None:
            assert type(packet).__name__ == "Disconnect"


async def test_stop_ends_sessions_properly(listener, client):
    """A stop closes each session, and TLS with it, so that no client takes it for an attack."""
    async with client() as speaker:
        await speaker.connect()
        await listener.stop(1.0)
        assert await speaker.read() is None


async def test_bytes_before_connack_wait_their_turn(house, client):
    """What a client sends right behind its CONNECT is served when it is admitted."""
    async with client() as speaker:
        packets = [encode_publish(REQUEST.encode(), b"%d" % n, 0, 0, 4) for n in range(50)]
        speaker.writer.write(encode_connect(Connect("c", version=4)) + b"".join(packets))
        await until(lambda: len(house.calls) == 50)
        assert [call.body for call in house.calls] == [b"%d" % n for n in range(50)]


@pytest.mark.skipif(shutil.which("mosquitto_rr") is None, reason="needs mosquitto_rr")
@pytest.mark.parametrize("version", ["tlsv1.2", "tlsv1.3"])
async def test_mosquitto_with_a_certificate(house, listener, root, tmp_path, version):
    """mosquitto's client logs in by certificate, asks and is answered."""
    device = certs.self_signed("device-1")
    house.known = device.der
    certificate, key = device.files(tmp_path)
    (tmp_path / "root.pem").write_text(root.pem)

    process = await asyncio.create_subprocess_exec(
        "mosquitto_rr",
        *("-h", "localhost", "-p", str(listener.port), "-V", "mqttv311", "-W", "5"),
        *("--cafile", str(tmp_path / "root.pem"), "--tls-version", version),
        *("--cert", str(certificate), "--key", str(key)),
        *("-t", REQUEST, "-e", RESPONSE, "-m", "ping"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    printed = await process.stdout.read()

    assert await process.wait() == 0, printed
    assert printed == b"ping\n"
    assert house.hellos[0].chain == (device.der,)
