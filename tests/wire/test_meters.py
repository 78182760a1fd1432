"""Calls are counted by route and wire, and have an id where something is written of them."""

from __future__ import annotations

import pytest

from gateway.core.model import Peer, Wire
from gateway.wire.call import BadPayload, Reply, Status
from gateway.wire.meters import Meters
from gateway.wire.route import Route
from gateway.wire.router import REQUEST_ID, Gauge, Router

PLAIN = Peer(Wire.HTTP, "192.0.2.1:1")
SECURE = Peer(Wire.HTTPS, "192.0.2.1:2")


class Desk:
    """One route, whose calls are kept."""

    def __init__(self, wire=Wire.HTTP, reply=None, trace=None, **settings):
        self.calls = []
        self.reply = reply or Reply()
        self.meters = Meters(trace)
        address = {"http": ("GET /r",), "coap": ("GET /r",)}
        route = Route(name="r", handler=self.handle, **address, **settings)
        self.router = Router([route], wire, Gauge(10, self.meters))

    async def handle(self, call):
        self.calls.append(call)
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    async def ask(self, peer=PLAIN):
        _, reply = await self.router.answer("GET /r", b"", peer)
        return reply

    def counted(self):
        return {(route, wire): sum(timing.counts) for route, wire, timing in self.meters}


async def test_calls_are_counted_by_wire():
    """A router serves plain and secure peers; their calls are told apart."""
    desk = Desk(quiet=True)
    for peer in (PLAIN, SECURE, SECURE):
        await desk.ask(peer)
    assert desk.counted() == {("r", "http"): 1, ("r", "https"): 2}


async def test_routers_of_one_process_share_their_counts():
    """Calls of a route of one name are counted together, whichever router serves them."""
    meters = Meters()

    async def handler(call):
        return Reply()

    for _ in range(2):
        route = Route(name="same", handler=handler, http=("GET /r",), quiet=True)
        router = Router([route], Wire.HTTP, Gauge(10, meters))
        await router.answer("GET /r", b"", PLAIN)
    assert [(route, wire, sum(timing.counts)) for route, wire, timing in meters] == [
        ("same", "http", 2)
    ]


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (Reply(status=Status.REFUSED), Status.REFUSED),
        (BadPayload("no"), Status.BAD_REQUEST),
        (ZeroDivisionError(), Status.INTERNAL),
    ],
)
async def test_what_did_not_end_well_is_counted_by_status(reply, status):
    """Failures are counted whether they are replies or exceptions."""
    desk = Desk(reply=reply, quiet=True)
    await desk.ask()
    ((_, _, timing),) = desk.meters
    assert timing.failures == {status: 1}
    assert sum(timing.counts) == 1


async def test_a_call_that_is_logged_has_an_id():
    """Each call of a route that is not quiet has its own id, which is answered over HTTP."""
    desk = Desk(reply=Reply(headers={"X-Other": "1"}))
    first, second = await desk.ask(), await desk.ask()
    ids = [call.peer.request for call in desk.calls]
    assert all(ids)
    assert ids[0] != ids[1]
    assert first.headers == {"X-Other": "1", REQUEST_ID: ids[0]}
    assert second.headers[REQUEST_ID] == ids[1]


async def test_a_numbered_route_has_ids_though_it_is_quiet():
    """What leads to events has an id without a line of the router."""
    desk = Desk(quiet=True, numbered=True)
    reply = await desk.ask()
    assert reply.headers[REQUEST_ID] == desk.calls[0].peer.request != ""


async def test_a_quiet_call_has_no_id():
    """Telemetry pays for no id; its peer is passed as it is."""
    desk = Desk(quiet=True)
    reply = await desk.ask()
    assert desk.calls[0].peer is PLAIN
    assert REQUEST_ID not in reply.headers


async def test_an_id_is_answered_over_http_alone():
    """Other wires have no place for it."""
    desk = Desk(wire=Wire.COAP)
    reply = await desk.ask(Peer(Wire.COAP, "192.0.2.1:3"))
    assert desk.calls[0].peer.request
    assert reply.headers == {}


async def test_a_trace_stands_around_the_handler():
    """What watches calls is given each route once, and its handler serves them."""
    watched = []

    def trace(route):
        async def handler(call):
            watched.append(route.name)
            return await route.handler(call)

        return handler

    desk = Desk(trace=trace)
    await desk.ask()
    assert watched == ["r"]
    assert len(desk.calls) == 1
