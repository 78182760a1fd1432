"""A device's own MQTT session: what it subscribed to, and what it is told there (section 8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import structlog
from msgspec import Struct

from gateway.core.model import AttributesChange, Device, Peer, ProfileTransport, RpcCall
from gateway.core.presence import Attendance
from gateway.core.renewals import Renewals
from gateway.core.rpc import Rpc
from gateway.core.sessions import Cause, Session, Sessions
from gateway.dialects.thingsboard.callers import Settings
from gateway.dialects.thingsboard.topics import Voice
from gateway.wire.call import Admitted, BadPayload, Conduct, Link, Status
from gateway.wire.router import Router

log = structlog.get_logger()

CLOSE_CODES: Final = {
    Cause.CREDENTIALS_CHANGED: 0x98,
    Cause.REMOVED: 0x98,
    Cause.TAKEN_OVER: 0x8E,
}
"""MQTT 5 reason codes of an end from this side (section 7.4)."""
OTHER_TRANSPORT: Final = 0x98
"""That of a profile that was made one for CoAP alone: an act of people, as the first two."""


Renewed: TypeAlias = Callable[[Settings], None]


class Plan(Struct, frozen=True, kw_only=True):
    """How sessions of one kind of device are served: one for a profile's revision.

    `updates` and `calls` are the filters that ask for shared attributes and for calls.
    """

    revision: int
    router: Router
    filters: frozenset[str]
    conduct: Mapping[Status, Conduct]
    updates: Mapping[str, Voice]
    calls: Mapping[str, Voice]


class Household(Struct, frozen=True):
    """What all guests share. `plan_of` gives the plan of a device's profile as `Settings` say."""

    sessions: Sessions
    rpc: Rpc
    attendance: Attendance
    renewals: Renewals[Settings]
    plan_of: Callable[[Device, Settings], Plan]


class DeviceGuest:
    """The dialect's side of a device's connection, and the outlet of its session."""

    __slots__ = (
        "_admitted",
        "_device",
        "_house",
        "_link",
        "_peer",
        "_plan",
        "_renewed_too",
        "_session",
        "_subscribed",
    )

    def __init__(self, house: Household, device: Device, peer: Peer, plan: Plan) -> None:
        self._house = house
        self._device = device
        self._peer = peer
        self._plan = plan
        self._subscribed: tuple[str, ...] = ()
        """The filters that matter here, the one subscribed to last at the end."""
        self._admitted: Admitted | None = None
        self._renewed_too: Renewed | None = None
        self._link: Link | None = None
        self._session: Session | None = None

    def admit(self, admitted: Admitted, renewed: Renewed | None = None) -> None:
        """What is replaced when the profile changes, and who else is told its settings then."""
        self._admitted = admitted
        self._renewed_too = renewed

    # ── what the transport tells ────────────────────────────────────────────────────────────

    def opened(self, link: Link) -> None:
        self._link = link
        self._session = self._house.sessions.open(self._device, self._peer, self)

    def subscribed(self, topic_filter: str) -> None:
        """Calls that waited for the device go to it now."""
        plan, session = self._plan, self._session
        if session is None or not (topic_filter in plan.updates or topic_filter in plan.calls):
            return
        others = (one for one in self._subscribed if one != topic_filter)
        self._subscribed = (*others, topic_filter)
        self._tell_wants(session)
        if topic_filter in plan.calls and not session.closed:
            self._house.rpc.offer_soon(session)

    def unsubscribed(self, topic_filter: str) -> None:
        self._subscribed = tuple(one for one in self._subscribed if one != topic_filter)
        if self._session is not None:
            self._tell_wants(self._session)

    def heard(self) -> None:
        self._house.attendance.heard(self._device.id)

    def closed(self) -> None:
        # Let go, so that a session is freed at once and not by the collector.
        self._link = self._admitted = self._renewed_too = None
        session, self._session = self._session, None
        if session is not None:
            self._house.sessions.close(session)

    # ── what the device is told ─────────────────────────────────────────────────────────────

    def attributes_changed(self, change: AttributesChange) -> None:
        voice = self._voice(self._plan.updates)
        if voice is None or self._link is None:
            return
        try:
            body = voice.down.attributes_update(change)
        except BadPayload as exc:
            log.warning("attributes.not_sendable", device=self._device.name, reason=str(exc))
            return
        self._link.push(voice.updates_topic, body)

    def call(self, request_id: int, call: RpcCall, delivered: Callable[[], None]) -> bool:
        voice = self._voice(self._plan.calls)
        if voice is None or self._link is None:
            return False
        try:
            body = voice.down.rpc_request(request_id, call, with_id=False)
        except BadPayload as exc:
            log.warning("rpc.not_sendable", device=self._device.name, reason=str(exc))
            return False
        return self._link.push(f"{voice.family.rpc_request}{request_id}", body, delivered)

    def profile_changed(self) -> None:
        self._house.renewals.ask(self._device, self._renewed)

    def end(self, cause: Cause) -> None:
        if self._link is not None:
            self._link.close(CLOSE_CODES[cause])

    def _renewed(self, settings: Settings) -> None:
        admitted, session = self._admitted, self._session
        if admitted is None or session is None:
            return  # it has gone meanwhile
        if settings.transport is ProfileTransport.COAP:
            if self._link is not None:
                self._link.close(OTHER_TRANSPORT, "the device's profile is for another transport")
            return
        self._plan = plan = self._house.plan_of(self._device, settings)
        admitted.router, admitted.filters = plan.router, plan.filters
        admitted.conduct = plan.conduct
        self._tell_wants(session)
        if self._renewed_too is not None:
            self._renewed_too(settings)

    def _tell_wants(self, session: Session) -> None:
        session.wants_attributes = self._voice(self._plan.updates) is not None
        session.wants_calls = self._voice(self._plan.calls) is not None

    def _voice(self, wanted: Mapping[str, Voice]) -> Voice | None:
        """The family subscribed to last among those wanted."""
        for topic_filter in reversed(self._subscribed):
            voice = wanted.get(topic_filter)
            if voice is not None:
                return voice
        return None
