"""A device that speaks ThingsBoard's device API over MQTT (contract, sections 4, 7 and 8).

It is made of asyncio streams and our codec, not of amqtt's client: that one can neither be timed
out nor interrupted, and is a fifth as fast (the package's description has the figures).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from gateway.simulator.device import Credentials, SimulatorError, Unanswered, trouble
from gateway.transports.mqtt import packets as mqtt
from gateway.transports.mqtt.decoder import Decoder
from gateway.transports.mqtt.encoder import (
    encode_ack,
    encode_connect,
    encode_disconnect,
    encode_publish,
    encode_subscribe,
)

_PROVISION = "provision"
_REQUEST, _RESPONSE = b"/provision/request", "/provision/response"
_TELEMETRY = b"v1/devices/me/telemetry"
_READ = 65_536
_FAILED = 0x80
"""MQTT 5 reason codes from here on are failures (section 2.4 of the standard)."""


class MqttDevice:
    """One device, one connection at a time: one to provision, then one with its credentials.

    `version` is 3 (MQTT 3.1), 4 (3.1.1) or 5. With `tls` it is MQTTS.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        timeout_s: float = 10,
        version: int = 4,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._host = host
        self._tls = tls
        self._port = port
        self._timeout_s = timeout_s
        self._version = version
        self._session: _Session | None = None

    async def provision(self, body: bytes) -> bytes:
        """Connects as `provision`, asks, and disconnects."""
        session = await self._open(mqtt.Connect(username=_PROVISION, version=self._version))
        try:
            # As ThingsBoard's own SDK: publish right after subscribing, without waiting.
            subscribe = mqtt.Subscribe(1, ((_RESPONSE, 1),))
            session.send(encode_subscribe(subscribe, self._version))
            session.send(encode_publish(_REQUEST, body, 1, 2, self._version))
            answer = await session.wait(_answers_provisioning)
            if isinstance(answer, mqtt.Publish):
                return bytes(answer.payload)
            raise SimulatorError("MQTT: the gateway could not read the request")
        finally:
            await self.close()

    async def connect(self, credentials: Credentials) -> None:
        """An access token is the user name; an MQTT triple is itself."""
        if credentials.kind == "X509_CERTIFICATE":
            raise SimulatorError("MQTT: a certificate logs in over TLS, which is not simulated")
        password = credentials.password.reveal()
        await self._open(
            mqtt.Connect(
                client_id=credentials.client_id,
                username=credentials.token.reveal() or credentials.username or None,
                password=password.encode() if password else None,
                version=self._version,
            )
        )

    async def telemetry(self, body: bytes) -> None:
        """QoS 1: acknowledged after it is stored."""
        session = self._session
        if session is None:
            raise SimulatorError("MQTT: connect comes before telemetry")
        packet_id = session.next_id()
        session.send(encode_publish(_TELEMETRY, body, 1, packet_id, self._version))
        ack = await session.wait(
            lambda packet: isinstance(packet, mqtt.Ack) and packet.packet_id == packet_id
        )
        assert isinstance(ack, mqtt.Ack)
        if ack.code >= _FAILED:
            raise SimulatorError(f"MQTT: telemetry was refused (reason 0x{ack.code:02x})")

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _open(self, connect: mqtt.Connect) -> _Session:
        await self.close()
        try:
            async with asyncio.timeout(self._timeout_s):
                reader, writer = await asyncio.open_connection(
                    self._host, self._port, ssl=self._tls
                )
        except TimeoutError:
            raise SimulatorError("MQTT: cannot connect (no answer in time)") from None
        except OSError as exc:
            raise SimulatorError(f"MQTT: cannot connect ({trouble(exc)})") from None
        self._session = session = _Session(reader, writer, self._version, self._timeout_s)
        session.send(encode_connect(connect))
        greeting = await session.wait(lambda packet: isinstance(packet, mqtt.Connack))
        assert isinstance(greeting, mqtt.Connack)
        if greeting.code:
            await self.close()
            raise SimulatorError(f"MQTT: login refused (code {greeting.code})")
        return session


def _answers_provisioning(packet: mqtt.Packet) -> bool:
    if isinstance(packet, mqtt.Publish):
        return packet.topic == _RESPONSE
    return isinstance(packet, mqtt.Ack) and packet.code >= _FAILED


class _Session:
    """One connection: packets out, and waiting for the one that answers."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        version: int,
        timeout_s: float,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._version = version
        self._timeout_s = timeout_s
        self._decoder = Decoder(client=True, version=version)
        self._last_id = 0

    def next_id(self) -> int:
        self._last_id = self._last_id % 65_535 + 1
        return self._last_id

    def send(self, packet: bytes) -> None:
        self._writer.write(packet)

    async def wait(self, wanted: Callable[[mqtt.Packet], bool]) -> mqtt.Packet:
        """The next packet that is `wanted`; those before it are acknowledged and let go."""
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    for packet in self._decoder:
                        self._acknowledge(packet)
                        if wanted(packet):
                            return packet
                    data = await self._reader.read(_READ)
                    if not data:
                        raise Unanswered("MQTT: the gateway closed the connection")
                    self._decoder.feed(data)
        except TimeoutError:
            raise Unanswered("MQTT: no answer in time") from None
        except mqtt.MalformedPacket as exc:
            raise SimulatorError(f"MQTT: the gateway sent a bad packet ({exc})") from None
        except OSError:
            raise Unanswered("MQTT: the connection failed") from None

    def _acknowledge(self, packet: mqtt.Packet) -> None:
        match packet:
            case mqtt.Publish(qos=1, packet_id=packet_id):
                self.send(encode_ack(mqtt.PUBACK, packet_id, self._version))
            case mqtt.Disconnect(code=code):
                raise SimulatorError(f"MQTT: the gateway disconnected (reason 0x{code:02x})")

    async def close(self) -> None:
        if not self._writer.is_closing():
            self.send(encode_disconnect(0, self._version))
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            return
