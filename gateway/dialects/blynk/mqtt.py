"""Devices over MQTT: who may connect (contract, sections 7.1, 7.2, 7.4)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from gateway.core.model import Peer, Secret, Ticket, Wire
from gateway.core.oauth_store import OAuthClient, OAuthScope
from gateway.core.renewals import Renewals
from gateway.dialects.blynk.gateway import GatewayApi
from gateway.dialects.blynk.gateway_guest import Errands, GatewayGuest
from gateway.dialects.blynk.guests import (
    NO_GATEWAY_TEXT,
    NOT_HERE_TEXT,
    DeviceGuest,
    Household,
    Place,
    may_connect,
    may_speak_for_others,
)
from gateway.dialects.blynk.line import Line
from gateway.dialects.blynk.pending import PendingApi, PendingGuest
from gateway.dialects.blynk.programs import Programs
from gateway.dialects.blynk.services import Services
from gateway.dialects.blynk.topics import DownlinkFilters, GatewayFilters, Subscriptions
from gateway.dialects.blynk.uplink import CONDUCT, Uplink
from gateway.dialects.blynk.waiting import Waiting
from gateway.wire.call import Admitted, Call, Hello, Rejected, Reply
from gateway.wire.route import Route
from gateway.wire.router import Router

DEVICE: Final = "device"
GATEWAY: Final = "mgmt_device"
CLIENT: Final = "oa2-client-id_"
"""What the user name of a device, a gateway device, and an OAuth client is, or begins with."""
MOST_CLIENT_ID: Final = 64

_UNKNOWN: Final = Rejected(4, 0x86, "unknown token")
_UNCLAIMED: Final = Rejected(4, 0x86, "the token is not claimed yet")
_NO_GATEWAY: Final = Rejected(5, 0x87, NO_GATEWAY_TEXT)
_NOT_HERE: Final = Rejected(3, 0x88, NOT_HERE_TEXT)
_TOO_MANY: Final = Rejected(3, 0x9F, "too many wrong tokens")
_LIMITED: Final = Rejected(3, 0x9F, "too many messages")
_LONG_ID: Final = Rejected(2, 0x85, f"a client id has at most {MOST_CLIENT_ID} characters")


class Clients(Protocol):
    """Programs of organisations, by what they log in with."""

    async def authenticate(self, name: str, secret: Secret, scope: str = "") -> OAuthClient | None:
        """The client, if this is its secret and it has that scope."""


class BlynkMqtt:
    """Opens sessions of devices, of tokens that wait for their claim, and of gateways.

    Without `clients` no OAuth client is known. `max_children`: devices one gateway may speak for
    in one session. `stop` it before the store is closed.
    """

    def __init__(
        self,
        services: Services,
        *,
        idle_s: float,
        clients: Clients | None = None,
        max_children: int = 10_000,
    ) -> None:
        self._callers = services.callers
        self._clients = clients
        self._claim_s = services.claim_s
        self._idle_s = idle_s
        self._max_children = max_children
        self._errands = Errands()
        self._house = Household(
            services.sessions,
            services.rpc,
            services.attendance,
            Renewals(services.templates.fresh),
            Waiting(),
            Programs(),
            services.clock,
        )
        uplink = Uplink(services.provisioner, services.callers, services.data, services.clock)
        routes = uplink.routes(_own)
        pending = PendingApi(uplink, services.callers, self._claimed)
        gateway = GatewayApi(uplink)

        def router(some: Iterable[Route]) -> Router:
            return Router(some, Wire.MQTT, services.gauge, timeout_s=services.timeout_s)

        self._router = router(routes)
        self._pending_router = router(pending.routes(routes))
        self._gateway_router = router(gateway.routes(own=True))
        self._client_router = router(gateway.routes(own=False))

    def speaks(self, hello: Hello) -> bool:
        """Whether this CONNECT is meant for this dialect, by its user name."""
        name = hello.username or ""
        return hello.password is not None and (name in (DEVICE, GATEWAY) or name.startswith(CLIENT))

    def client_revoked(self, client_id: int) -> None:
        """The connections of an OAuth client end, here."""
        self._house.programs.revoked(client_id)

    def end_programs(self) -> None:
        """The connections of all OAuth clients end, here."""
        self._house.programs.end_all()

    async def stop(self) -> None:
        """Nothing is begun any more on behalf of sessions."""
        await self._house.renewals.stop()
        await self._errands.stop()

    async def connect(self, hello: Hello) -> Admitted | Rejected:
        """Open a session. Touches no other session before its CONNACK is sent."""
        if self._callers.strangers.wait_s(hello.peer):
            return _TOO_MANY
        if len(hello.client_id) > MOST_CLIENT_ID:
            return _LONG_ID
        name = hello.username or ""
        secret = Secret((hello.password or b"").decode(errors="replace"))
        find = self._by_client if name.startswith(CLIENT) else self._by_token
        return await find(name, secret, hello.peer)

    def refused(self, hello: Hello, verdict: Rejected) -> None:
        """No other dialect knows it either: a wrong token counts now."""
        if verdict is _UNKNOWN:
            self._callers.strangers.wrong(hello.peer)

    # ── devices, and what may become one ────────────────────────────────────────────────────

    async def _by_token(self, name: str, token: Secret, peer: Peer) -> Admitted | Rejected:
        found = await self._callers.by_token(token, peer)
        if found is None:
            return _UNKNOWN
        if isinstance(found, Ticket):
            return self._pending(found, token, peer) if name == DEVICE else _UNCLAIMED
        known = await self._callers.with_template(found)
        if not may_connect(known):
            return _NOT_HERE
        if await self._callers.limited(known) is not None:
            return _LIMITED
        is_gateway = name == GATEWAY
        if is_gateway and not may_speak_for_others(known):
            return _NO_GATEWAY
        line, granted = Line(self._house.clock), Subscriptions()
        own = DeviceGuest(self._house, line, known, token, peer, granted, is_gateway=is_gateway)
        return self._gateway(peer, own=own) if is_gateway else self._device(own)

    def _device(self, own: DeviceGuest) -> Admitted:
        return Admitted(
            name="device",
            router=self._router,
            filters=DownlinkFilters(own.subscriptions),
            conduct=CONDUCT,
            device=own.known.device,
            idle_s=self._idle_s,
            guest=own,
        )

    def _pending(self, ticket: Ticket, token: Secret, peer: Peer) -> Admitted:
        guest = PendingGuest(self._house, ticket, token, peer)
        admitted = Admitted(
            name="pending",
            router=self._pending_router,
            filters=DownlinkFilters(guest.subscriptions),
            conduct=CONDUCT,
            lasts_s=self._claim_s,
            guest=guest,
        )
        guest.admit(admitted)
        return admitted

    def _claimed(self, admitted: Admitted, own: DeviceGuest) -> None:
        admitted.name, admitted.device, admitted.guest = "device", own.known.device, own
        admitted.router = self._router
        admitted.lasts_s, admitted.idle_s = None, self._idle_s

    # ── gateways ────────────────────────────────────────────────────────────────────────────

    async def _by_client(self, name: str, secret: Secret, peer: Peer) -> Admitted | Rejected:
        if self._clients is None:
            return _UNKNOWN
        client = await self._clients.authenticate(name, secret, OAuthScope.GATEWAY_API)
        return _UNKNOWN if client is None else self._gateway(peer, client=client)

    def _gateway(
        self, peer: Peer, *, own: DeviceGuest | None = None, client: OAuthClient | None = None
    ) -> Admitted:
        guest = GatewayGuest(
            self._house,
            self._errands,
            self._callers,
            peer,
            line=Line(self._house.clock) if own is None else own.line,
            own=own,
            client=client,
            most=self._max_children,
        )
        return Admitted(
            name="gateway",
            router=self._client_router if own is None else self._gateway_router,
            filters=GatewayFilters(guest.subscriptions, own=own is not None),
            conduct=CONDUCT,
            device=guest.device,
            idle_s=self._idle_s,
            guest=guest,
        )


async def _own(call: Call) -> Place | Reply:
    guest: DeviceGuest = call.guest
    return guest
