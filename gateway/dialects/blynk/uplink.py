"""What devices publish, and what they are answered (contract, section 7.3).

A message that cannot be served is told of on `downlink/diag` and acknowledged, lest it be sent for
ever: an MQTT 5 client reads the reason in the acknowledgement too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeAlias

import msgspec

from gateway.core.errors import CredentialsGone
from gateway.core.model import (
    Peer,
    ProvisionRequest,
    ProvisionResult,
    ProvisionToken,
    Refused,
    Secret,
)
from gateway.core.ports import Clock
from gateway.core.provisioning import Provisioner
from gateway.dialects.blynk.batches import read_batch
from gateway.dialects.blynk.callers import Callers, Known
from gateway.dialects.blynk.claim import refusal
from gateway.dialects.blynk.data import NO_FIELD_TEXT, DeviceData, Write
from gateway.dialects.blynk.guests import Place, payload_of
from gateway.dialects.blynk.hardware import MQTT_NAMES, hardware_info
from gateway.dialects.blynk.profile import Datastream, FieldType, StreamType
from gateway.dialects.blynk.topics import DATASTREAMS, LOCATION, METADATA, TIME, names_in
from gateway.dialects.blynk.values import Mistake, from_json, from_texts, texts_of
from gateway.dialects.blynk.words import DONE, INVALID_TOKEN, TOO_MANY_TEXT
from gateway.wire.call import Call, Conduct, Reply, Status
from gateway.wire.route import Route

MOST_AWAY_MS: Final = 31 * 86_400_000
"""How old a value of a batch may be, and how far ahead."""

# Ours, where nothing is published.
NO_TEXT: Final = "The payload is not UTF-8 text."
NO_INFO_TEXT: Final = "info/mcu must be a JSON object."
NO_BATCH_TEXT: Final = "batch_ds must be a JSON object of datastreams and their values."
TOO_OLD_TEXT: Final = "Values of a batch may be one month old or ahead at most."
NO_LOCATION_TEXT: Final = "The location of the device is not known."
NO_TOPIC_TEXT: Final = "Nothing is served on this topic."

_SERVED = Conduct(ack=0x99, close=None, ack_v3=True, close_v3=False)
CONDUCT: Final[Mapping[Status, Conduct]] = {
    Status.BAD_REQUEST: _SERVED,
    Status.UNDECODABLE: _SERVED,
    Status.NOT_FOUND: Conduct(ack=0x90, close=None, ack_v3=True, close_v3=False),
    Status.FORBIDDEN: Conduct(ack=0x87, close=None, ack_v3=True, close_v3=False),
    Status.LIMITED: Conduct(ack=0x97, close=None, ack_v3=True, close_v3=False),
    Status.FULL: Conduct(ack=0x97, close=None, ack_v3=True, close_v3=False),
    Status.INTERNAL: Conduct(ack=None, close=0x83, ack_v3=False, close_v3=True),
    Status.GONE: Conduct(ack=None, close=0x98, ack_v3=False, close_v3=True),
}
"""What is not on disk is not acknowledged; what is refused for good is."""

_info = msgspec.json.Decoder(dict[str, Any])
_batch = msgspec.json.Decoder(dict[str, bool | int | float | str | list[int | float]])
_encode = msgspec.json.Encoder().encode

FindPlace: TypeAlias = Callable[[Call], Awaitable[Place | Reply]]
"""Whom a publish is from."""
_Serve: TypeAlias = Callable[[Place, Call], Awaitable[Reply | None]]


class _TooMuch(Exception):
    """A rate is exceeded; how that is answered."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply


class Uplink:
    """Serves publishes, whosesoever they are."""

    def __init__(
        self, provisioner: Provisioner, callers: Callers, data: DeviceData, clock: Clock
    ) -> None:
        self._provisioner = provisioner
        self._callers = callers
        self._data = data
        self._clock = clock

    def routes(self, find: FindPlace, prefix: str = "") -> tuple[Route, ...]:
        """All topics, each after `prefix`; what else begins so is nowhere."""
        serves: dict[str, _Serve] = {
            "ds/{name}": self.write,
            "batch_ds": self.write_many,
            "ds/{name}/timestamped_batch": self.write_history,
            "ds/{name}/erase": self.erase,
            "ds/{name}/prop/{property}": self.set_property,
            "ds/{name}/prop/{property}/erase": self.erase_property,
            "event/{code}": self.log_event,
            "meta/{name}": self.set_meta,
            "get/ds": self.get_some,
            "get/ds/all": self.get_all,
            "get/meta": self.get_meta,
            "get/utc/all/json": self.get_time,
            "get/loc/all": self.get_location,
            "{rest*}": self.unknown,
        }
        return (
            Route(
                name="blynk.mqtt.info",
                handler=partial(self._served, find, self.info),
                mqtt=(f"{prefix}info/mcu",),
                quiet=True,
                numbered=True,
            ),
            *(
                Route(
                    name=f"blynk.mqtt.{serve.__name__}",
                    handler=partial(self._served, find, serve),
                    mqtt=(prefix + topic,),
                    quiet=True,
                )
                for topic, serve in serves.items()
            ),
        )

    async def _served(self, find: FindPlace, serve: _Serve, call: Call) -> Reply:
        place = await find(call)
        if isinstance(place, Reply):
            return place
        place.heard()
        try:
            return await serve(place, call) or DONE
        except Mistake as exc:
            place.note(str(exc))
            return Reply(status=Status.BAD_REQUEST, reason=str(exc))
        except _TooMuch as exc:
            place.note(TOO_MANY_TEXT)
            return exc.reply
        except CredentialsGone:
            return place.gone()

    async def _count(self, place: Place, points: int | None = None) -> Known:
        """Count one message, with so many values if it has any. Raises `_TooMuch`."""
        limited = await self._callers.limited(place.known, points, gateway=place.gateway)
        if limited is not None:
            raise _TooMuch(limited)
        return place.known

    # ── hardware ────────────────────────────────────────────────────────────────────────────

    async def info(self, place: Place, call: Call) -> Reply:
        """Of a device that is there: what it says of its hardware is noted, no more (5.2).

        Firmware of another version that waits for it is offered.
        """
        await self._count(place)
        said = read_info(call.body)
        with place.line:
            result = await self.provision(place.token, said, call.peer)
        if not isinstance(result, Refused):
            await self.offer_firmware(place, said)
            return DONE
        refused = refusal(result)
        if refused is INVALID_TOKEN:
            return place.gone()
        place.note(refused.reason)
        return refused

    async def provision(
        self, token: Secret, said: Mapping[str, Any], peer: Peer
    ) -> ProvisionResult:
        """Claim a token, or tell of the hardware of the device it is of."""
        template = said.get("tmpl")
        return await self._provisioner.provision(
            ProvisionRequest(
                proof=ProvisionToken(token, template if isinstance(template, str) else ""),
                peer=peer,
                hardware=hardware_info(said, MQTT_NAMES),
            )
        )

    async def offer_firmware(self, place: Place, said: Mapping[str, Any]) -> None:
        """If it is to run another version than it said it does."""
        version = said.get("ver")
        package = await self._callers.firmware(place.known.device) if version else None
        if package is not None and package.version != version:
            place.offer_firmware(package.attributes())

    # ── datastreams ─────────────────────────────────────────────────────────────────────────

    async def write(self, place: Place, call: Call) -> None:
        """One value as text; the parts of a location are separated by NUL."""
        stream = _stream(place, call.params["name"])
        value = from_texts(stream, _text(call.body).split("\0"))
        known = await self._count(place, 1)
        await self._data.write(known, [Write(stream, value)], source=place)

    async def write_many(self, place: Place, call: Call) -> None:
        try:
            found = _batch.decode(call.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Mistake(NO_BATCH_TEXT) from None
        streams = {name: _stream(place, name) for name in found}
        writes = [Write(streams[name], from_json(streams[name], found[name])) for name in found]
        known = await self._count(place, len(writes))
        await self._data.write(known, writes, source=place)

    async def write_history(self, place: Place, call: Call) -> None:
        """Values with times of their own: `[[ms, value], …]`."""
        writes = read_batch(_stream(place, call.params["name"]), call.body)
        now = self._clock()
        if any(one.ts is None or abs(one.ts - now) > MOST_AWAY_MS for one in writes):
            raise Mistake(TOO_OLD_TEXT)
        known = await self._count(place, len(writes))
        await self._data.write(known, writes, source=place)

    async def erase(self, place: Place, call: Call) -> None:
        stream = _stream(place, call.params["name"])
        await self._data.erase(await self._count(place), stream)

    async def set_property(self, place: Place, call: Call) -> None:
        """The parts of a property are kept with commas between them, as HTTP keeps them."""
        stream, name = _stream(place, call.params["name"]), call.params["property"]
        value = _text(call.body).replace("\0", ",")
        await self._data.set_property(await self._count(place), stream, name, value)

    async def erase_property(self, place: Place, call: Call) -> None:
        stream, name = _stream(place, call.params["name"]), call.params["property"]
        await self._data.erase_property(await self._count(place), stream, name)

    async def get_some(self, place: Place, call: Call) -> None:
        streams = [_stream(place, name) for name in names_in(_text(call.body))]
        await self._tell_values(place, streams)

    async def get_all(self, place: Place, _call: Call) -> None:
        template = place.known.template
        await self._tell_values(place, [] if template is None else list(template.streams))

    async def _tell_values(self, place: Place, streams: list[Datastream]) -> None:
        values = await self._data.read(await self._count(place), streams)
        for name, value in values.items():
            place.tell(DATASTREAMS + name, payload_of(value))

    # ── events and metadata ─────────────────────────────────────────────────────────────────

    async def log_event(self, place: Place, call: Call) -> None:
        text = _text(call.body)
        await self._data.log_event(await self._count(place, 1), call.params["code"], text)

    async def set_meta(self, place: Place, call: Call) -> None:
        template = place.known.template
        field = None if template is None else template.field_by_name.get(call.params["name"])
        if field is None:
            raise Mistake(NO_FIELD_TEXT)
        text = _text(call.body)
        await self._data.set_meta(await self._count(place), field, text)

    async def get_meta(self, place: Place, call: Call) -> None:
        names = names_in(_text(call.body))
        found = await self._data.meta(await self._count(place), names)
        for name, value in found.items():
            place.tell(METADATA + name, payload_of(value))

    # ── time and place ──────────────────────────────────────────────────────────────────────

    async def get_time(self, place: Place, _call: Call) -> None:
        await self._count(place)
        place.tell(TIME, time_of(self._clock()))

    async def get_location(self, place: Place, _call: Call) -> None:
        """That of a field of metadata, else of a datastream of that type."""
        known = await self._count(place)
        found = await self._field_location(known) or await self._stream_location(known)
        if not found:
            raise Mistake(NO_LOCATION_TEXT)
        place.tell(LOCATION, found.encode())

    async def _field_location(self, known: Known) -> str:
        """Latitude and longitude, as people keep them."""
        fields = () if known.template is None else known.template.fields
        names = [one.name for one in fields if one.type is FieldType.LOCATION]
        values = await self._data.meta(known, names) if names else {}
        return next((text for one in values.values() if (text := str(one).strip())), "")

    async def _stream_location(self, known: Known) -> str:
        streams = () if known.template is None else known.template.streams
        wanted = [one for one in streams if one.type is StreamType.LOCATION]
        for value in (await self._data.read(known, wanted) if wanted else {}).values():
            longitude, *latitude = texts_of(value)
            if len(latitude) == 1:
                return f"{latitude[0]},{longitude}"
        return ""

    async def unknown(self, place: Place, _call: Call) -> Reply:
        place.note(NO_TOPIC_TEXT)
        return Reply(status=Status.NOT_FOUND, reason=NO_TOPIC_TEXT)


def read_info(body: bytes) -> dict[str, Any]:
    """What `info/mcu` says. Raises `Mistake`."""
    try:
        return _info.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Mistake(NO_INFO_TEXT) from None


def time_of(now_ms: int) -> bytes:
    """The answer to `get/utc/all/json`: no device has a time zone of its own here."""
    iso = datetime.fromtimestamp(now_ms // 1000, UTC).isoformat()
    zone = {"tz_name": "UTC", "tz_rule": "UTC0", "tz_offset": 0, "dst_offset": 0}
    return _encode({**zone, "time": now_ms, "iso8601": iso})


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise Mistake(NO_TEXT) from None


def _stream(place: Place, name: str) -> Datastream:
    known = place.known
    found = None if known.template is None else known.template.by_name.get(name)
    if found is None:
        product = known.device.type if known.template is None else known.template.name
        raise Mistake(f"Requested dataStream doesn't exist in the product {product}")
    return found
