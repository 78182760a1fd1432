"""Devices in Python, one class per wire: for `provision`, `simulate` and `bench`.

They share no code with the dialects, on purpose: a device must be able to disagree with the
gateway. HTTP goes through aiohttp, CoAP through aiocoap, each device with an endpoint of its own
(aiocoap lets one request at a time be under way to a peer, so that a shared context would serve a
fleet one by one: 184 against 1,094 requests a second at 4 ms each).

MQTT goes through asyncio streams and the codec in `gateway.transports.mqtt`. amqtt is the oracle of
that codec's tests for 3.1.1, and with its packet classes a baseline of `bench`, but not the client:
measured with 0.12.1, it turns a cancellation into `ConnectError`, so that neither a timeout nor
Ctrl-C ends it as it should; a peer that closes makes `publish` raise `AttributeError`; and it
manages 384 provisioning cycles a second where streams with our codec manage 1,779. It speaks
3.1.1 alone, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from gateway.core.model import Wire
from gateway.simulator.device import Credentials, Device, SimulatorError, parse_credentials

if TYPE_CHECKING:
    import ssl

    import aiohttp

__all__ = ["Credentials", "Device", "Fleet", "SimulatorError", "parse_credentials"]


class Fleet:
    """Makes devices that speak to one gateway. Use it as an async context manager.

    - `ports`: where the gateway listens, by wire.
    - `timeout_s`: how long a device waits for one answer.
    - `max_connections`: HTTP connections of the whole fleet; devices beyond it wait their turn.
    - `mqtt_version`: 3, 4 (MQTT 3.1.1) or 5.
    - `tls`: whom HTTPS and MQTTS trust; None: whom this system does.

    Devices are closed by whoever asked for them; the fleet closes only what they share.
    """

    def __init__(
        self,
        host: str,
        ports: Mapping[Wire, int],
        timeout_s: float = 10,
        *,
        max_connections: int = 256,
        mqtt_version: int = 4,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._host = host
        self._ports = ports
        self._timeout_s = timeout_s
        self._max_connections = max_connections
        self._mqtt_version = mqtt_version
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Fleet:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def device(self, wire: Wire) -> Device:
        """A fresh device. Nothing is sent yet. Raises `SimulatorError` for a wire without port."""
        port = self._ports.get(wire)
        if port is None:
            raise SimulatorError(f"no port is known for {wire}")
        match wire:
            case Wire.HTTP | Wire.HTTPS:
                from gateway.simulator.http import HttpDevice

                return HttpDevice(self._http(), self._host, port, scheme=wire.value)
            case Wire.MQTT | Wire.MQTTS:
                from gateway.simulator.mqtt import MqttDevice

                return MqttDevice(
                    self._host,
                    port,
                    timeout_s=self._timeout_s,
                    version=self._mqtt_version,
                    tls=self._trust() if wire is Wire.MQTTS else None,
                )
            case Wire.COAP:
                from gateway.simulator.coap import CoapDevice

                return CoapDevice(self._host, port, timeout_s=self._timeout_s)
            case Wire.COAPS:
                raise SimulatorError("CoAP over DTLS is not simulated")
            case Wire.BLYNK:
                raise SimulatorError("Blynk's binary protocol is not simulated")
            case Wire.SHELL:
                raise SimulatorError("the shell is no wire a device could speak")

    def _trust(self) -> ssl.SSLContext:
        if self._tls is None:
            import ssl

            self._tls = ssl.create_default_context()
        return self._tls

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._max_connections, ssl=self._tls or True),
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            )
        return self._session
