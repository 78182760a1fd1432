"""Match, limit, time, log, answer. The only try/except around a call in the whole product."""

from __future__ import annotations

import asyncio
import secrets
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import count
from time import perf_counter
from typing import Any, Final, TypeAlias

import structlog
from msgspec import structs

from gateway.core.errors import CredentialsGone, Overloaded, StoreUnavailable
from gateway.core.histogram import SECONDS
from gateway.core.model import Device, Identity, Peer, Wire
from gateway.wire.call import NOTHING, BadPayload, Call, Observer, Reply, Status
from gateway.wire.deadlines import Deadlines
from gateway.wire.meters import Meters
from gateway.wire.route import Address, PathTable, Route

log = structlog.get_logger()

_OVERLOADED = Reply(status=Status.OVERLOADED, reason="busy, try again later", retry_after_s=1)
_LATE = Reply(status=Status.INTERNAL, reason="no answer from the core in time")
_UNAVAILABLE = Reply(status=Status.INTERNAL, reason="the store cannot be written")
_GONE = Reply(status=Status.GONE, reason="the credentials of this session are no longer good")
_BROKEN = Reply(status=Status.INTERNAL)
_OK: Final = Status.OK
_QUIET = frozenset({Status.REFUSED, Status.TIMEOUT, Status.IGNORED, Status.LIMITED, Status.PENDING})


Later: TypeAlias = Callable[[], Awaitable[Sequence[Route]]]
"""Further routes, made when they are first asked for."""

REQUEST_ID: Final = "X-Request-Id"

_OF_THIS_PROCESS: Final = secrets.token_hex(4)
_number = count(1).__next__


def new_request_id() -> str:
    """One that no other call has: of this process (8 hexadecimal digits), and counted."""
    return f"{_OF_THIS_PROCESS}-{_number():x}"


class Gauge:
    """How many calls are under way, and how many may be. One for all routers of a process.

    `meters` is where it is kept how long they took.
    """

    __slots__ = ("meters", "most", "now")

    def __init__(self, most: int, meters: Meters | None = None) -> None:
        self.most = most
        self.now = 0
        self.meters = meters or Meters()


class Router:
    """Turns an address and a body into a `Reply`. It never raises, except for cancellation.

    `gauge` bounds the calls under way over all wires; beyond it the answer is OVERLOADED. `polls`
    does the same for calls of patient routes. `timeout_s` is how long the core may take
    (ThingsBoard contract, section 2.9: 10 s). What lives at no address of `routes` may live at one
    of `later`, which is asked once, at the first such address.
    """

    def __init__(
        self,
        routes: Iterable[Route],
        wire: Wire,
        gauge: Gauge,
        *,
        polls: Gauge | None = None,
        timeout_s: float = 10.0,
        later: Later | None = None,
    ) -> None:
        self._wire = wire
        self._gauge = gauge
        self._polls = polls or gauge
        self._deadlines = Deadlines(timeout_s)
        self._labels = wire.plain is Wire.HTTP  # no other wire has a place for a request's id
        self._later = later
        self._routes: list[Route] = []
        self._take(routes)

    def _take(self, more: Iterable[Route]) -> None:
        """Serve these too."""
        meters = self._gauge.meters
        trace = meters.trace
        if trace is not None:
            more = [structs.replace(route, handler=trace(route)) for route in more]
        self._routes += more
        self._timings = {route.name: meters.of(route) for route in self._routes}
        self._table = PathTable(
            [(at, route) for route in self._routes for at in route.addresses(self._wire)],
            fold=self._wire.plain is Wire.COAP,
        )

    async def find(self, address: Address) -> tuple[Route, Mapping[str, str]] | None:
        """As `match`; at an address of its own it first waits for the routes that come later."""
        found = self._table.find(address)
        if found is None and self._later is not None:
            routes = await self._later()
            if self._later is not None:
                self._later = None
                self._take(routes)
            found = self._table.find(address)
        return found

    def match(self, address: Address) -> tuple[Route, Mapping[str, str]] | None:
        """The route of `address` (`POST /api/v1/provision`, or a topic) and its parameters."""
        return self._table.find(address)

    async def answer(
        self,
        address: Address,
        body: bytes,
        peer: Peer,
        *,
        query: Mapping[str, str] = NOTHING,
        device: Device | None = None,
        session: dict[str, Any] | None = None,
        guest: Any = None,
        observer: Observer | None = None,
        taken: Callable[[], None] | None = None,
        identity: Identity | None = None,
        headers: Mapping[str, str] = NOTHING,
        accept: int | None = None,
        content_format: int | None = None,
    ) -> tuple[Route | None, Reply]:
        """Serve one request. The route is None when nothing lives at `address` (NOT_FOUND)."""
        found = self._table.find(address)
        if found is None and self._later is not None:
            try:
                found = await self.find(address)
            except Exception:
                log.exception("routes.not_made")
                return None, _BROKEN
        if found is None:
            return None, Reply(status=Status.NOT_FOUND, reason="nothing is served here")
        route, params = found
        gauge = self._polls if route.patient else self._gauge
        if gauge.now >= gauge.most:
            return route, _OVERLOADED
        gauge.now += 1
        quiet = route.quiet
        if not quiet or route.numbered:
            peer = structs.replace(peer, request=new_request_id())
        started = perf_counter()
        task = asyncio.current_task()
        assert task is not None
        if not route.patient:
            self._deadlines.begin(task)
        try:
            reply = await route.handler(
                Call(
                    body,
                    peer,
                    params,
                    query,
                    device,
                    session,
                    guest,
                    observer,
                    taken,
                    identity,
                    headers,
                    accept,
                    content_format,
                )
            )
        except BadPayload as exc:
            status = Status.UNDECODABLE if exc.undecodable else Status.BAD_REQUEST
            reply = Reply(status=status, reason=str(exc))
        except Overloaded:
            reply = _OVERLOADED
        except CredentialsGone:
            reply = _GONE
        except StoreUnavailable:
            reply = _UNAVAILABLE
        except asyncio.CancelledError:
            if not self._deadlines.was_late(task):
                raise
            reply = _LATE
        except Exception:
            log.exception(
                "call.failed",
                route=route.name,
                wire=peer.wire,
                peer=peer.address,
                request=peer.request,
            )
            reply = _BROKEN
        finally:
            gauge.now -= 1
            self._deadlines.end(task)
        took_s = perf_counter() - started
        # By hand, and past the enumerations: what is measured here must not show in the figures.
        timing = self._timings[route.name][peer.wire._value_]
        timing.counts[bisect_left(SECONDS, took_s)] += 1
        timing.total += took_s
        if reply.status is not _OK:
            timing.failures[reply.status] += 1
            if not (quiet and reply.status in _QUIET):
                _tell(route, peer, reply, took_s)
        elif not quiet:
            _tell(route, peer, reply, took_s)
        if peer.request and self._labels:
            reply = _labelled(reply, peer.request)
        return route, reply


def _labelled(reply: Reply, request: str) -> Reply:
    """The answer, with the id under which its call is found in the log and the events."""
    return structs.replace(reply, headers={**reply.headers, REQUEST_ID: request})


def _tell(route: Route, peer: Peer, reply: Reply, took_s: float) -> None:
    log.info(
        "call.answered",
        route=route.name,
        wire=peer.wire,
        peer=peer.address,
        request=peer.request,
        status=reply.status.value,
        reason=reply.reason,
        ms=round(took_s * 1000, 2),
    )
