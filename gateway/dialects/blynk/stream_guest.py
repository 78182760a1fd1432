"""A device's connection by the binary protocol: what it is, and what it is told there."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import structlog
from msgspec import Struct

from gateway.core.model import AttributesChange, Order, Peer, RpcCall, Secret, Value
from gateway.core.presence import Attendance
from gateway.core.rpc import Rpc
from gateway.core.sessions import Cause, Session, Sessions, Slot
from gateway.dialects.blynk.callers import Known
from gateway.dialects.blynk.profile import Datastream
from gateway.dialects.blynk.stream_words import (
    HARDWARE,
    INVALID_TOKEN,
    LEAST_HEARTBEAT_S,
    MOST_HEARTBEAT_S,
    SILENT_BEATS,
    number_in,
    order_body,
    written_body,
)
from gateway.dialects.blynk.values import Mistake, from_json
from gateway.wire.call import Admitted, Link
from gateway.wire.router import Router

log = structlog.get_logger()

CLOSE_CODES: Final = {
    Cause.CREDENTIALS_CHANGED: INVALID_TOKEN,
    Cause.REMOVED: INVALID_TOKEN,
    Cause.TAKEN_OVER: 0,
}
"""The last RESPONSE of a session that is ended from this side; 0: none. Firmware acts on what its
next login is answered."""
LEAST_BUFFER, MOST_BUFFER = 64, 65_535
_PIN = re.compile(r"v(0|[1-9][0-9]{0,2})").fullmatch


class Household(Struct, frozen=True):
    """What all guests share. `router` serves those that are devices already."""

    sessions: Sessions
    rpc: Rpc
    attendance: Attendance
    router: Router


class StreamGuest:
    """The dialect's side of a connection, and the outlet of its session.

    It begins with a token: of a device (`known`), or of a ticket that waits in the organisation of
    that `path`. Then `known` is None until the claim.
    """

    __slots__ = (
        "_admitted",
        "_buffer",
        "_house",
        "_link",
        "_peer",
        "_session",
        "known",
        "outdated",
        "path",
        "refused",
        "said",
        "token",
    )

    def __init__(
        self,
        house: Household,
        token: Secret,
        peer: Peer,
        path: str = "",
        *,
        known: Known | None = None,
    ) -> None:
        self._house = house
        self._peer = peer
        self._admitted: Admitted | None = None
        self._link: Link | None = None
        self._session: Session | None = None
        self._buffer = MOST_BUFFER
        self.token = token
        self.known = known
        self.outdated = False
        """The profile was changed since `known` was read."""
        self.path = path
        self.said: Mapping[str, str] = {}
        """What it told of itself before the claim."""
        self.refused = False
        """It was told so, or it was written down, that its claim named no template of here."""

    def admit(self, admitted: Admitted) -> None:
        """What is replaced when it becomes a device."""
        self._admitted = admitted

    def claimed(self, known: Known) -> None:
        """It is a device from now on, and online."""
        self.known = known
        admitted = self._admitted
        if admitted is not None:
            admitted.name = "device"
            admitted.device = known.device
            admitted.router = self._house.router
            admitted.lasts_s = None
        if self._link is not None:  # else it has gone meanwhile
            self._open(known)

    def learned(self, said: Mapping[str, str]) -> None:
        """How often it gives a sign of life, and how large a body it can take."""
        beat_s = number_in(said, "h-beat", LEAST_HEARTBEAT_S, MOST_HEARTBEAT_S)
        if beat_s is not None and self._admitted is not None:
            self._admitted.idle_s = SILENT_BEATS * beat_s
        buffer = number_in(said, "buff-in", LEAST_BUFFER, MOST_BUFFER)
        if buffer is not None:
            self._buffer = buffer

    def push(self, command: str, body: bytes) -> bool:
        """Send a command, unless the device cannot take so large a body."""
        if self._link is None:
            return False
        if len(body) >= self._buffer:
            log.debug("blynk.not_sendable", peer=self._peer.address, bytes=len(body))
            return False
        return self._link.push(command, body)

    # ── what the transport tells ────────────────────────────────────────────────────────────

    def opened(self, link: Link) -> None:
        self._link = link
        if self.known is not None:
            self._open(self.known)

    def subscribed(self, topic_filter: str) -> None:
        """There are no subscriptions here."""

    def unsubscribed(self, topic_filter: str) -> None: ...

    def heard(self) -> None:
        if self.known is not None:
            self._house.attendance.heard(self.known.device.id)

    def closed(self) -> None:
        # Let go, so that a session is freed at once and not by the collector.
        self._link = self._admitted = None
        session, self._session = self._session, None
        if session is not None:
            self._house.sessions.close(session)

    def _open(self, known: Known) -> None:
        session = self._house.sessions.open(
            known.device,
            self._peer,
            self,
            slot=Slot.STREAM,
            wants_calls=known.template is not None,
        )
        if session.closed:
            return  # its login was changed meanwhile
        self._session = session
        if session.wants_calls:
            self._house.rpc.offer_soon(session)

    # ── what the device is told ─────────────────────────────────────────────────────────────

    def written(self, stream: Datastream, value: Value) -> None:
        if stream.pin is not None:
            self.push(HARDWARE, written_body(stream, value))

    def attributes_changed(self, change: AttributesChange) -> None:
        """This protocol has no words for it: devices ask for their metadata."""

    def call(self, request_id: int, call: RpcCall, delivered: Callable[[], None]) -> bool:
        """A call of the method of a datastream's name, or `v1`, writes its parameter there."""
        stream = self._stream_of(call.method)
        if stream is None or stream.pin is None:
            return False
        try:
            value = from_json(stream, msgspec.json.decode(call.params))
        except (Mistake, msgspec.DecodeError) as exc:
            log.info("rpc.not_sendable", peer=self._peer.address, reason=type(exc).__name__)
            return False
        if not self.push(HARDWARE, written_body(stream, value)):
            return False
        delivered()
        return True

    def _stream_of(self, method: str) -> Datastream | None:
        template = None if self.known is None else self.known.template
        if template is None:
            return None
        pin = _PIN(method)
        return template.by_name.get(method) or (template.by_pin.get(int(pin[1])) if pin else None)

    def obey(self, order: Order, argument: str) -> None:
        said = order_body(order, argument)
        if said is None:
            log.info("blynk.order_not_sendable", peer=self._peer.address, order=order.value)
        else:
            self.push(*said)

    def profile_changed(self) -> None:
        self.outdated = True

    def end(self, cause: Cause) -> None:
        if self._link is not None:
            self._link.close(CLOSE_CODES[cause])
