"""A device's own MQTT session: what it subscribed to, and what it is told there (section 7.3)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from gateway.core.model import (
    AttributesChange,
    Device,
    Order,
    Peer,
    ProfileTransport,
    RpcCall,
    Secret,
    Value,
)
from gateway.core.ports import Clock
from gateway.core.presence import Attendance
from gateway.core.renewals import Renewals
from gateway.core.rpc import Rpc
from gateway.core.sessions import Cause, Session, Sessions
from gateway.dialects.blynk.callers import Known
from gateway.dialects.blynk.line import ADMINISTRATIVE, TAKEN_OVER, Line
from gateway.dialects.blynk.profile import BlynkTemplate, Datastream
from gateway.dialects.blynk.programs import Programs
from gateway.dialects.blynk.topics import (
    DATASTREAMS,
    DIAG,
    METADATA,
    OTA,
    REBOOT,
    RECONFIGURE,
    REDIRECT,
    Subscriptions,
    brings_values,
)
from gateway.dialects.blynk.values import Mistake, from_json, texts_of
from gateway.dialects.blynk.waiting import Waiting
from gateway.wire.call import Link, Reply, Status

_ENDS: Final = {
    Cause.CREDENTIALS_CHANGED: ADMINISTRATIVE,
    Cause.REMOVED: ADMINISTRATIVE,
    Cause.TAKEN_OVER: TAKEN_OVER,
}
NOT_HERE_TEXT: Final = "the device's profile is for another transport"
NO_GATEWAY_TEXT: Final = "the device's template is not enabled for the gateway API"
_GONE: Final = Reply(status=Status.GONE, reason="the token is no longer good")
_PIN: Final = re.compile(r"v([0-9]{1,4})").fullmatch
_encode = msgspec.json.Encoder().encode


class Household(Struct, frozen=True):
    """What all guests share."""

    sessions: Sessions
    rpc: Rpc
    attendance: Attendance
    renewals: Renewals[BlynkTemplate | None]
    waiting: Waiting
    programs: Programs
    clock: Clock


def payload_of(value: Value) -> bytes:
    """A value as devices read it: text, the parts of a list separated by NUL (section 7.3)."""
    return "\0".join(texts_of(value)).encode()


class Place:
    """A device as it is reached over one connection, its own or a gateway's: an `Outlet`."""

    __slots__ = ("_house", "_line", "_session", "known", "peer", "subscriptions", "token")

    prefix = ""
    """What its topics begin with."""
    gateway: Device | None = None
    """The gateway device that speaks for it."""

    def __init__(
        self,
        house: Household,
        line: Line,
        known: Known,
        token: Secret,
        peer: Peer,
        subscriptions: Subscriptions,
    ) -> None:
        self._house = house
        self._line = line
        self._session: Session | None = None
        self.known = known
        self.token = token
        self.peer = peer
        self.subscriptions = subscriptions

    # ── the connection ──────────────────────────────────────────────────────────────────────

    def _enter(self, gateway_id: int | None = None) -> None:
        """It can be reached from now on."""
        self._session = session = self._house.sessions.open(
            self.known.device,
            self.peer,
            self,
            gateway_id=gateway_id,
            wants_attributes=True,
            wants_calls=self.subscriptions.reach_datastreams,
        )
        if session.wants_calls and not session.closed:
            self._house.rpc.offer_soon(session)

    def leave(self) -> None:
        """It cannot any more."""
        session, self._session = self._session, None
        if session is not None:
            self._house.sessions.close(session)

    def heard(self) -> None:
        self._house.attendance.heard(self.known.device.id)

    def listens_to(self, topic_filter: str) -> None:
        """Calls that waited for the device go to it now."""
        self.subscriptions.add(topic_filter)
        session = self._session
        if session is None:
            return
        session.wants_calls = self.subscriptions.reach_datastreams
        if brings_values(topic_filter) and not session.closed:
            self._house.rpc.offer_soon(session)

    def ignores(self, topic_filter: str) -> None:
        self.subscriptions.discard(topic_filter)
        if self._session is not None:
            self._session.wants_calls = self.subscriptions.reach_datastreams

    @property
    def line(self) -> Line:
        return self._line

    def gone(self) -> Reply:
        """Its token turned out to be good no more."""
        return _GONE

    # ── what the device is told ─────────────────────────────────────────────────────────────

    def tell(self, topic: str, body: bytes, delivered: Callable[[], None] | None = None) -> bool:
        """If it subscribed to that."""
        if not self.subscriptions.cover(topic):
            return False
        return self._line.push(self.prefix + topic, body, delivered)

    def note(self, text: str) -> None:
        """What is wrong with what it sent, subscribed to or not."""
        self._line.note(text, topic=self.prefix + DIAG)

    def written(self, stream: Datastream, value: Value) -> None:
        self.tell(DATASTREAMS + stream.name, payload_of(value))

    def attributes_changed(self, change: AttributesChange) -> None:
        """Fields of metadata, by their names; and firmware, subscribed to or not (section 7.1)."""
        template = self.known.template
        fields = {} if template is None else template.field_by_name
        for name, value in change.values.items():
            if name in fields:
                self.tell(METADATA + name, payload_of(value))
        for name in change.deleted:
            if name in fields:
                default = fields[name].default
                self.tell(METADATA + name, payload_of("" if default is None else default))
        self.offer_firmware(change.values)

    def offer_firmware(self, values: Mapping[str, Value]) -> None:
        """Tell of the package that these shared attributes announce, if they do."""
        body = ota_of(values, self.token)
        if body:
            self._line.push(self.prefix + OTA, body)

    def call(self, request_id: int, call: RpcCall, delivered: Callable[[], None]) -> bool:
        """A call of the method that is a datastream's name, or its pin (`v1`), writes to it."""
        stream = stream_called(self.known.template, call.method)
        if stream is None:
            return False
        try:
            value = from_json(stream, msgspec.json.decode(call.params))
        except (Mistake, msgspec.DecodeError, ValueError, RecursionError):
            return False
        return self.tell(DATASTREAMS + stream.name, payload_of(value), delivered)

    def obey(self, order: Order, argument: str) -> None:
        match order:
            case Order.RECONFIGURE:
                self.tell(RECONFIGURE, b"")
            case Order.REBOOT:
                self.tell(REBOOT, b"")
            case Order.REDIRECT:
                self._line.push(self.prefix + REDIRECT, argument.encode())

    def profile_changed(self) -> None:
        self._house.renewals.ask(self.known.device, self._renewed)

    def _renewed(self, template: BlynkTemplate | None) -> None:
        self.known = Known(self.known.device, template)

    def end(self, cause: Cause) -> None:
        self._line.shut(_ENDS[cause])


class DeviceGuest(Place):
    """The device's side of a connection of its own. `is_gateway`: it speaks for others there."""

    __slots__ = ("is_gateway",)

    def __init__(
        self,
        house: Household,
        line: Line,
        known: Known,
        token: Secret,
        peer: Peer,
        subscriptions: Subscriptions,
        *,
        is_gateway: bool = False,
    ) -> None:
        super().__init__(house, line, known, token, peer, subscriptions)
        self.is_gateway = is_gateway

    def opened(self, link: Link) -> None:
        self._line.open(link)
        self._house.waiting.overtaken(self.known.device, self.token)
        self._enter()

    def subscribed(self, topic_filter: str) -> None:
        self.listens_to(topic_filter)

    def unsubscribed(self, topic_filter: str) -> None:
        self.ignores(topic_filter)

    def closed(self) -> None:
        self._line.close()
        self.leave()

    def _renewed(self, template: BlynkTemplate | None) -> None:
        """What it may not be connected for any more ends the connection."""
        super()._renewed(template)
        if not may_connect(self.known):
            self._line.shut(ADMINISTRATIVE, NOT_HERE_TEXT)
        elif self.is_gateway and not may_speak_for_others(self.known):
            self._line.shut(ADMINISTRATIVE, NO_GATEWAY_TEXT)


def may_connect(known: Known) -> bool:
    """Whether its profile is for MQTT too, as far as is known."""
    template = known.template
    transport = known.device.transport if template is None else template.profile.transport
    return transport is not ProfileTransport.COAP


def may_speak_for_others(known: Known) -> bool:
    """Whether its template is enabled for the gateway API (section 7.4)."""
    return known.template is not None and known.template.section.gateway


def stream_called(template: BlynkTemplate | None, method: str) -> Datastream | None:
    """The datastream of that name, or of the pin `v1`."""
    if template is None:
        return None
    pin = _PIN(method)
    return template.by_name.get(method) or (template.by_pin.get(int(pin[1])) if pin else None)


def ota_of(values: Mapping[str, Value], token: Secret) -> bytes:
    """`downlink/ota/json` of attributes that announce firmware; b"" when they announce none.

    What is kept here is fetched from where the device is connected: its `url` is a path there.
    """
    title, version, url = (values.get(f"fw_{name}") for name in ("title", "version", "url"))
    if not isinstance(title, str) or not isinstance(version, str):
        return b""
    if not isinstance(url, str) or not url:
        query = urlencode({"title": title, "version": version})
        url = f"/api/v1/{token.reveal()}/firmware?{query}"
    size = values.get("fw_size")
    told = {"url": url, "type": title, "ver": version}
    return _encode(told | {"size": size} if isinstance(size, int) else told)
