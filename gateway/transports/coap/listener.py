"""A UDP socket under an endpoint."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypedDict, cast

from gateway.transports.coap.endpoint import Endpoint
from gateway.transports.coap.exchanges import Address
from gateway.transports.coap.request import Caller
from gateway.transports.coap.resources import Resources
from gateway.transports.listening import open_socket, resolve
from gateway.wire.router import Router

if TYPE_CHECKING:
    from gateway.transports.coap.dtls import Dtls

TICK_S = 0.1
"""How late an empty ACK or a retransmission may be. Cheap: a tick looks at what waits, no more."""


class _ByName(TypedDict, total=False):
    """What a message layer is told of its peers when they are not mere addresses."""

    name: Callable[[Address], str]
    caller: Callable[[Address], Caller]


class CoapListener:
    """Serves a router over CoAP on one UDP port: unencrypted, or by `dtls`.

    - `host`: `0.0.0.0`, `::` (both protocols), or one address; `port` 0 picks one.
    - `links`: the paths shown at `/.well-known/core`.
    - `receive_buffer`, `send_buffer`: bytes the kernel may keep for us; it grants what its own
      limits allow.
    - `dtls`: DTLS 1.2 between the port and the message layer; one of its own for each listener.
    - the rest: see `Endpoint` and `Resources`.
    """

    def __init__(
        self,
        router: Router,
        *,
        host: str,
        port: int,
        links: Iterable[str] = (),
        receive_buffer: int = 4 * 1024 * 1024,
        send_buffer: int = 4 * 1024 * 1024,
        max_exchanges: int = 100_000,
        max_under_way: int = 4096,
        max_unacknowledged: int = 20_000,
        max_observations: int = 20_000,
        max_waiting: int = 100,
        piggyback_s: float = 0.5,
        max_body: int = 65536,
        max_assemblies: int = 1024,
        max_stored: int = 1024,
        block_age_s: float = 60.0,
        dtls: Dtls | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._port = port
        self._buffers = (receive_buffer, send_buffer)
        self._resources = Resources(
            router,
            links=links,
            max_body=max_body,
            max_assemblies=max_assemblies,
            max_stored=max_stored,
            block_age_s=block_age_s,
            now=now,
        )
        self._socket = UdpSocket()
        self._dtls = dtls
        by_name: _ByName = {} if dtls is None else {"name": dtls.name_of, "caller": dtls.caller_of}
        self._endpoint_kind: type[Endpoint] = Endpoint
        self._make_endpoint: Callable[[], Endpoint] = lambda: self._endpoint_kind(
            self._resources,
            self._socket.send if dtls is None else dtls.send,
            max_exchanges=max_exchanges,
            max_under_way=max_under_way,
            max_unacknowledged=max_unacknowledged,
            max_observations=max_observations,
            max_waiting=max_waiting,
            piggyback_s=piggyback_s,
            now=now,
            writable=self._socket.writable,
            **by_name,
        )
        self._endpoint: Endpoint | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def port(self) -> int:
        """The port it serves on; the one asked for until it has started."""
        return self._port

    @property
    def endpoint(self) -> Endpoint:
        """The message layer, once started: what it holds can be counted there."""
        assert self._endpoint is not None, "not started"
        return self._endpoint

    async def start(self) -> None:
        """Bind and serve. Raises OSError when the address cannot be had."""
        loop = asyncio.get_running_loop()
        udp = await bind(self._host, self._port, *self._buffers)
        self._port = udp.getsockname()[1]
        endpoint = self._endpoint = self._make_endpoint()
        self._socket.receiver = endpoint.received
        if self._dtls is not None:
            self._dtls.attach(self._socket.send, endpoint.received, endpoint.forget)
            self._socket.receiver = self._dtls.received
        await loop.create_datagram_endpoint(lambda: self._socket, sock=udp)
        self._timer = loop.call_later(TICK_S, self._tick)

    async def stop(self, grace_s: float = 5.0) -> None:
        """Take no new requests, answer what was taken within `grace_s`, close the port."""
        if self._endpoint is None or self._timer is None:
            return
        if self._dtls is not None:
            self._dtls.refuse_new()
        await self._endpoint.drain(grace_s)
        if self._dtls is not None:
            self._dtls.close()
        self._timer.cancel()
        self._timer = None
        await self._socket.close()

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        self.endpoint.tick()
        if self._dtls is not None:
            self._dtls.tick()


class UdpSocket(asyncio.DatagramProtocol):
    """Datagrams from the event loop to `receiver` and back."""

    def __init__(self) -> None:
        self.receiver: Callable[[bytes, Address], None] | None = None
        self._transport: asyncio.DatagramTransport | None = None
        self._paused = False
        self._closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's has the methods, but not the class.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        if self.receiver is not None:
            self.receiver(data, addr)

    def send(self, datagram: bytes, addr: Address) -> None:
        """Send, or drop when the kernel takes no more: a queue of ours would only grow.

        The peer asks again, and the answer is remembered; notifications wait for `writable`.
        """
        transport = self._transport
        if transport is not None and not self._paused:
            transport.sendto(datagram, addr)

    def writable(self) -> bool:
        """Whether `send` sends."""
        return not self._paused

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False

    def connection_lost(self, _exc: Exception | None) -> None:
        self._transport = None
        self._closed.set()

    async def close(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()
            await self._closed.wait()


async def bind(host: str, port: int, receive_buffer: int, send_buffer: int) -> socket.socket:
    """A bound UDP socket with buffers as large as that, as far as the system allows."""
    found = (await resolve(host, port, socket.SOCK_DGRAM))[0]
    udp = open_socket(host, found)
    try:
        _grow_buffer(udp, socket.SO_RCVBUF, receive_buffer)
        _grow_buffer(udp, socket.SO_SNDBUF, send_buffer)
        udp.bind(found[4])
    except BaseException:
        udp.close()
        raise
    return udp


def _grow_buffer(udp: socket.socket, which: int, size: int) -> None:
    """Linux grants what it may; other systems refuse a size over their limit, so ask for less."""
    while size >= 65536:
        try:
            udp.setsockopt(socket.SOL_SOCKET, which, size)
        except OSError:
            size //= 2
        else:
            return
