"""A gateway's MQTT session: its own, and a place for each device it speaks for (section 9)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

from gateway.core.model import AttributesChange, Device, Peer, RpcCall
from gateway.core.rpc import Rpc
from gateway.core.sessions import Cause, Session, Sessions
from gateway.dialects.thingsboard.callers import Settings
from gateway.dialects.thingsboard.gateway_messages import GatewayCodec, gateway_codec_for
from gateway.dialects.thingsboard.topics import GATEWAY_PROVISION_RESPONSE
from gateway.wire.call import BadPayload, Guest, Link

log = structlog.get_logger()

ATTRIBUTES_TOPIC: Final = "v1/gateway/attributes"
RPC_TOPIC: Final = "v1/gateway/rpc"
DISCONNECT_TOPIC: Final = "v1/gateway/disconnect"
RESPONSE_TOPIC: Final = "v1/gateway/attributes/response"
GATEWAY_TOPICS: Final = frozenset(
    {
        ATTRIBUTES_TOPIC,
        RESPONSE_TOPIC,
        RPC_TOPIC,
        DISCONNECT_TOPIC,
        GATEWAY_PROVISION_RESPONSE,
    }
)
"""What a gateway may subscribe to beside the filters of a device; no wildcard."""

REASONS: Final = {
    Cause.CREDENTIALS_CHANGED: 0x98,
    Cause.REMOVED: 0x98,
    Cause.TAKEN_OVER: 0x8E,
}
"""MQTT 5 reason codes of an end from this side (section 7.4)."""


class GatewayGuest:
    """The gateway's own guest, and the sessions of its children by name."""

    __slots__ = (
        "_link",
        "_own",
        "_rpc",
        "_sessions",
        "_wants",
        "children",
        "codec",
        "device",
        "peer",
    )

    def __init__(
        self,
        own: Guest,
        device: Device,
        peer: Peer,
        codec: GatewayCodec,
        sessions: Sessions,
        rpc: Rpc,
    ) -> None:
        self._own = own
        self._sessions = sessions
        self._rpc = rpc
        self._link: Link | None = None
        self._wants: set[str] = set()
        self.device = device
        self.peer = peer
        self.codec = codec
        self.children: dict[str, Session] = {}

    def renewed(self, settings: Settings) -> None:
        """The gateway's profile was changed: it may speak in another format from now on."""
        self.codec = gateway_codec_for(settings.dialect)

    # ── the gateway's side of its connection ────────────────────────────────────────────────

    def opened(self, link: Link) -> None:
        self._link = link
        self._own.opened(link)

    def subscribed(self, topic_filter: str) -> None:
        if topic_filter not in GATEWAY_TOPICS:
            self._own.subscribed(topic_filter)
            return
        self._wants.add(topic_filter)
        for session in self.children.values():
            self._tell_wants(session)

    def unsubscribed(self, topic_filter: str) -> None:
        if topic_filter not in GATEWAY_TOPICS:
            self._own.unsubscribed(topic_filter)
            return
        self._wants.discard(topic_filter)
        for session in self.children.values():
            self._tell_wants(session)

    def heard(self) -> None:
        self._own.heard()

    def closed(self) -> None:
        self._link = None
        self._own.closed()
        children, self.children = self.children, {}
        for session in children.values():
            self._sessions.close(session)

    # ── children ────────────────────────────────────────────────────────────────────────────

    def enter(self, name: str, device: Device) -> Device:
        """`device` is reached through this gateway from now on; the session it has already stands.

        The gateway may be gone by now, or mean itself: then there is no place to open.
        """
        present = self.children.get(name)
        if present is not None and not present.closed:
            return present.device
        if self._link is None or device.id == self.device.id:
            return device
        outlet = ChildOutlet(self, name)
        session = self._sessions.open(device, self.peer, outlet, gateway_id=self.device.id)
        self.children[name] = session
        self._tell_wants(session)
        return device

    def leave(self, name: str) -> None:
        """The device is not reached through this gateway any more, by the gateway's own word."""
        session = self.children.pop(name, None)
        if session is not None:
            self._sessions.close(session)

    def forget(self, name: str, device: Device) -> None:
        """The same for a device whose login is no longer good, unless it came back meanwhile."""
        session = self.children.get(name)
        if session is not None and session.device.credentials_row == device.credentials_row:
            self.leave(name)

    def _tell_wants(self, session: Session) -> None:
        session.wants_attributes = ATTRIBUTES_TOPIC in self._wants
        wanted, session.wants_calls = session.wants_calls, RPC_TOPIC in self._wants
        if session.wants_calls and not wanted:
            self._rpc.offer_soon(session)

    # ── what children are told ──────────────────────────────────────────────────────────────

    def push(self, topic: str, body: bytes, delivered: Callable[[], None] | None = None) -> bool:
        return self._link is not None and self._link.push(topic, body, delivered)

    def ended(self, name: str, cause: Cause) -> None:
        """A child's session was ended from this side; MQTT 5 gateways are told."""
        self.children.pop(name, None)
        if self._link is not None and self._link.version == 5:
            self.push(DISCONNECT_TOPIC, self.codec.gone(name, REASONS[cause]))


class ChildOutlet:
    """How a device behind a gateway is told things: through the gateway, by its name."""

    __slots__ = ("_guest", "_name")

    def __init__(self, guest: GatewayGuest, name: str) -> None:
        self._guest = guest
        self._name = name

    def attributes_changed(self, change: AttributesChange) -> None:
        guest = self._guest
        try:
            body = guest.codec.attributes_update(self._name, change)
        except BadPayload as exc:
            log.warning("attributes.not_sendable", device=self._name, reason=str(exc))
            return
        guest.push(ATTRIBUTES_TOPIC, body)

    def call(self, request_id: int, call: RpcCall, delivered: Callable[[], None]) -> bool:
        guest = self._guest
        try:
            body = guest.codec.rpc_request(self._name, request_id, call)
        except BadPayload as exc:
            log.warning("rpc.not_sendable", device=self._name, reason=str(exc))
            return False
        return guest.push(RPC_TOPIC, body, delivered)

    def profile_changed(self) -> None:
        """A child is spoken for in the gateway's format: its own profile changes nothing here."""

    def end(self, cause: Cause) -> None:
        self._guest.ended(self._name, cause)
