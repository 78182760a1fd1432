"""Devices that wait for word from us without a connection: long polls and observations.

An HTTP long poll (contract, section 11) takes one change or call; a CoAP observation (section 10)
takes all that come until it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import structlog
from msgspec import Struct

from gateway.core.model import AttributesChange, Device, ProfileTransport, RpcCall
from gateway.core.renewals import Renewals
from gateway.core.sessions import Cause, Sessions
from gateway.dialects.thingsboard.callers import Settings
from gateway.dialects.thingsboard.codecs import Codec
from gateway.dialects.thingsboard.formats import CBOR
from gateway.wire.call import BadPayload, Format, Observer, Reply, Status

log = structlog.get_logger()

POLL_MS: Final = 60_000
"""How long a poll waits that does not say, or says 0 (section 11)."""
MOST_POLL_MS: Final = 300_000
"""Longer ones are cut to it: ThingsBoard ends them then too."""

NOTHING_CAME: Final = Reply(status=Status.TIMEOUT)
_DELETED: Final = Reply(b"Device was deleted!", Status.DELETED, Format.TEXT)
_GONE: Final = Reply(status=Status.GONE, reason="the credentials of this device were changed")
_ENDS: Final = {
    Cause.REMOVED: _DELETED,
    Cause.CREDENTIALS_CHANGED: _GONE,
    Cause.TAKEN_OVER: NOTHING_CAME,
}


class Called(Struct, frozen=True):
    """A call of a method of the device, as a session is given it."""

    request_id: int
    call: RpcCall
    delivered: Callable[[], None]


def poll_timeout_s(query: Mapping[str, str]) -> float:
    """What `timeout` of a long poll asks for, in seconds. Raises `BadPayload`."""
    text = query.get("timeout") or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise BadPayload("timeout must be a whole number of milliseconds")
    return min(int(text) or POLL_MS, MOST_POLL_MS) / 1000


class Poll:
    """The outlet of a request that waits for one change or one call."""

    __slots__ = ("_came",)

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._came: asyncio.Future[AttributesChange | Called | Cause] = loop.create_future()

    async def wait(self, timeout_s: float) -> AttributesChange | Called | Reply:
        """What came; a reply when nothing did, or the device is not what it was."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._came
        except TimeoutError:
            pass
        if self._came.cancelled():
            return NOTHING_CAME
        came = self._came.result()  # it may have come in the very moment of the time-out
        return _ENDS[came] if isinstance(came, Cause) else came

    def attributes_changed(self, change: AttributesChange) -> None:
        if not self._came.done():
            self._came.set_result(change)

    def call(self, request_id: int, call: RpcCall, delivered: Callable[[], None]) -> bool:
        if self._came.done():
            return False
        self._came.set_result(Called(request_id, call, delivered))
        return True

    def profile_changed(self) -> None:
        """HTTP is JSON whatever the profile says."""

    def end(self, cause: Cause) -> None:
        if not self._came.done():
            self._came.set_result(cause)


class Observation:
    """The outlet of a CoAP observation. Changes are held until `release`, and joined to one."""

    __slots__ = ("_codec", "_device", "_held", "_holds", "_observer", "_renewals", "_sessions")

    def __init__(
        self,
        observer: Observer,
        device: Device,
        codec: Codec,
        renewals: Renewals[Settings],
        sessions: Sessions,
    ) -> None:
        self._observer = observer
        self._device = device
        self._codec = codec
        self._renewals = renewals
        self._holds = True
        self._held: AttributesChange | None = None
        self._sessions = sessions

    def release(self) -> None:
        """The registration is answered: from now on what comes is sent."""
        self._holds = False
        held, self._held = self._held, None
        if held is not None:
            self.attributes_changed(held)

    def attributes_changed(self, change: AttributesChange) -> None:
        if self._holds:
            self._held = change if self._held is None else joined(self._held, change)
            return
        codec = self._codec
        try:
            body = codec.attributes_update(change)
        except BadPayload as exc:
            log.warning("attributes.not_sendable", device=self._device.name, reason=str(exc))
            return
        self._observer.notify(Reply(body, format=codec.format))

    def call(self, request_id: int, call: RpcCall, delivered: Callable[[], None]) -> bool:
        codec = self._codec
        try:
            body = codec.rpc_request(request_id, call, with_id=True)
        except BadPayload as exc:
            log.warning("rpc.not_sendable", device=self._device.name, reason=str(exc))
            return False
        return self._observer.notify(Reply(body, format=codec.format), delivered)

    def profile_changed(self) -> None:
        self._renewals.ask(self._device, self._renewed)

    def _renewed(self, settings: Settings) -> None:
        if self._codec is not CBOR:  # asked for by name, whatever the profile says
            self._codec = settings.codec
        if settings.transport is ProfileTransport.MQTT:
            self._leave()

    def _leave(self) -> None:
        """Over, by our own doing. The session is looked up: kept, it would hold this in a ring."""
        for session in self._sessions.of(self._device.id):
            if session.outlet is self:
                self._sessions.close(session)
        self._observer.end()

    def end(self, cause: Cause) -> None:
        self._observer.end()


def joined(older: AttributesChange, newer: AttributesChange) -> AttributesChange:
    """One change that leaves the device where both would have."""
    values = {key: value for key, value in older.values.items() if key not in newer.deleted}
    values.update(newer.values)
    deleted = dict.fromkeys((*older.deleted, *newer.deleted))
    return AttributesChange(values, tuple(key for key in deleted if key not in values))
