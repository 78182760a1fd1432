"""Every outcome becomes a reply."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.errors import CredentialsGone, Overloaded, StoreUnavailable
from gateway.core.model import Peer, Wire
from gateway.wire.call import BadPayload, Reply, Status
from gateway.wire.route import Route
from gateway.wire.router import Gauge, Router

PEER = Peer(Wire.HTTP, "192.0.2.1:1")


def router(handler, *, most=10, timeout_s=5.0):
    route = Route(name="r", handler=handler, http=("GET /r/{id}",))
    return Router([route], Wire.HTTP, Gauge(most), timeout_s=timeout_s)


async def test_a_call_carries_what_was_asked():
    """Body, peer, parameters, query, device and session reach the handler."""
    seen = []

    async def handler(call):
        seen.append(call)
        return Reply(b"done")

    session = {"format": "json"}
    route, reply = await router(handler).answer(
        "GET /r/7", b"body", PEER, query={"a": "b"}, session=session
    )
    assert route is not None
    assert reply.body == b"done"
    call = seen[0]
    assert (call.body, call.params, call.query) == (b"body", {"id": "7"}, {"a": "b"})
    assert (call.peer.wire, call.peer.address) == (PEER.wire, PEER.address)
    assert call.session is session


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BadPayload("no key"), Status.BAD_REQUEST),
        (BadPayload("no JSON", undecodable=True), Status.UNDECODABLE),
        (Overloaded(), Status.OVERLOADED),
        (CredentialsGone(), Status.GONE),
        (StoreUnavailable("disk full"), Status.INTERNAL),
        (ZeroDivisionError("secret detail"), Status.INTERNAL),
    ],
)
async def test_what_a_handler_raises_becomes_a_status(error, status):
    """No exception leaves the router, and nothing of ours is told to the peer."""

    async def handler(call):
        raise error

    _, reply = await router(handler).answer("GET /r/1", b"", PEER)
    assert reply.status is status
    assert "secret" not in reply.reason
    assert "disk" not in reply.reason


async def test_an_unknown_address_has_no_route():
    """Where nothing is served, the route is None and the status says so."""
    route, reply = await router(None).answer("GET /elsewhere", b"", PEER)
    assert route is None
    assert reply.status is Status.NOT_FOUND


async def test_calls_beyond_the_gauge_are_told_later():
    """With the bound reached, the next call is OVERLOADED at once; after one ends, it is served."""
    gate = asyncio.Event()

    async def handler(call):
        await gate.wait()
        return Reply()

    served = router(handler, most=2)
    waiting = [asyncio.create_task(served.answer(f"GET /r/{n}", b"", PEER)) for n in range(2)]
    await asyncio.sleep(0)
    _, refused = await served.answer("GET /r/3", b"", PEER)
    assert refused.status is Status.OVERLOADED
    assert refused.retry_after_s > 0
    gate.set()
    assert [reply.status for _, reply in await asyncio.gather(*waiting)] == [Status.OK] * 2
    _, after = await served.answer("GET /r/3", b"", PEER)
    assert after.status is Status.OK


async def test_a_late_call_is_given_up():
    """A handler that takes longer than the time-out is cancelled and answered INTERNAL."""
    cancelled = asyncio.Event()

    async def handler(call):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    served = router(handler, timeout_s=0.05)
    _, reply = await asyncio.wait_for(served.answer("GET /r/1", b"", PEER), 5)
    assert reply.status is Status.INTERNAL
    assert cancelled.is_set()
    assert asyncio.current_task().cancelling() == 0


async def test_a_cancelled_caller_is_not_answered():
    """Cancellation from outside goes through; the gauge is given back."""

    async def handler(call):
        await asyncio.sleep(60)

    gauge = Gauge(10)
    served = Router([Route(name="r", handler=handler, http=("GET /r",))], Wire.HTTP, gauge)
    task = asyncio.create_task(served.answer("GET /r", b"", PEER))
    await asyncio.sleep(0)
    assert gauge.now == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gauge.now == 0
