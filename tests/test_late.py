"""The administration is loaded when somebody first asks for it, and nobody can tell."""

from __future__ import annotations

import asyncio
import threading

from gateway.core.model import Peer, Wire
from gateway.late import LateRoutes
from gateway.wire.call import Call, Reply, Status
from gateway.wire.route import Route
from gateway.wire.router import Gauge, Router

PEER = Peer(Wire.HTTP, "127.0.0.1")


async def serve(call: Call) -> Reply:
    return Reply(b"served")


EARLY = Route(name="early", handler=serve, http=("GET /early/{id}",), quiet=True)
LATE = Route(name="late", handler=serve, http=("GET /late/{id}",), quiet=True)


def router(later: LateRoutes) -> Router:
    return Router([EARLY], Wire.HTTP, Gauge(10), later=later)


async def test_routes_are_made_when_an_address_is_asked_for_that_is_not_there_yet() -> None:
    """What is there at once is served without them; what comes later is served as if it were."""
    made: list[str] = []

    def make() -> list[Route]:
        made.append(threading.current_thread().name)
        return [LATE]

    one = router(LateRoutes(make))
    assert (await one.answer("GET /early/1", b"", PEER))[0] == EARLY
    assert made == []
    assert one.match("GET /late/1") is None
    route, reply = await one.answer("GET /late/1", b"", PEER)
    assert (route, reply.body) == (LATE, b"served")
    assert one.match("GET /late/1") is not None
    assert (await one.answer("GET /early/1", b"", PEER))[0] == EARLY
    assert (await one.answer("GET /none", b"", PEER))[1].status is Status.NOT_FOUND
    assert len(made) == 1
    assert made != [threading.current_thread().name]


async def test_routes_are_made_once_for_all_who_ask_at_the_same_time() -> None:
    """Ten calls wait for one making, over two routers; one that goes away stops none of them."""
    go = threading.Event()
    made: list[int] = []

    def make() -> list[Route]:
        made.append(1)
        assert go.wait(10)
        return [LATE]

    later = LateRoutes(make)
    routers = (router(later), router(later))
    calls = [
        asyncio.create_task(routers[n % 2].answer("GET /late/1", b"", PEER)) for n in range(10)
    ]
    await asyncio.sleep(0)
    calls[0].cancel()
    go.set()
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(ended[0], asyncio.CancelledError)
    assert [one[0] for one in ended[1:] if not isinstance(one, BaseException)] == [LATE] * 9
    assert made == [1]


async def test_routes_that_cannot_be_made_are_tried_again() -> None:
    """The call is answered with a failure, not dropped, and the next one finds them."""
    made: list[int] = []

    def make() -> list[Route]:
        made.append(1)
        if len(made) == 1:
            raise OSError("too many open files")
        return [LATE]

    later = LateRoutes(make)
    one = router(later)
    assert (await one.answer("GET /late/1", b"", PEER))[1].status is Status.INTERNAL
    assert not await later.settle()
    assert (await one.answer("GET /late/1", b"", PEER))[0] == LATE
    assert await later.settle()


async def test_routes_that_nobody_asked_for_are_not_waited_for() -> None:
    """A stop does not load what it would have to close."""
    assert not await LateRoutes(lambda: [LATE]).settle()
