"""What a provisioned device says of itself and asks for: telemetry and attributes (8, 10 to 13)."""

from __future__ import annotations

import asyncio
from functools import partial

from msgspec import Struct, structs

from gateway.core.model import (
    Attributes,
    AttributesChange,
    AttributesSelection,
    Device,
    Reading,
)
from gateway.core.ports import Clock
from gateway.core.renewals import Renewals
from gateway.core.sessions import Sessions, Slot
from gateway.core.traffic import Traffic
from gateway.dialects.thingsboard import operations
from gateway.dialects.thingsboard.callers import Callers, Settings
from gateway.dialects.thingsboard.codecs import JSON, Codec
from gateway.dialects.thingsboard.formats import SENML_CBOR, codec_for_answer, senml_format
from gateway.dialects.thingsboard.readings import MOST_VALUES, selection_from_query
from gateway.dialects.thingsboard.topics import Voice, request_id
from gateway.dialects.thingsboard.watches import Observation, Poll, poll_timeout_s
from gateway.wire.call import NOTHING, Call, Observer, Reply, Status
from gateway.wire.route import Route

# What is limited is told in the words of ThingsBoard where it has any (contract, section 10, 11).
LIMITED_500 = {Status.LIMITED: 500}
CREATED = {Status.OK: 201, Status.LIMITED: 500}

_ALL_SHARED = AttributesSelection((), None)
_DONE = Reply()
_NOT_FOUND = Reply(status=Status.NOT_FOUND, reason="no such attributes")
_NOT_SERVED = Reply(status=Status.BAD_REQUEST, reason="no such feature")


class DeviceLimits(Struct, frozen=True):
    """How much a device may send at once. How often is another matter (section 12).

    `getSessionLimits` tells the first two; `max_values` bounds the values of one message.
    """

    max_payload_bytes: int = 65536
    max_inflight: int = 100
    max_values: int = MOST_VALUES


class DeviceApi:
    """Telemetry and attributes on all three wires. The device is the session's or the token's."""

    def __init__(
        self,
        callers: Callers,
        traffic: Traffic,
        sessions: Sessions,
        renewals: Renewals[Settings],
        clock: Clock,
        limits: DeviceLimits,
    ) -> None:
        self._callers = callers
        self._traffic = traffic
        self._sessions = sessions
        self._renewals = renewals
        self._clock = clock
        self._max_values = limits.max_values

    # ── where it is found ───────────────────────────────────────────────────────────────────

    def routes(self) -> tuple[Route, ...]:
        """HTTP and CoAP."""
        return (
            Route(
                name="thingsboard.telemetry",
                handler=self.telemetry,
                http=("POST /api/v1/{token}/telemetry", "POST /api/v1/telemetry"),
                coap=("POST /api/v1/{token}/telemetry", "POST /api/v1/telemetry"),
                http_codes=LIMITED_500,
                coap_codes=CREATED,
                quiet=True,
                operation=operations.TELEMETRY,
            ),
            Route(
                name="thingsboard.attributes.post",
                handler=self.post_attributes,
                http=("POST /api/v1/{token}/attributes", "POST /api/v1/attributes"),
                coap=("POST /api/v1/{token}/attributes", "POST /api/v1/attributes"),
                http_codes=LIMITED_500,
                coap_codes=CREATED,
                quiet=True,
                operation=operations.POST_ATTRIBUTES,
            ),
            Route(
                name="thingsboard.attributes.get",
                handler=self.get_attributes,
                http=("GET /api/v1/{token}/attributes", "GET /api/v1/attributes"),
                quiet=True,
                operation=operations.GET_ATTRIBUTES,
            ),
            Route(
                name="thingsboard.attributes.poll",
                handler=self.poll_attributes,
                http=("GET /api/v1/{token}/attributes/updates", "GET /api/v1/attributes/updates"),
                quiet=True,
                patient=True,
                operation=operations.POLL_ATTRIBUTES,
            ),
            Route(
                name="thingsboard.attributes.get.coap",
                handler=self.get_or_observe_attributes,
                coap=("GET /api/v1/{token}/attributes", "GET /api/v1/attributes"),
                quiet=True,
            ),
            Route(
                name="thingsboard.unknown",
                handler=self.unknown_feature,
                coap=tuple(
                    f"{method} /api/v1{rest}"
                    for method in ("GET", "POST")
                    for rest in ("/{token}/{rest*}", "")
                ),
            ),
        )

    def mqtt_routes(self, voice: Voice) -> tuple[Route, ...]:
        """The topics of one family."""
        name, topics = voice.family.name, voice.family
        return (
            Route(
                name=f"thingsboard.telemetry.{name}",
                handler=partial(self.telemetry, codec=voice.up),
                mqtt=(voice.telemetry,),
                quiet=True,
            ),
            Route(
                name=f"thingsboard.attributes.post.{name}",
                handler=partial(self.post_attributes, codec=voice.up),
                mqtt=(voice.attributes,),
                quiet=True,
            ),
            Route(
                name=f"thingsboard.attributes.request.{name}",
                handler=partial(self.request_attributes, voice=voice),
                mqtt=(topics.attributes_request + "{id}",),
                mqtt_reply=topics.attributes_response + "{id}",
                quiet=True,
            ),
        )

    # ── what it says ────────────────────────────────────────────────────────────────────────

    async def telemetry(self, call: Call, codec: Codec | None = None) -> Reply:
        device = await self._callers.device(call)
        if isinstance(device, Reply):
            return device
        senml = senml_format(call)
        if senml is not None:
            readings = self._senml(call, senml)
        else:
            codec = codec or await self._callers.codec(call, device)
            readings = codec.telemetry(call.body, self._clock(), self._max_values)
        limited = await self._callers.limited(device, len(readings))
        if limited is not None:
            return limited
        await self._traffic.save_readings(device, readings)
        return _DONE

    def _senml(self, call: Call, number: int) -> list[Reading]:
        # Few devices speak it.
        from gateway.dialects.thingsboard.senml import decode_senml

        cbor = number == SENML_CBOR
        return decode_senml(call.body, self._clock(), max_values=self._max_values, cbor=cbor)

    async def post_attributes(self, call: Call, codec: Codec | None = None) -> Reply:
        device = await self._callers.device(call)
        if isinstance(device, Reply):
            return device
        codec = codec or await self._callers.codec(call, device)
        values = codec.attributes(call.body, self._max_values)
        limited = await self._callers.limited(device, len(values))
        if limited is not None:
            return limited
        await self._traffic.save_client_attributes(device, values)
        return _DONE

    async def unknown_feature(self, call: Call) -> Reply:
        if call.identity is not None:
            call = structs.replace(call, params=NOTHING)  # its path begins with a feature
        device = await self._callers.device(call)
        return device if isinstance(device, Reply) else _NOT_SERVED

    # ── what it asks for ────────────────────────────────────────────────────────────────────

    async def request_attributes(self, call: Call, voice: Voice) -> Reply:
        """On MQTT, answered on the family of the request."""
        number = request_id(call)
        selection = voice.up.attributes_request(call.body)
        found = await self._attributes(call, selection)
        if isinstance(found, Reply):
            return found
        return Reply(voice.down.attributes_response(number, found), format=voice.down.format)

    async def get_attributes(self, call: Call) -> Reply:
        """Over HTTP `{}` when there are none."""
        found = await self._attributes(call, selection_from_query(call.query))
        if isinstance(found, Reply):
            return found
        codec = codec_for_answer(call, JSON)
        return Reply(codec.attributes_response(0, found), format=codec.format)

    async def get_or_observe_attributes(self, call: Call) -> Reply:
        """Over CoAP 4.04 when there are none; an observation begins with `{}` then (section 10)."""
        device = await self._admitted(call)
        if isinstance(device, Reply):
            return device
        codec = codec_for_answer(call, await self._callers.codec(call, device))
        if call.observer is not None:
            return await self._observe(call, call.observer, device, codec)
        found = await self._traffic.attributes(device, selection_from_query(call.query))
        if not found.client and not found.shared:
            return _NOT_FOUND
        return Reply(codec.attributes_response(0, found), format=codec.format)

    async def _observe(self, call: Call, observer: Observer, device: Device, codec: Codec) -> Reply:
        """Answer with the shared attributes as they are, then each change."""
        observation = Observation(observer, device, codec, self._renewals, self._sessions)
        # Opened before the attributes are read, so that no change is lost in between.
        session = self._sessions.open(
            device, call.peer, observation, slot=Slot.OBSERVED_ATTRIBUTES, wants_attributes=True
        )
        try:
            found = await self._traffic.attributes(device, _ALL_SHARED)
            body = codec.attributes_update(AttributesChange(found.shared))
        except BaseException:
            self._sessions.close(session)
            raise
        asyncio.get_running_loop().call_soon(observation.release)
        return Reply(body, format=codec.format, on_end=partial(self._sessions.close, session))

    async def poll_attributes(self, call: Call) -> Reply:
        """The next change, over HTTP (section 11)."""
        device = await self._admitted(call)
        if isinstance(device, Reply):
            return device
        poll = Poll()
        timeout_s = poll_timeout_s(call.query)
        session = self._sessions.open(
            device, call.peer, poll, slot=Slot.POLL, wants_attributes=True
        )
        try:
            came = await poll.wait(timeout_s)
        finally:
            self._sessions.close(session)
        if isinstance(came, AttributesChange):
            codec = codec_for_answer(call, JSON)
            return Reply(codec.attributes_update(came), format=codec.format)
        assert isinstance(came, Reply), "a poll that wants no calls is given none"
        return came

    async def _attributes(self, call: Call, selection: AttributesSelection) -> Attributes | Reply:
        device = await self._admitted(call)
        if isinstance(device, Reply):
            return device
        return await self._traffic.attributes(device, selection)

    async def _admitted(self, call: Call) -> Device | Reply:
        """Who asks, once the question is counted."""
        device = await self._callers.device(call)
        if isinstance(device, Reply):
            return device
        return await self._callers.limited(device) or device
