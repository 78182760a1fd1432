"""What devices say and ask about datastreams, metadata and events, on whatever wire (section 10).

Values are kept as readings and attributes, where ThingsBoard's API finds them too:

- a datastream is the time series of its key; what is written is passed on to the other live
  connections of the device;
- a field of metadata is the shared attribute of its name; all live connections hear of a change,
  the sender's too;
- a property of a datastream is the client attribute `property.<datastream>.<property>`;
- an event is a reading of the series `event.<code>`, its description the value.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Protocol, runtime_checkable

from msgspec import Struct

from gateway.core.model import (
    AttributesChange,
    AttributeScope,
    AttributesSelection,
    Reading,
    Value,
)
from gateway.core.ports import Clock
from gateway.core.sessions import Sessions
from gateway.core.traffic import Traffic
from gateway.dialects.blynk.callers import Known
from gateway.dialects.blynk.profile import (
    DEVICE_NAME,
    DEVICE_OWNER,
    Datastream,
    FieldType,
    MetaField,
)
from gateway.dialects.blynk.values import MOST_TEXT_BYTES, Mistake, default_of, is_email

__all__ = ["Board", "DeviceData", "Mistake", "Write"]

# Verbatim, as in `words`.
NO_EVENT_CODE_TEXT: Final = "Event code is not provided."
NO_EVENT_TEXT: Final = "Can't find Event with this code in Product template"
NO_FIELD_TEXT: Final = "MetaField doesn't exist."
WRONG_META_TEXT: Final = "Wrong value"
# Ours, where nothing is published.
READ_ONLY_TEXT: Final = "MetaField can't be changed by the device."
WRONG_PROPERTY_TEXT: Final = "Wrong property format."

_PROPERTY = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}").fullmatch
_NUMBER = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?").fullmatch


class Write(Struct, frozen=True):
    """One value for a datastream, already proven. `ts` None: now (ms)."""

    stream: Datastream
    value: Value
    ts: int | None = None


@runtime_checkable
class Board(Protocol):
    """The outlet of a device's live connection that speaks this dialect."""

    def written(self, stream: Datastream, value: Value) -> None:
        """Somebody else wrote a value: tell the device. Never raises."""


class DeviceData:
    """One for a process. Raises `CredentialsGone`, and `Mistake` where it says so."""

    def __init__(self, traffic: Traffic, sessions: Sessions, clock: Clock) -> None:
        self._traffic = traffic
        self._sessions = sessions
        self._clock = clock

    # ── datastreams ─────────────────────────────────────────────────────────────────────────

    async def write(self, known: Known, writes: Sequence[Write], *, source: object = None) -> None:
        """Store values, and pass the last of each datastream on to every live connection but that
        of the outlet `source`. What has a time of its own is history, and is only stored."""
        now = self._clock()
        readings = [
            Reading(now if one.ts is None else one.ts, one.stream.series, one.value)
            for one in writes
        ]
        await self._traffic.save_readings(known.device, readings)
        newest = {one.stream.name: one for one in writes if one.ts is None}
        for session in self._sessions.of(known.device.id):
            outlet = session.outlet
            if outlet is not source and isinstance(outlet, Board):
                for one in newest.values():
                    outlet.written(one.stream, one.value)

    async def read(self, known: Known, streams: Sequence[Datastream]) -> dict[str, Value]:
        """The last values by name of the datastream, or their defaults; without either: absent."""
        readings = await self._traffic.latest(known.device, [one.series for one in streams])
        latest = {one.key: one.value for one in readings}
        found = {one.name: latest.get(one.series, default_of(one)) for one in streams}
        return {name: value for name, value in found.items() if value is not None}

    async def erase(self, known: Known, stream: Datastream) -> None:
        """It has no value any more but its default; what was written stays as history."""
        await self._traffic.forget_latest(known.device, [stream.series])

    # ── properties ──────────────────────────────────────────────────────────────────────────

    async def set_property(self, known: Known, stream: Datastream, name: str, value: str) -> None:
        """Raises `Mistake` for a name or value that is none."""
        await self.set_properties(known, stream, {name: value})

    async def set_properties(
        self, known: Known, stream: Datastream, properties: dict[str, str]
    ) -> None:
        """All or none. Raises `Mistake` as `set_property` does."""
        values: dict[str, Value] = {}
        for name, value in properties.items():
            key = _property_key(stream, name)
            values[key] = _proven(value, WRONG_PROPERTY_TEXT)
        await self._traffic.save_client_attributes(known.device, values)

    async def erase_property(self, known: Known, stream: Datastream, name: str) -> None:
        """Raises `Mistake` for a name that is none."""
        change = AttributesChange(deleted=(_property_key(stream, name),))
        await self._traffic.change_own_attributes(known.device, AttributeScope.CLIENT, change)

    # ── events ──────────────────────────────────────────────────────────────────────────────

    async def log_event(self, known: Known, code: str, description: str) -> None:
        """Without a description its value is the event's name. One that is too long is cut.

        Raises `Mistake`: no code, or none of the template's.
        """
        if not code:
            raise Mistake(NO_EVENT_CODE_TEXT)
        event = None if known.template is None else known.template.events.get(code)
        if event is None:
            raise Mistake(NO_EVENT_TEXT)
        text = (description or event.name).replace("\0", " ")
        text = text.encode(errors="replace")[:MOST_TEXT_BYTES].decode(errors="ignore")
        reading = Reading(self._clock(), f"event.{code}", text)
        await self._traffic.save_readings(known.device, [reading])

    # ── metadata ────────────────────────────────────────────────────────────────────────────

    async def meta(self, known: Known, fields: Sequence[str]) -> dict[str, Value]:
        """Fields by name, their defaults where nothing is kept, "" without one. `Device Name` and
        `Device Owner` are there besides the template's. Raises `Mistake` for one that is not there.
        """
        own = {} if known.template is None else known.template.field_by_name
        named = tuple(name for name in fields if name in own)
        if any(name not in own and name not in (DEVICE_NAME, DEVICE_OWNER) for name in fields):
            raise Mistake(NO_FIELD_TEXT)
        selection = AttributesSelection((), named)
        kept = (await self._traffic.attributes(known.device, selection)).shared
        found: dict[str, Value] = {}
        for name in fields:
            if name == DEVICE_NAME:
                found[name] = known.device.name
            elif name == DEVICE_OWNER:
                found[name] = await self._traffic.owner_email(known.device)
            else:
                default = own[name].default
                found[name] = kept.get(name, "" if default is None else default)
        return found

    async def set_meta(self, known: Known, field: MetaField, text: str) -> None:
        """Raises `Mistake`: the value does not fit, or devices may not change it."""
        if not field.writable:
            raise Mistake(READ_ONLY_TEXT)
        change = AttributesChange({field.name: _meta_value(field, text)})
        await self._traffic.change_own_attributes(known.device, AttributeScope.SHARED, change)


def _property_key(stream: Datastream, name: str) -> str:
    if not _PROPERTY(name):
        raise Mistake(WRONG_PROPERTY_TEXT)
    return f"property.{stream.name}.{name}"


def _proven(text: str, mistake: str) -> str:
    """A text that can be kept. Raises `Mistake` otherwise."""
    size = len(text.encode(errors="surrogatepass"))
    if size > MOST_TEXT_BYTES or "\0" in text or any("\ud800" <= one <= "\udfff" for one in text):
        raise Mistake(mistake)
    return text


def _meta_value(field: MetaField, text: str) -> Value:
    match field.type:
        case FieldType.NUMBER:
            if not _NUMBER(text):
                raise Mistake(WRONG_META_TEXT)
            return float(text) if "." in text else int(text)
        case FieldType.EMAIL if text and not is_email(text):
            raise Mistake(WRONG_META_TEXT)
        case _:
            return _proven(text, WRONG_META_TEXT)
