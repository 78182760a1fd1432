"""Readings of devices, read, written and deleted by people (ThingsBoard contract, section 17.5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import structs

from gateway.core.errors import Cause, Conflict, CredentialsGone
from gateway.core.inventory import Inventory
from gateway.core.model import Actor, Aggregation, DeviceRecord, Reading, SeriesQuery
from gateway.core.ports import Clock
from gateway.core.registry import Registry
from gateway.dialects.thingsboard.admin.answers import answers
from gateway.dialects.thingsboard.admin.attributes import (
    DEVICE,
    KEYS,
    PATH,
    USUAL,
    AttributeRoutes,
)
from gateway.dialects.thingsboard.admin.desk import Desk, bad_request, json_reply, not_found
from gateway.dialects.thingsboard.admin.reach import CHANGES, SEES, device_in_reach
from gateway.dialects.thingsboard.admin.values import (
    ReadingAnswer,
    flag_of,
    keys_in,
    reading_json,
)
from gateway.dialects.thingsboard.admin.words import number_of
from gateway.dialects.thingsboard.readings import decode_telemetry
from gateway.wire.call import BadPayload, Call, Reply
from gateway.wire.operation import Operation, Query
from gateway.wire.route import Route

MOST_TIME: Final = 2**62
MOST_READINGS: Final = 50_000
"""Readings in one answer, of all keys together."""
MOST_INTERVALS: Final = 700
"""ThingsBoard's own bound (`DATABASE_TS_MAX_INTERVALS`)."""
_TAG = "Telemetry"
_MOST_KEYS_IN_A_RANGE = 100
_AGGREGATIONS = {one.name: one for one in Aggregation}
_STRICT = Query("useStrictDataTypes", "true: values with their own types, else texts", bool)
_RANGE = (
    Query("startTs", "from this time on (ms); with it and `endTs` a range is given", int),
    Query("endTs", "before this time (ms)", int),
    Query(
        "limit", f"readings of each key without `agg`, at most {MOST_READINGS}", int, example=100
    ),
    Query("agg", "NONE, AVG, MIN, MAX, SUM or COUNT, of each interval"),
    Query("interval", "the length of an interval of `agg` (ms); 0: no aggregation", int),
    Query("orderBy", "DESC (newest first) or ASC"),
)


class TelemetryRoutes:
    """Attributes and readings. `registry` does the work, as whoever calls."""

    def __init__(self, inventory: Inventory, registry: Registry, clock: Clock) -> None:
        self._inventory = inventory
        self._registry = registry
        self._clock = clock
        self._attributes = AttributeRoutes(inventory, registry)

    def routes(self, desk: Desk) -> tuple[Route, ...]:
        return (*self._attributes.routes(desk), *self._reading(desk), *self._writing(desk))

    def _reading(self, desk: Desk) -> tuple[Route, ...]:
        return (
            desk.route(
                "telemetry.keys",
                f"GET {DEVICE}/keys/timeseries",
                self._keys,
                needs=SEES,
                operation=Operation(
                    summary="The keys of a device's readings",
                    tag=_TAG,
                    path=PATH,
                    answers=answers("The keys.", list[str], *USUAL),
                ),
            ),
            desk.route(
                "telemetry.values",
                f"GET {DEVICE}/values/timeseries",
                self._values,
                needs=SEES,
                operation=Operation(
                    summary="A device's readings",
                    about="The latest of each key; or, with `keys`, `startTs` and `endTs`, those "
                    "of a range of time. An aggregated value has the time of the middle of its "
                    "interval. A key that has no readings has a latest of null.",
                    tag=_TAG,
                    path=PATH,
                    query=(KEYS, _STRICT, *_RANGE),
                    answers=answers("Readings by key.", dict[str, list[ReadingAnswer]], *USUAL),
                ),
            ),
        )

    def _writing(self, desk: Desk) -> tuple[Route, ...]:
        return (
            desk.route(
                "telemetry.save",
                (
                    f"POST {DEVICE}/timeseries/{{scope}}",
                    f"POST {DEVICE}/timeseries/{{scope}}/{{ttl}}",
                ),
                self._save,
                needs=CHANGES,
                operation=Operation(
                    summary="Store readings on a device's behalf",
                    about="As a device sends them: an object, `{ts, values}`, or a list of either. "
                    "`scope` is any word (`ANY`); `ttl` is not heeded, readings are kept as long "
                    "as the profile says.",
                    tag=_TAG,
                    path={"deviceId": PATH["deviceId"], "scope": "any word", "ttl": int},
                    body=dict[str, Any] | list[dict[str, Any]],
                    body_example={"temperature": 21.5},
                    answers=answers("They are stored.", None, *USUAL, 409),
                ),
            ),
            desk.route(
                "telemetry.delete",
                f"DELETE {DEVICE}/timeseries/delete",
                self._delete,
                needs=CHANGES,
                operation=Operation(
                    summary="Delete readings of a device",
                    tag=_TAG,
                    path=PATH,
                    query=(
                        Query("keys", "a comma-separated list", required=True, example="humidity"),
                        Query("deleteAllDataForKeys", "true: whatever their time", bool),
                        Query("startTs", "else from this time on (ms)", int),
                        Query("endTs", "and before this time (ms)", int),
                    ),
                    answers=answers("They are gone.", None, *USUAL),
                ),
            ),
        )

    # ── reading ─────────────────────────────────────────────────────────────────────────────

    async def _keys(self, call: Call, actor: Actor) -> Reply:
        record = await device_in_reach(self._inventory, actor, call.params["deviceId"])
        return json_reply(await self._registry.keys(record))

    async def _values(self, call: Call, actor: Actor) -> Reply:
        record = await device_in_reach(self._inventory, actor, call.params["deviceId"])
        query = call.query
        keys = keys_in(query.get("keys", ""))
        strict = flag_of(query.get("useStrictDataTypes", ""), "useStrictDataTypes")
        if "startTs" in query or "endTs" in query:
            found = await self._range(record, keys, _span(call))
            return json_reply(_series(found, strict=strict))
        latest = await self._registry.latest(record)
        return json_reply(self._latest(latest, keys, strict=strict))

    def _latest(
        self, latest: Sequence[Reading], keys: list[str], *, strict: bool
    ) -> dict[str, Any]:
        """ThingsBoard gives a null for a key that is asked for and not there."""
        found = _series({one.key: [one] for one in latest}, strict=strict)
        nothing = [{"ts": self._clock(), "value": None}]
        return {key: found.get(key, nothing) for key in keys} if keys else found

    async def _range(
        self, record: DeviceRecord, keys: list[str], query: SeriesQuery
    ) -> dict[str, list[Reading]]:
        if not 0 < len(keys) <= _MOST_KEYS_IN_A_RANGE:
            raise bad_request(f"keys must name 1 to {_MOST_KEYS_IN_A_RANGE} keys of a range")
        found: dict[str, list[Reading]] = {}
        left = MOST_READINGS
        for key in keys:
            limit = min(query.limit, left + 1)
            readings = await self._registry.series(
                record, structs.replace(query, key=key, limit=limit)
            )
            left -= len(readings)
            if left < 0:
                raise bad_request(f"these are more than {MOST_READINGS} readings; narrow the range")
            if readings:
                found[key] = _centred(readings, query)
        return found

    # ── writing ─────────────────────────────────────────────────────────────────────────────

    async def _save(self, call: Call, actor: Actor) -> Reply:
        record = await device_in_reach(self._inventory, actor, call.params["deviceId"], change=True)
        try:
            readings = decode_telemetry(call.body, self._clock())
        except BadPayload as exc:
            raise bad_request(f"Unable to parse timeseries payload: {exc}") from None
        if not readings:
            raise bad_request("No timeseries data found in request body!")
        await self._write(actor, record, readings)
        return Reply()

    async def _write(self, actor: Actor, record: DeviceRecord, readings: list[Reading]) -> None:
        archive = self._registry.acting_as(actor.peer).archive
        try:
            await archive.write_readings(record, readings)
            return
        except CredentialsGone:  # its login changed since it was read: look once more
            record = await device_in_reach(self._inventory, actor, record.device.uuid, change=True)
        try:
            await archive.write_readings(record, readings)
        except CredentialsGone:
            raise Conflict(Cause.VERSION, "the device was changed just now; try again") from None

    async def _delete(self, call: Call, actor: Actor) -> Reply:
        record = await device_in_reach(self._inventory, actor, call.params["deviceId"], change=True)
        query = call.query
        keys = keys_in(query.get("keys", ""))
        if not keys:
            raise bad_request("Empty keys")
        since, until = -MOST_TIME, MOST_TIME
        if not flag_of(query.get("deleteAllDataForKeys", ""), "deleteAllDataForKeys"):
            since = number_of(query, "startTs", least=-MOST_TIME, most=MOST_TIME)
            until = number_of(query, "endTs", least=-MOST_TIME, most=MOST_TIME)
        archive = self._registry.acting_as(actor.peer).archive
        if not await archive.forget_readings(record, keys, since=since, until=until):
            raise not_found()
        return Reply()


def _series(found: dict[str, list[Reading]], *, strict: bool) -> dict[str, Any]:
    return {key: [reading_json(one, strict=strict) for one in some] for key, some in found.items()}


def _span(call: Call) -> SeriesQuery:
    """The range that is asked for. Raises `Trouble` (400)."""
    query = call.query
    since = number_of(query, "startTs", least=-MOST_TIME, most=MOST_TIME)
    until = number_of(query, "endTs", least=-MOST_TIME, most=MOST_TIME)
    interval = number_of(query, "interval", least=0, most=MOST_TIME, default=0)
    limit = number_of(query, "limit", least=1, most=MOST_READINGS, default=100)
    aggregation = _AGGREGATIONS.get(query.get("agg", "") or "NONE")
    if aggregation is None:
        raise bad_request(f"agg must be one of {', '.join(_AGGREGATIONS)}")
    if interval == 0:
        aggregation = Aggregation.NONE
    if aggregation is not Aggregation.NONE:
        limit = MOST_INTERVALS + 1
        if (until - since) // interval > MOST_INTERVALS:
            raise bad_request("Number of intervals is too high. Please increase 'interval'")
    newest_first = _newest_first(query.get("orderBy", ""), aggregation)
    return SeriesQuery(
        key="",
        since=since,
        until=until,
        limit=limit,
        aggregation=aggregation,
        interval_ms=interval,
        newest_first=newest_first,
        oldest=not newest_first,
    )


def _newest_first(order: str, aggregation: Aggregation) -> bool:
    """Unless it is said, readings come newest first, and intervals in their order."""
    match order.upper():
        case "DESC":
            return True
        case "ASC":
            return False
        case "":
            return aggregation is Aggregation.NONE
        case _:
            raise bad_request("orderBy must be ASC or DESC")


def _centred(readings: list[Reading], query: SeriesQuery) -> list[Reading]:
    """Aggregated values at the middle of their intervals, where ThingsBoard has them."""
    if query.aggregation is Aggregation.NONE:
        return readings
    interval, until = query.interval_ms, query.until
    return [
        Reading(one.ts + min(interval, until - one.ts) // 2, one.key, one.value) for one in readings
    ]
