"""What devices say and ask about datastreams, metadata and events, on whatever wire (section 10).

Values are kept as readings and attributes, where ThingsBoard's API finds them too:

- a datastream is the time series of its key; what is written is passed on to the other live
  connections of the device;
- a field of metadata is the shared attribute of its name;
- a property of a datastream is the client attribute `property.<datastream>.<property>`;
- an event is a reading of the series `event.<code>`, its description the value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from msgspec import Struct

from gateway.core.model import Value
from gateway.core.ports import Clock
from gateway.core.sessions import Sessions
from gateway.core.traffic import Traffic
from gateway.dialects.blynk.callers import Known
from gateway.dialects.blynk.profile import Datastream, MetaField


class Mistake(Exception):
    """What a device sent is not possible. The message is Blynk's text for it (section 10)."""


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

    async def write(self, known: Known, writes: Sequence[Write], *, source: object = None) -> None:
        """Store values, and pass the newest of each on to every live connection but `source`."""
        raise NotImplementedError

    async def read(self, known: Known, streams: Sequence[Datastream]) -> dict[str, Value]:
        """The last values by name of the datastream, or their defaults; without either: absent."""
        raise NotImplementedError

    async def set_property(self, known: Known, stream: Datastream, name: str, value: str) -> None:
        """Raises `Mistake` for a name or value that is none."""
        raise NotImplementedError

    async def erase_property(self, known: Known, stream: Datastream, name: str) -> None:
        raise NotImplementedError

    async def log_event(self, known: Known, code: str, description: str) -> None:
        """Raises `Mistake`: no code, or none of the template's."""
        raise NotImplementedError

    async def meta(self, known: Known, fields: Sequence[str]) -> dict[str, Value]:
        """Fields by name, their defaults where nothing is kept. `Device Name` and `Device Owner`
        are there besides the template's. Raises `Mistake` for one that is not there."""
        raise NotImplementedError

    async def set_meta(
        self, known: Known, field: MetaField, text: str, *, source: object = None
    ) -> None:
        """Raises `Mistake`: the value does not fit, or devices may not change it."""
        raise NotImplementedError
