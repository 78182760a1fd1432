"""Which devices are here now, and how each is told things.

A session is whatever a device can be reached by: an MQTT connection, its place behind a gateway, a
CoAP observation, an HTTP long poll. The dialect gives each an `Outlet`, which knows the words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Protocol, runtime_checkable

import structlog

from gateway.core.model import AttributesChange, Device, Order, Peer, RpcCall
from gateway.core.presence import Attendance

log = structlog.get_logger()

MOST_ENDED = 10_000
"""Devices of which it is remembered that their login changed: enough for all that could be between
the look at their credentials and the opening of a session."""
MOST_POLLS = 20
"""Polls of one device that wait at once; one more ends the oldest."""


class Cause(Enum):
    """Why a session is ended from this side."""

    CREDENTIALS_CHANGED = "credentials_changed"
    REMOVED = "removed"
    TAKEN_OVER = "taken_over"
    """A newer session of the same device stands in its place."""


class Slot(Enum):
    """What kind of session it is. A device has one of each at a time, but `MOST_POLLS` of those
    that say nothing of its being here."""

    LIVE = "live"
    """A connection of its own, or a place behind a gateway: the newer of the two stands."""
    OBSERVED_ATTRIBUTES = "observed_attributes"
    OBSERVED_CALLS = "observed_calls"
    OBSERVED_ORDERS = "observed_orders"
    STREAM = "stream"
    """A connection by a protocol of its own, which may stand beside a live one."""
    POLL = "poll"
    SECURE = "secure"
    """A connection whose handshake proved whose it is; what is asked through it comes besides."""

    @property
    def passing(self) -> bool:
        """Whether there may be many, and none says that the device is here."""
        return self in (Slot.POLL, Slot.SECURE)

    @property
    def takes_orders(self) -> bool:
        """Whether a device with such a session can be told something at once."""
        return self in (Slot.LIVE, Slot.STREAM, Slot.OBSERVED_ORDERS)


class Outlet(Protocol):
    """The dialect's side of a session. Nothing here waits or raises."""

    def attributes_changed(self, change: AttributesChange) -> None: ...

    def call(self, request_id: int, call: RpcCall, delivered: Callable[[], None]) -> bool:
        """Send a call to the device. False when it cannot be sent; it is offered elsewhere then.

        `delivered` is called once the device's side has acknowledged it.
        """

    def profile_changed(self) -> None:
        """The settings of the device's profile are others from now on."""

    def end(self, cause: Cause) -> None:
        """Say goodbye and let go. The session is already closed."""


@runtime_checkable
class Obedient(Protocol):
    """An `Outlet` with words for orders. The others have them as calls of methods."""

    def obey(self, order: Order, argument: str) -> None: ...


class Session:
    """One way to reach a device. `wants_attributes` and `wants_calls` are what it subscribed to."""

    __slots__ = (
        "closed",
        "device",
        "gateway_id",
        "outlet",
        "peer",
        "slot",
        "wants_attributes",
        "wants_calls",
    )

    def __init__(
        self, device: Device, peer: Peer, outlet: Outlet, slot: Slot, gateway_id: int | None
    ) -> None:
        self.device = device
        self.peer = peer
        self.outlet = outlet
        self.slot = slot
        self.gateway_id = gateway_id
        self.wants_attributes = False
        self.wants_calls = False
        self.closed = False


class Sessions:
    """All sessions of this process. One device's are found by its number."""

    def __init__(self, attendance: Attendance) -> None:
        self._attendance = attendance
        self._by_device: dict[int, list[Session]] = {}
        self._ended: dict[int, tuple[Cause, int]] = {}
        """Of devices ended lately: why, and from which generation on a login is good; 0: never."""

    def __len__(self) -> int:
        """How many devices have a session."""
        return len(self._by_device)

    @property
    def devices(self) -> list[int]:
        """The numbers of the devices that have one."""
        return list(self._by_device)

    @property
    def node(self) -> int:
        """The number of this process."""
        return self._attendance.node

    def __iter__(self) -> Iterator[Session]:
        """All sessions; it may change while it is walked."""
        for sessions in list(self._by_device.values()):
            yield from list(sessions)

    def of(self, device_id: int) -> tuple[Session, ...]:
        """The sessions of a device, oldest first."""
        return tuple(self._by_device.get(device_id, ()))

    def open(
        self,
        device: Device,
        peer: Peer,
        outlet: Outlet,
        *,
        slot: Slot = Slot.LIVE,
        gateway_id: int | None = None,
        wants_attributes: bool = False,
        wants_calls: bool = False,
    ) -> Session:
        """A device can be reached by `outlet` from now on; the older in its slot is taken over.

        One whose login was changed since `device` was read is ended at once.
        """
        session = Session(device, peer, outlet, slot, gateway_id)
        session.wants_attributes = wants_attributes
        session.wants_calls = wants_calls
        alike = [one for one in self.of(device.id) if one.slot is slot]
        older = alike[0] if len(alike) >= (MOST_POLLS if slot.passing else 1) else None
        self._by_device.setdefault(device.id, []).append(session)
        if not slot.passing:
            self._attendance.connected(device.id, peer, gateway_id)
        if older is not None:
            self._end(older, Cause.TAKEN_OVER)
        ended = self._ended.get(device.id)
        if ended is not None and not _is_good(session, ended[1]):
            self._end(session, ended[0])
        return session

    def close(self, session: Session) -> None:
        """The session is over. Closing it again is nothing."""
        if session.closed:
            return
        session.closed = True
        device_id = session.device.id
        left = self._by_device[device_id]
        left.remove(session)
        if not left:
            del self._by_device[device_id]
        if not session.slot.passing:
            if any(not one.slot.passing for one in left):
                return
            self._attendance.disconnected(device_id)

    def end(self, device_id: int, cause: Cause, *, but_generation: int = 0) -> None:
        """End all sessions of a device, except those logged in with `but_generation` or later."""
        self._ended.pop(device_id, None)
        if len(self._ended) >= MOST_ENDED:
            del self._ended[next(iter(self._ended))]
        self._ended[device_id] = (cause, but_generation)
        for session in self.of(device_id):
            if not _is_good(session, but_generation):
                self._end(session, cause)

    def cut(self, device_id: int, cause: Cause) -> None:
        """End all sessions of a device, which may come again as soon as it is let in."""
        for session in self.of(device_id):
            self._end(session, cause)

    def attributes_changed(
        self, change: AttributesChange, *, device_id: int | None, profile_id: int | None
    ) -> None:
        """Tell whoever subscribed: the sessions of one device, or of all of a profile."""
        for session in self._concerned(device_id, profile_id):
            if session.wants_attributes:
                try:
                    session.outlet.attributes_changed(change)
                except Exception:  # one that breaks must not keep the others from hearing
                    log.exception("session.not_told", peer=session.peer.address)

    def is_reachable(self, device_id: int) -> bool:
        """Whether the device can be told something at once by this process."""
        return any(one.slot.takes_orders for one in self.of(device_id))

    def profile_changed(self, profile_id: int) -> None:
        for session in self._concerned(None, profile_id):
            session.outlet.profile_changed()

    def _concerned(self, device_id: int | None, profile_id: int | None) -> Iterator[Session]:
        if device_id is not None:
            yield from self.of(device_id)
            return
        for session in self:
            if session.device.profile_id == profile_id and not session.closed:
                yield session

    def _end(self, session: Session, cause: Cause) -> None:
        if not session.closed:
            self.close(session)
            session.outlet.end(cause)


def _is_good(session: Session, generation: int) -> bool:
    """Whether its login is of this generation of credentials or a later one; never with 0."""
    return 0 < generation <= session.device.credentials_row
