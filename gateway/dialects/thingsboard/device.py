"""What a provisioned device says: telemetry, attributes, session limits (contract, 8, 10 to 13)."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from gateway.core.access import Access
from gateway.core.model import AttributesSelection, Device, ProfileTransport, Secret, Wire
from gateway.core.ports import Clock
from gateway.core.traffic import Traffic
from gateway.dialects.thingsboard.readings import (
    MOST_VALUES,
    decode_attributes,
    decode_attributes_request,
    decode_telemetry,
    encode_attributes,
    selection_from_query,
)
from gateway.wire.call import BadPayload, Call, Format, Reply, Status
from gateway.wire.route import Route

DEVICE_FILTERS = frozenset(
    {
        "v1/devices/me/attributes",
        "v1/devices/me/attributes/response/+",
        "v1/devices/me/rpc/request/+",
        "v1/devices/me/rpc/response/+",
        "v2/fw/response/+/chunk/+",
        "v2/fw/error",
        "v2/sw/response/+/chunk/+",
        "v2/sw/error",
    }
)
"""The filters of section 8, exactly; `v2/fw/response/+`, which the SDK tries, is not among them."""

GATEWAY_FILTERS = DEVICE_FILTERS | {
    "v1/gateway/attributes",
    "v1/gateway/attributes/response",
    "v1/gateway/rpc",
}

_DONE = Reply()
_UNAUTHENTICATED = Reply(status=Status.UNAUTHENTICATED, reason="unknown token")
_NOT_SERVED = Reply(status=Status.BAD_REQUEST, reason="no such feature")
_OTHER_TRANSPORT = Reply(status=Status.INTERNAL, reason="the profile is for another transport")


class DeviceLimits(Struct, frozen=True):
    """How much a device may send. Rates are unlimited.

    `getSessionLimits` tells the first two; `max_values` bounds the values of one message.
    """

    max_payload_bytes: int = 65536
    max_inflight: int = 100
    max_values: int = MOST_VALUES


class _RpcRequest(Struct):
    method: str
    params: msgspec.Raw = msgspec.Raw()


class DeviceApi:
    """Device traffic of all three wires. The device is the session's (MQTT) or the token's."""

    def __init__(
        self, access: Access, traffic: Traffic, clock: Clock, limits: DeviceLimits
    ) -> None:
        self._access = access
        self._traffic = traffic
        self._clock = clock
        self._limits = limits

    def routes(self) -> tuple[Route, ...]:
        created = {Status.OK: 201}
        return (
            Route(
                name="thingsboard.telemetry",
                handler=self.telemetry,
                http=("POST /api/v1/{token}/telemetry",),
                coap=("POST /api/v1/{token}/telemetry", "POST /api/v1/telemetry"),
                mqtt=("v1/devices/me/telemetry",),
                coap_codes=created,
                quiet=True,
            ),
            Route(
                name="thingsboard.attributes.post",
                handler=self.post_attributes,
                http=("POST /api/v1/{token}/attributes",),
                coap=("POST /api/v1/{token}/attributes", "POST /api/v1/attributes"),
                mqtt=("v1/devices/me/attributes",),
                coap_codes=created,
                quiet=True,
            ),
            Route(
                name="thingsboard.attributes.get",
                handler=self.get_attributes,
                http=("GET /api/v1/{token}/attributes",),
                quiet=True,
            ),
            Route(
                name="thingsboard.attributes.get.coap",
                handler=self.get_attributes_or_not_found,
                coap=("GET /api/v1/{token}/attributes", "GET /api/v1/attributes"),
                quiet=True,
            ),
            Route(
                name="thingsboard.attributes.request",
                handler=self.request_attributes,
                mqtt=("v1/devices/me/attributes/request/{id}",),
                mqtt_reply="v1/devices/me/attributes/response/{id}",
                quiet=True,
            ),
            Route(
                name="thingsboard.rpc.client",
                handler=self.client_rpc,
                mqtt=("v1/devices/me/rpc/request/{id}",),
                mqtt_reply="v1/devices/me/rpc/response/{id}",
                quiet=True,
            ),
            Route(
                name="thingsboard.unknown",
                handler=self.unknown_feature,
                coap=("GET /api/v1/{token}/{rest*}", "POST /api/v1/{token}/{rest*}"),
            ),
        )

    async def telemetry(self, call: Call) -> Reply:
        device = await self._device(call)
        if isinstance(device, Reply):
            return device
        readings = decode_telemetry(call.body, self._clock(), max_values=self._limits.max_values)
        await self._traffic.save_readings(device, readings)
        return _DONE

    async def post_attributes(self, call: Call) -> Reply:
        device = await self._device(call)
        if isinstance(device, Reply):
            return device
        values = decode_attributes(call.body, max_values=self._limits.max_values)
        await self._traffic.save_client_attributes(device, values)
        return _DONE

    async def get_attributes(self, call: Call) -> Reply:
        return await self._attributes(call, selection_from_query(call.query))

    async def get_attributes_or_not_found(self, call: Call) -> Reply:
        """CoAP answers 4.04 when nothing was found (contract, section 10)."""
        reply = await self._attributes(call, selection_from_query(call.query))
        if reply.status is Status.OK and reply.body == b"{}":
            return Reply(status=Status.NOT_FOUND, reason="no such attributes")
        return reply

    async def request_attributes(self, call: Call) -> Reply:
        _check_request_id(call)
        return await self._attributes(call, decode_attributes_request(call.body))

    async def client_rpc(self, call: Call) -> Reply:
        """`getSessionLimits` is answered here; the SDK and the IoT gateway wait for it."""
        _check_request_id(call)
        device = await self._device(call)
        if isinstance(device, Reply):
            return device
        try:
            asked = msgspec.json.decode(call.body, type=_RpcRequest)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise BadPayload("an RPC needs a JSON object with a method") from None
        if asked.method == "getSessionLimits":
            return Reply(self._session_limits(device), format=Format.JSON)
        return Reply(b'{"error":"no such method"}', format=Format.JSON)

    async def unknown_feature(self, call: Call) -> Reply:
        device = await self._device(call)
        return device if isinstance(device, Reply) else _NOT_SERVED

    def _session_limits(self, device: Device) -> bytes:
        rates = {"messages": None, "telemetryMessages": None, "telemetryDataPoints": None}
        told: dict[str, object] = {
            "maxPayloadSize": self._limits.max_payload_bytes,
            "maxInflightMessages": self._limits.max_inflight,
            "rateLimits": rates,
        }
        if device.gateway:
            told["gatewayRateLimits"] = rates
        return msgspec.json.encode(told)

    async def _attributes(self, call: Call, selection: AttributesSelection) -> Reply:
        device = await self._device(call)
        if isinstance(device, Reply):
            return device
        found = await self._traffic.attributes(device, selection)
        return Reply(encode_attributes(found), format=Format.JSON)

    async def _device(self, call: Call) -> Device | Reply:
        """Who calls: the session's device, or the token's; a reply when nobody we know."""
        if call.device is not None:
            return call.device
        token = call.params.get("token")
        device = await self._access.by_token(Secret(token)) if token else None
        if device is None:
            return _UNAUTHENTICATED
        if call.peer.wire is Wire.COAP and device.transport is ProfileTransport.MQTT:
            return _OTHER_TRANSPORT  # HTTP never checks this (contract, section 7.3)
        return device


def _check_request_id(call: Call) -> None:
    """Raises `BadPayload` unless the requester's topic ends in a decimal integer."""
    text = call.params["id"]
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise BadPayload("the request id in the topic must be a whole number")
