"""An endpoint without a network: datagrams in by hand, a hand-wound clock, answers in a list."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from gateway.core.model import Wire
from gateway.transports.coap import message as coap
from gateway.transports.coap.endpoint import Endpoint
from gateway.transports.coap.message import Message, Option
from gateway.transports.coap.resources import Resources
from gateway.wire.call import BadPayload, Call, Format, Observer, Reply, Status
from gateway.wire.route import Route
from gateway.wire.router import Gauge, Router

HERE = ("192.0.2.7", 50123)


class Service:
    """Handlers that remember their calls, and wait where a test shuts the gate."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.reply = Reply(b'{"status":"SUCCESS"}', format=Format.JSON)
        self.observers: list[Observer] = []
        self.ended: list[str] = []
        self.first: Callable[[Observer], object] = lambda observer: None
        """What `watch` does with an observer before it answers."""
        self.links = ("/api/v1/provision", "/api/v1/{token}/telemetry")
        self.router = Router(
            [
                Route(
                    name="provision",
                    handler=self.serve,
                    coap=("POST /api/v1/provision",),
                    coap_codes={Status.OK: 201},
                    coap_formats={Format.JSON: 50, Format.PROTOBUF: None},
                ),
                Route(name="plain", handler=self.serve, coap=("GET /plain", "POST /plain")),
                Route(name="token", handler=self.serve, coap=("GET /api/v1/{token}/attributes",)),
                Route(name="rest", handler=self.serve, coap=("POST /api/v1/{token}/{rest*}",)),
                Route(name="bad", handler=self.bad, coap=("POST /bad",)),
                Route(name="watch", handler=self.watch, coap=("GET /watch",)),
                Route(
                    name="calls",
                    handler=self.watch,
                    coap=("GET /calls",),
                    coap_codes={Status.OK: 203},
                ),
                Route(
                    name="odd",
                    handler=self.serve,
                    coap=("GET /odd",),
                    coap_codes={Status.LIMITED: 500},
                ),
            ],
            Wire.COAP,
            Gauge(1000),
        )

    async def serve(self, call: Call) -> Reply:
        self.calls.append(call)
        await self.gate.wait()
        return self.reply

    async def watch(self, call: Call) -> Reply:
        """Accept every observation; who ended it is noted by identity."""
        self.calls.append(call)
        await self.gate.wait()
        observer = call.observer
        if observer is None:
            return self.reply
        self.observers.append(observer)
        self.first(observer)
        return msgspec.structs.replace(
            self.reply, on_end=lambda: self.ended.append(observer.identity)
        )

    async def bad(self, call: Call) -> Reply:
        raise BadPayload("provisionDeviceKey is missing")


class Desk:
    """One endpoint, its service, and the peers' side of the wire."""

    def __init__(self, service: Service, **bounds: Any) -> None:
        self.service = service
        self.time = 1000.0
        self.sent: list[tuple[bytes, tuple[object, ...]]] = []
        own = {"max_body", "max_assemblies", "max_stored"}
        resources = Resources(
            service.router,
            links=service.links,
            now=lambda: self.time,
            **{k: int(v) for k, v in bounds.items() if k in own},
        )
        self.endpoint = Endpoint(
            resources,
            lambda datagram, addr: self.sent.append((datagram, addr)),
            jitter=lambda: 0.0,
            now=lambda: self.time,
            **{k: v for k, v in bounds.items() if k not in own},
        )
        self._ids = itertools.count(1)

    def request(
        self,
        code: int = coap.POST,
        path: str = "api/v1/provision",
        payload: bytes = b"",
        *,
        type_: int = coap.CON,
        message_id: int | None = None,
        token: bytes = b"tokn",
        options: Sequence[Option] = (),
    ) -> bytes:
        """A request's datagram; a fresh message id unless one is given."""
        segments = [(coap.URI_PATH, part.encode()) for part in path.split("/")]
        number = next(self._ids) if message_id is None else message_id
        return coap.encode(Message(type_, code, number, token, [*segments, *options], payload))

    async def put(self, datagram: bytes, addr: tuple[object, ...] = HERE) -> list[bytes]:
        """Hand in a datagram; what was sent for it, once everything that can run has run."""
        before = len(self.sent)
        self.endpoint.received(datagram, addr)
        await self.settle()
        return [sent for sent, _ in self.sent[before:]]

    async def ask(self, datagram: bytes, addr: tuple[object, ...] = HERE) -> Message:
        """Hand in a request and read its one answer."""
        (answer,) = await self.put(datagram, addr)
        return coap.decode(answer)

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def pass_time(self, seconds: float) -> list[bytes]:
        """Wind the clock on, tick once, and return what was sent."""
        before = len(self.sent)
        self.time += seconds
        self.endpoint.tick()
        await self.settle()
        return [sent for sent, _ in self.sent[before:]]


@pytest.fixture
async def service() -> Service:
    return Service()


@pytest.fixture
def make_service() -> type[Service]:
    return Service


@pytest.fixture
async def desk(service: Service) -> Desk:
    return Desk(service)


@pytest.fixture
def make_desk(service: Service):
    return lambda **bounds: Desk(service, **bounds)
