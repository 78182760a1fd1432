"""Who calls: the device of a token, and how often strangers may be wrong (contract, 5.2)."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from gateway.core.access import SOMEBODY, Access
from gateway.core.limits import Rate, RateLimiter
from gateway.core.model import (
    Device,
    Package,
    PackageKind,
    Peer,
    Secret,
    Ticket,
    TicketKind,
    Wire,
)
from gateway.core.networks import host_of, subnet_of
from gateway.core.ports import Clock, Store
from gateway.core.presence import Attendance
from gateway.core.throttle import Throttle
from gateway.dialects.blynk.profile import BlynkTemplate, Templates
from gateway.dialects.blynk.words import INVALID_TOKEN, too_many
from gateway.wire.call import Call, Reply, pairs_of

MOST_STRANGERS: Final = 10_000


class Known(Struct, frozen=True):
    """A device that calls, and its template; None when its profile is none."""

    device: Device
    template: BlynkTemplate | None


def parameters(call: Call) -> dict[str, str]:
    """Of each parameter the first value (contract, 5.2)."""
    return dict(reversed(pairs_of(call.query)))


def parameter(call: Call, name: str) -> str:
    """The first value of a parameter; "" without one."""
    return next((value for key, value in pairs_of(call.query) if key == name), "")


class Strangers:
    """How often a wrong token may be shown from one address. None: as often as they like.

    Who sends datagrams in the open may write any address on them: they are counted apart, so that
    nobody's other connections suffer for it.
    """

    def __init__(self, rate: Rate | None, clock: Clock) -> None:
        self._throttle = None if rate is None else Throttle(rate, most=MOST_STRANGERS)
        self._clock = clock

    def wait_s(self, peer: Peer) -> int:
        """Seconds until this address may try again; 0 for now."""
        if self._throttle is None or not len(self._throttle):
            return 0
        return -(-self._throttle.wait(_name_of(peer), self._clock()) // 1000)

    def wrong(self, peer: Peer) -> None:
        """It showed a token that is nobody's."""
        if self._throttle is not None:
            self._throttle.spend(_name_of(peer), self._clock())


def _name_of(peer: Peer) -> str:
    host = subnet_of(host_of(peer))
    return f"{host} by CoAP" if peer.wire is Wire.COAP else host


class Callers:
    """Finds out who sent a call."""

    def __init__(
        self,
        store: Store,
        access: Access,
        templates: Templates,
        attendance: Attendance,
        limiter: RateLimiter,
        strangers: Strangers,
        clock: Clock,
    ) -> None:
        self._store = store
        self._access = access
        self._templates = templates
        self._attendance = attendance
        self._limiter = limiter
        self._clock = clock
        self.strangers = strangers

    async def known(self, call: Call) -> Known | Reply:
        """The device of the call's token; a reply when it is nobody's, or pending."""
        token = parameter(call, "token")
        wait_s = self.strangers.wait_s(call.peer)
        if wait_s:
            return too_many(wait_s)
        device = await self._access.by_token(Secret(token), call.peer) if token else None
        if device is None:
            self.strangers.wrong(call.peer)
            return INVALID_TOKEN
        self._attendance.heard(device.id)
        return await self.with_template(device)

    async def with_template(self, device: Device) -> Known:
        return Known(device, await self._templates.of(device))

    async def is_elsewhere(self, device: Device, node: int) -> bool:
        """Whether another gateway process than `node` has a live connection of the device."""
        return await self._store.is_elsewhere(device.id, node, self._clock())

    async def path(self, device: Device) -> str:
        """That of the organisation the device is in; "" when it is gone."""
        return await self._store.device_path(device.id)

    async def only_profile(self, ticket: Ticket) -> int | None:
        """The one profile whose template may claim it; None: any."""
        if ticket.kind is not TicketKind.ROTATE:
            return ticket.profile_id
        known = await self._store.known_device(ticket.device_id)
        return 0 if known is None else known.device.profile_id

    async def firmware(self, device: Device) -> Package | None:
        """What it is to run."""
        return await self._store.package_for(device, PackageKind.FIRMWARE)

    async def limited(
        self, known: Known, points: int | None = None, *, gateway: Device | None = None
    ) -> Reply | None:
        """Count one message, with so many values if it has any; a reply when it is too much.
        `gateway` is the one that speaks for the device."""
        texts = {} if known.template is None else known.template.profile.limits
        own = self._limiter.own_limits(texts, gateway=known.device.gateway)
        limited = self._limiter.take(known.device, points, self._clock(), own=own, gateway=gateway)
        return None if limited is None else too_many(limited.retry_after_s)

    async def by_token(self, token: Secret, peer: Peer = SOMEBODY) -> Device | Ticket | None:
        """For connections: the device of a token, or the ticket that waits with it."""
        found = await self._store.find_token(token) if token else None
        if found is None and token:
            return await self._access.by_token(token, peer)  # one that is used for the first time
        return None if isinstance(found, Ticket) and found.expired(self._clock()) else found
