"""Calls of methods, both ways: a device's on us, and ours on it (contract, sections 8, 10, 11)."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

import msgspec

from gateway.core.limits import Limits, RateLimiter
from gateway.core.methods import TIMED_OUT, Methods
from gateway.core.model import Device, Wire
from gateway.core.renewals import Renewals
from gateway.core.rpc import Rpc
from gateway.core.sessions import Session, Sessions, Slot
from gateway.dialects.thingsboard import operations
from gateway.dialects.thingsboard.callers import Callers, Settings
from gateway.dialects.thingsboard.codecs import JSON, Codec, check_json
from gateway.dialects.thingsboard.device import LIMITED_500, DeviceLimits
from gateway.dialects.thingsboard.formats import codec_for_answer
from gateway.dialects.thingsboard.topics import V1, Voice, request_id
from gateway.dialects.thingsboard.watches import Called, Observation, Poll, poll_timeout_s
from gateway.wire.call import BadPayload, Call, Reply, Status
from gateway.wire.route import Route

CLIENT_TIMEOUT_S: Final = 60.0
"""How long a device's call may take over MQTT and HTTP (section 1)."""
COAP_TIMEOUT_S: Final = 10.0
"""The same over CoAP (section 10)."""

_SESSION_LIMITS = "getSessionLimits"
_NO_PARAMS = "null"
_DONE = Reply()
_LATE = Reply(status=Status.TIMEOUT, reason="no answer to the call in time")
_OBSERVE_IT = Reply(status=Status.BAD_REQUEST, reason="calls are to be observed")
_NOT_AN_OBJECT = {Status.UNDECODABLE: 500}
"""RPC bodies that are no JSON object are 5.00 over CoAP (section 10)."""


class RpcApi:
    """Client RPC goes to `Methods`, answers to server RPC to `Rpc`."""

    def __init__(
        self,
        callers: Callers,
        rpc: Rpc,
        methods: Methods,
        sessions: Sessions,
        renewals: Renewals[Settings],
        limiter: RateLimiter,
        limits: DeviceLimits,
        *,
        client_timeout_s: float = CLIENT_TIMEOUT_S,
        coap_timeout_s: float = COAP_TIMEOUT_S,
    ) -> None:
        self._callers = callers
        self._rpc = rpc
        self._methods = methods
        self._sessions = sessions
        self._renewals = renewals
        self._limiter = limiter
        self._limits = limits
        self._client_timeout_s = client_timeout_s
        self._coap_timeout_s = coap_timeout_s

    # ── where it is found ───────────────────────────────────────────────────────────────────

    def routes(self) -> tuple[Route, ...]:
        """HTTP and CoAP."""
        return (
            Route(
                name="thingsboard.rpc.client",
                handler=self.client_call,
                http=("POST /api/v1/{token}/rpc", "POST /api/v1/rpc"),
                coap=("POST /api/v1/{token}/rpc", "POST /api/v1/rpc"),
                coap_codes={Status.OK: 205, **_NOT_AN_OBJECT},
                quiet=True,
                patient=True,
                operation=operations.CLIENT_CALL,
            ),
            Route(
                name="thingsboard.rpc.answer",
                handler=self.answer,
                http=("POST /api/v1/{token}/rpc/{id}", "POST /api/v1/rpc/{id}"),
                coap=("POST /api/v1/{token}/rpc/{id}", "POST /api/v1/rpc/{id}"),
                http_codes=LIMITED_500,
                coap_codes={Status.OK: 201, **_NOT_AN_OBJECT, **LIMITED_500},
                quiet=True,
                operation=operations.ANSWER,
            ),
            Route(
                name="thingsboard.rpc.poll",
                handler=self.poll,
                http=("GET /api/v1/{token}/rpc", "GET /api/v1/rpc"),
                quiet=True,
                patient=True,
                operation=operations.POLL_CALLS,
            ),
            Route(
                name="thingsboard.rpc.observe",
                handler=self.observe,
                coap=("GET /api/v1/{token}/rpc", "GET /api/v1/rpc"),
                coap_codes={Status.OK: 203},
                quiet=True,
            ),
        )

    def mqtt_routes(self, voice: Voice) -> tuple[Route, ...]:
        """The topics of one family."""
        name, topics = voice.family.name, voice.family
        return (
            Route(
                name=f"thingsboard.rpc.client.{name}",
                handler=partial(self.client_publish, voice=voice),
                mqtt=(topics.rpc_request + "{id}",),
                mqtt_reply=topics.rpc_response + "{id}",
                quiet=True,
                patient=True,
            ),
            Route(
                name=f"thingsboard.rpc.answer.{name}",
                handler=partial(self.answer, codec=voice.up),
                mqtt=(topics.rpc_response + "{id}",),
                quiet=True,
            ),
        )

    # ── a device calls us ───────────────────────────────────────────────────────────────────

    async def client_publish(self, call: Call, voice: Voice) -> Reply:
        """On MQTT, where a call that takes too long is answered `{"error":"timeout"}`."""
        number = request_id(call)
        device = await self._callers.device(call)
        if isinstance(device, Reply):
            return device
        method, params = voice.up.client_rpc(call.body)
        if method == _SESSION_LIMITS and voice.family is V1:
            answer = await self._session_limits(device)
        else:
            limited = await self._callers.limited(device)
            if limited is not None:
                return limited
            if call.taken is not None:
                call.taken()  # the publish is dealt with; its answer may take a minute
            answer = (
                await self._methods.call(
                    device, method, params or _NO_PARAMS, self._client_timeout_s
                )
                or TIMED_OUT
            )
        body = voice.down.client_rpc_response(number, answer)
        return Reply(body, format=voice.down.format)

    async def client_call(self, call: Call) -> Reply:
        """Over HTTP and CoAP."""
        device = await self._callers.device(call)
        if isinstance(device, Reply):
            return device
        codec = await self._callers.codec(call, device)
        method, params = codec.client_rpc(call.body)
        timeout_s = self._coap_timeout_s
        if call.peer.wire.plain is Wire.HTTP:
            timeout_s = self._client_timeout_s
            if not params:
                raise BadPayload("params is missing")  # only HTTP insists (section 11)
        limited = await self._callers.limited(device)
        if limited is not None:
            return limited
        answer = await self._methods.call(device, method, params or _NO_PARAMS, timeout_s)
        if answer is None:
            return _LATE
        codec = codec_for_answer(call, codec)
        return Reply(codec.client_rpc_response(0, answer), format=codec.format)

    async def _session_limits(self, device: Device) -> bytes:
        """What the SDK and the IoT Gateway ask for before anything else (section 8)."""
        own = (await self._callers.settings(device)).limits
        told: dict[str, object] = {
            "maxPayloadSize": self._limits.max_payload_bytes,
            "maxInflightMessages": self._limits.max_inflight,
            "rateLimits": _told(own),
        }
        if device.gateway:
            told["gatewayRateLimits"] = _told(self._limiter.gateway_devices)
        return msgspec.json.encode(told)

    # ── we call a device ────────────────────────────────────────────────────────────────────

    async def answer(self, call: Call, codec: Codec | None = None) -> Reply:
        """The device's answer. One that nobody waits for (any more) is taken all the same."""
        number = request_id(call)
        device = await self._callers.device(call)
        if isinstance(device, Reply):
            return device
        if codec is None:
            codec = await self._callers.codec(call, device)
            if codec is JSON:
                check_json(call.body, an_object=call.peer.wire.plain is Wire.COAP)
        text = codec.rpc_answer(call.body)
        limited = await self._callers.limited(device)
        if limited is not None:
            return limited
        await self._rpc.answered(device, number, text)
        return _DONE

    async def poll(self, call: Call) -> Reply:
        """The next call, over HTTP."""
        device = await self._admitted(call)
        if isinstance(device, Reply):
            return device
        poll = Poll()
        timeout_s = poll_timeout_s(call.query)
        session = self._sessions.open(device, call.peer, poll, slot=Slot.POLL, wants_calls=True)
        try:
            self._rpc.offer_soon(session)
            came = await poll.wait(timeout_s)
        finally:
            self._sessions.close(session)
        if isinstance(came, Called):
            came.delivered()
            codec = codec_for_answer(call, JSON)
            body = codec.rpc_request(came.request_id, came.call, with_id=True)
            return Reply(body, format=codec.format)
        assert isinstance(came, Reply), "a poll that wants no attributes is given none"
        return came

    async def observe(self, call: Call) -> Reply:
        """All calls from now on, over CoAP; those that waited for the device come first."""
        device = await self._admitted(call)
        if isinstance(device, Reply):
            return device
        if call.observer is None:
            return _OBSERVE_IT
        codec = codec_for_answer(call, await self._callers.codec(call, device))
        observation = Observation(call.observer, device, codec, self._renewals, self._sessions)
        session = self._sessions.open(device, call.peer, observation, slot=Slot.OBSERVED_CALLS)
        asyncio.get_running_loop().call_soon(self._listen, session)
        return Reply(on_end=partial(self._sessions.close, session))

    def _listen(self, session: Session) -> None:
        """The registration is answered: calls may be sent."""
        session.wants_calls = True
        self._rpc.offer_soon(session)

    async def _admitted(self, call: Call) -> Device | Reply:
        """Who asks, once the question is counted."""
        device = await self._callers.device(call)
        if isinstance(device, Reply):
            return device
        return await self._callers.limited(device) or device


def _told(limits: Limits) -> dict[str, str | None]:
    """Rates by the names devices know them by; null is unlimited."""
    rates = {
        "messages": limits.messages,
        "telemetryMessages": limits.telemetry_messages,
        "telemetryDataPoints": limits.telemetry_points,
    }
    return {name: rate.text if rate is not None else None for name, rate in rates.items()}
